"""Whom a node can ask: links, and strangers' ways while it has none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing
from support.ledger_world import genesis

from qnode.service import asked as module
from qnode.service.asked import Asked, addresses_of, vouched


class Peers:
    """As much of a `PeerService`."""

    def __init__(self) -> None:
        self.links: dict[bytes, Any] = {}
        self.known = SimpleNamespace(own=None)
        self.beside: dict[bytes, list[Any]] = {}
        self.hub = SimpleNamespace(link_to=self.links.get, sessions_with=self._sessions_with)
        self.misled: list[bytes] = []
        self.gossip = SimpleNamespace(misled=self.misled.append)

    def _sessions_with(self, peer: bytes) -> list[Any]:
        return [*([self.links[peer]] if peer in self.links else []), *self.beside.get(peer, [])]

    def link(self, peer: bytes) -> None:
        self.links[peer] = self._session(peer)
        self.hub.links = self.links.values()

    def another(self, peer: bytes) -> None:
        self.beside.setdefault(peer, []).append(self._session(peer))

    def _session(self, peer: bytes) -> Any:
        closed: list[str] = []
        return SimpleNamespace(peer=peer, connection=SimpleNamespace(close_soon=lambda code, _: closed.append(code)), closed=closed)

    async def call(self, _peer: bytes, body: bytes, _deadline_ms: int, *, max_answer_bytes: int) -> bytes:
        return b"link: " + body[:max_answer_bytes]


class Outside:
    def __init__(self, *nodes: bytes) -> None:
        self.nodes, self.is_open, self.dropped = nodes, bool(nodes), list[bytes]()

    async def call(self, _node: bytes, body: bytes, _deadline_ms: int, *, max_answer_bytes: int) -> bytes:
        return b"stranger: " + body[:max_answer_bytes]

    def drop(self, node: bytes) -> None:
        self.dropped.append(node)


def made(*nodes: bytes) -> tuple[Asked, Peers, Outside]:
    peers, outside = Peers(), Outside(*nodes)
    peers.hub.links = peers.links.values()
    asked = Asked(peers)  # type: ignore[arg-type]
    asked.outside = outside  # type: ignore[assignment]
    return asked, peers, outside


async def test_a_link_is_asked_as_one_and_all_others_as_by_a_stranger() -> None:
    asked, peers, _ = made(b"a", b"b")
    peers.link(b"b")
    peers.link(b"c")
    assert asked.sources() == {b"a": "stranger", b"b": "link", b"c": "link"}
    assert asked.counts() == {"link": 2, "stranger": 1}
    assert await asked.call(b"a", b"?", 1, max_answer_bytes=9) == b"stranger: ?"
    assert await asked.call(b"b", b"?", 1, max_answer_bytes=9) == b"link: ?"
    asked.outside = None
    assert asked.counts() == {"link": 2, "stranger": 0}
    assert await asked.call(b"z", b"?", 1, max_answer_bytes=9) == b"link: ?"  # which says that it is none


async def test_who_lied_loses_what_there_is_between_us() -> None:
    asked, peers, outside = made(b"a")
    peers.link(b"b")
    asked.charge(b"a", "not true")
    asked.charge(b"b", "not true")
    assert outside.dropped == [b"a", b"b"]
    assert peers.misled == [b"b"]
    assert peers.links[b"b"].closed == ["E-ANSWER-INVALID"]


async def test_who_lied_while_another_link_was_about_to_come_loses_both() -> None:
    """Both had dialled; the old link is given up in a moment, and the new one is not accepted yet."""
    asked, peers, _ = made()
    peers.link(b"b")
    peers.another(b"b")
    peers.another(b"c")
    asked.charge(b"b", "not true")
    assert [each.closed for each in (peers.links[b"b"], *peers.beside[b"b"])] == [["E-ANSWER-INVALID"]] * 2
    asked.charge(b"c", "not true")
    assert peers.beside[b"c"][0].closed == ["E-ANSWER-INVALID"]
    assert peers.misled == [b"b"]


async def test_strangers_ways_are_taken_while_there_is_no_licence_and_when_links_are_gone(autojump_clock: trio.testing.MockClock) -> None:
    asked, peers, outside = made()
    assert asked.is_outside_wanted(), "no licence, no link"
    outside.is_open = True
    peers.link(b"a")
    assert asked.is_outside_wanted(), "others know of a licence that is not known here: what they say of it has to come first"
    peers.known.own = object()
    assert not asked.is_outside_wanted()
    outside.is_open = False
    peers.links.clear()
    assert not asked.is_outside_wanted()
    await trio.sleep(module.LONELY_S - 1)
    assert not asked.is_outside_wanted(), "it has just lost its links"
    await trio.sleep(1)
    assert asked.is_outside_wanted(), "it may have been struck off in a block that it has not heard of"
    peers.known.own = None
    assert asked.is_outside_wanted()
    outside.is_open = True
    peers.known.own = object()
    assert asked.is_outside_wanted(), "until the first link stands"
    peers.link(b"a")
    assert not asked.is_outside_wanted()


async def test_a_licensed_node_that_starts_has_time_to_be_linked(autojump_clock: trio.testing.MockClock) -> None:
    asked, peers, _ = made()
    peers.known.own = object()
    assert not asked.is_outside_wanted()
    await trio.sleep(module.LONELY_S)
    assert asked.is_outside_wanted()


def test_genesis_and_the_configuration_vouch_for_addresses() -> None:
    begun = genesis(validators=2, nodes=1, idle=2)
    where = addresses_of(begun)
    assert len(where) == 3
    first = next(iter(where))
    both = vouched({first: ("192.0.2.1:7400",), b"n" * 32: ("192.0.2.2:7400",)}, begun)
    assert both[first] == ("192.0.2.1:7400", *where[first])
    assert both[b"n" * 32] == ("192.0.2.2:7400",)
    assert len(both) == 4
