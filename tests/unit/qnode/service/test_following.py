"""Following rotations by asking nodes, of which some lie, know nothing, or are gone."""

from __future__ import annotations

import pytest
import support.light_chain
from msgspec.structs import replace
from support.light_chain import CHAIN, LightChain, holds

from qnode.service import following as module
from qnode.service.following import Following
from qustream.errors import QuStreamError, fault
from qustream.wire.light import HandOvers, SetTold

ROTATIONS = 6


class Place:
    """Nodes by name; `charged`: whom the follower found out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **nodes: support.light_chain.Told | str) -> None:
        monkeypatch.setattr(module, "verify_vote", holds)
        self.chain = LightChain(rotations=ROTATIONS)
        self.nodes = nodes
        self.charged: set[bytes] = set()

    async def ask(self, peer: bytes, body: bytes) -> bytes:
        node = self.nodes[peer.decode()]
        if isinstance(node, str):
            raise fault(node)
        return node.ask(0, body)

    def following(self, *, chain: str = CHAIN, later_ms: int = 0) -> Following:
        return Following(
            self.chain.pinned, chain, ask=self.ask, peers=lambda: [name.encode() for name in self.nodes],
            charge=lambda peer, _: self.charged.add(peer), clock_ms=lambda: self.chain.now_ms + later_ms,
        )  # fmt: skip

    async def require(self, following: Following, rotation: int = ROTATIONS, first: bytes = b"a") -> None:
        header = self.chain.header(rotation)
        await following.require((header,), self.chain.certify(header), first)


async def code(place: Place, following: Following, rotation: int = ROTATIONS) -> str:
    with pytest.raises(QuStreamError) as caught:
        await place.require(following, rotation)
    return caught.value.code


async def test_it_follows_to_the_present_rotation_whoever_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch, a="E-PEER-UNREACHABLE", b="E-NOT-HELD", c="E-NOT-HELD")
    place.nodes["d"] = place.chain.node()
    following = place.following()
    await place.require(following)
    assert following.rotation == ROTATIONS
    await place.require(following, ROTATIONS - 1)  # and what the set before has signed is true as well
    assert not place.charged


async def test_who_lies_is_charged_and_another_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch)
    place.nodes["a"] = place.chain.node(lambda _, told: replace(told, seed=b"\1" * 32) if isinstance(told, SetTold) else told)
    place.nodes["b"] = place.chain.node()
    await place.require(place.following())
    assert place.charged == {b"a"}


async def test_a_rotation_that_nobody_hands_over_to_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch)
    place.nodes["a"] = place.chain.node(lambda _, told: HandOvers(()) if isinstance(told, HandOvers) else told)
    assert await code(place, place.following()) == "E-CHAIN-STALE"
    assert not place.charged


async def test_what_no_quorum_has_signed_is_a_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch)
    place.nodes["a"] = place.chain.node()
    header = place.chain.header(ROTATIONS)
    with pytest.raises(QuStreamError, match="E-PROOF"):
        await place.following().require((header,), place.chain.certify(header, (0, 1)), b"a")
    other = replace(header, time_ms=1)
    with pytest.raises(QuStreamError, match="E-PROOF"):
        await place.following().require((other, header), place.chain.certify(header), b"a")


async def test_old_unknown_and_foreign_checkpoints_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch)
    place.nodes["a"] = place.chain.node()
    assert await code(place, place.following(later_ms=15 * 86_400_000)) == "E-CHECKPOINT-OLD"
    assert await code(place, place.following(chain="another")) == "E-CHAIN-STALE"
    place.nodes = {"a": "E-NOT-HELD", "b": "E-NOT-HELD"}
    assert await code(place, place.following()) == "E-CHAIN-STALE"
    assert not place.charged
