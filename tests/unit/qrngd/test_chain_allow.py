"""Who may have a feed on a chain: proven by a light client from what nodes answer, and by nobody's word."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.light_chain import CHAIN, LightChain, holds

from qrngd import chain_allow as module
from qrngd.chain_allow import ChainAllowList, open_chain
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.light.nodes import AskedNode
from qustream.light.registry import LightRegistry
from qustream.light.trust import Known, Trust
from qustream.model.network import NodeClass
from qustream.model.state import Licence, LicenceStatus, NodeEntry, Table
from qustream.wire.codec import decode, encode
from qustream.wire.light import LIGHT_ANSWER_MAX_BYTES, ListedNode, NodesListed, ProofsAsk

NODES = [SigningKey(bytes([number]) * 32) for number in range(1, 5)]
STRANGER = SigningKey(b"x" * 32)
T0 = 1_000_000


def licence_id(number: int) -> bytes:
    return bytes([number]) * 16


def licensed(number: int, *, is_active: bool = True) -> Licence:
    status, node = (LicenceStatus.ACTIVE, NODES[number].id) if is_active else (LicenceStatus.IDLE, None)
    return Licence(NodeClass.COMMUNITY, bytes(20), "", status, node, bytes(20), *[0] * 11)


class Told:
    """The nodes that are asked: what an honest one answers, or `says` instead; `asked`: how often."""

    def __init__(self, chain: LightChain) -> None:
        self.honest, self.asked, self.proofs = chain.node(), 0, 0
        self.trouble: QuStreamError | None = None
        self.invented: tuple[ListedNode, ...] = ()

    def __len__(self) -> int:
        return 1

    def ask(self, number: int, body: bytes) -> bytes:
        if self.trouble is not None:
            raise self.trouble
        self.asked += 1
        self.proofs += body[1] == ProofsAsk.__struct_config__.tag
        said = self.honest.ask(number, body)
        if self.invented and said[1] == NodesListed.__struct_config__.tag:
            told = decode(said, NodesListed, max_bytes=LIGHT_ANSWER_MAX_BYTES)
            if told.nodes:
                return encode(NodesListed(tuple(sorted((*told.nodes, *self.invented), key=lambda node: node.id))))
        return said


class Place:
    def __init__(self, only: frozenset[bytes] = frozenset()) -> None:
        self.chain = LightChain()
        for number, node in enumerate(NODES):
            self.chain.put(Table.NODE, node.id, NodeEntry(licence_id(number), node.public, (f"192.0.2.{number + 1}:7400",)))
            self.chain.put(Table.LICENCE, licence_id(number), licensed(number, is_active=number != 3))
        self.told = Told(self.chain)
        registry = LightRegistry(CHAIN, self.chain.pinned, self.told, verify=holds, clock_ms=lambda: self.chain.now_ms)
        self.allow = ChainAllowList(registry, only)

    def retire(self, number: int) -> None:
        self.chain.put(Table.LICENCE, licence_id(number), licensed(number, is_active=False))


def test_the_active_nodes_of_a_small_network_are_proven_before_they_come() -> None:
    place = Place()
    assert len(place.allow) == 0
    assert place.allow.refresh(T0)
    assert [node.id in place.allow for node in NODES] == [True, True, True, False]
    assert STRANGER.id not in place.allow
    assert (len(place.allow), place.allow.trouble, place.allow.source) == (3, None, "chain")
    assert place.allow.height > 0


def test_a_node_that_loses_its_licence_is_out_with_the_next_proof_and_one_that_gets_one_is_in() -> None:
    place = Place()
    place.allow.refresh(T0)
    place.retire(0)
    assert not place.allow.refresh(T0 + module.PROVE_MS - 1)
    assert NODES[0].id in place.allow
    assert place.allow.refresh(T0 + module.PROVE_MS)
    assert NODES[0].id not in place.allow
    place.chain.put(Table.LICENCE, licence_id(3), licensed(3))
    assert NODES[3].id not in place.allow
    assert place.allow.refresh(T0 + 2 * module.PROVE_MS)
    assert NODES[3].id in place.allow


def test_the_configurations_list_restricts_what_the_chain_allows() -> None:
    place = Place(frozenset({NODES[1].id, NODES[3].id, STRANGER.id}))
    place.allow.refresh(T0)
    assert [node.id in place.allow for node in (*NODES, STRANGER)] == [False, True, False, False, False]
    assert len(place.allow) == 1


def test_in_a_large_network_those_who_come_are_proven_and_keys_that_nobody_lists_cost_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE_MAX", 0)
    monkeypatch.setattr(module, "WANTED_MAX", 100)
    place = Place()
    place.allow.refresh(T0)
    assert (len(place.allow), place.told.proofs) == (0, 0)
    assert NODES[0].id not in place.allow
    assert place.allow.refresh(T0 + 1_000)
    assert NODES[0].id in place.allow
    asked, proofs = place.told.asked, place.told.proofs
    for number in range(1_000):
        assert number.to_bytes(32, "big") not in place.allow
        place.allow.refresh(T0 + 1_000 + number)
    assert place.told.proofs == proofs
    assert place.told.asked == asked, "nor a list, which was asked for a while ago"
    assert len(place.allow._wanted) <= 100
    assert STRANGER.id not in place.allow
    place.allow.refresh(T0 + module.LIST_AGAIN_MS)
    assert place.told.asked > asked, "it may be new"


def test_whoever_lists_what_is_not_so_is_not_believed() -> None:
    place = Place()
    place.told.invented = (ListedNode(STRANGER.id, NodeClass.COMMUNITY, "op", bytes(16), (), 0),)
    assert place.allow.refresh(T0)
    assert STRANGER.id not in place.allow
    assert len(place.allow) == 3


def test_when_nobody_can_be_asked_those_who_were_active_stay_and_the_operator_is_told() -> None:
    place = Place()
    place.allow.refresh(T0)
    place.told.trouble = fault("E-PEER-UNREACHABLE", "nobody answers")
    place.retire(0)
    assert not place.allow.refresh(T0 + module.PROVE_MS)
    assert place.allow.trouble is not None
    assert (NODES[0].id in place.allow, len(place.allow)) == (True, 3)
    asked = place.told.asked
    place.told.trouble = None
    assert not place.allow.refresh(T0 + module.PROVE_MS + 1), "nodes are let alone for a moment"
    assert place.told.asked == asked
    assert place.allow.refresh(T0 + module.PROVE_MS + module.AGAIN_MS)
    assert (place.allow.trouble, NODES[0].id in place.allow) == (None, False)


def test_what_was_learnt_of_the_chain_is_remembered(tmp_path: Path) -> None:
    chain = LightChain()
    asked = (AskedNode(bytes(32), "127.0.0.1:9"),)
    registry = open_chain(tmp_path, CHAIN, chain.pinned, asked, clock_ms=lambda: chain.now_ms)
    with pytest.raises(QuStreamError, match="E-PEER-UNREACHABLE"):
        registry.claimed()
    assert not (tmp_path / module.KNOWN_FILE).exists()
    trust = Trust(chain.pinned, verify=holds, now_ms=chain.now_ms)
    while (question := trust.question()) is not None:
        try:
            trust.take(question, chain.node().ask(0, encode(question)))
        except QuStreamError:
            trust.is_newest()
    (tmp_path / module.KNOWN_FILE).write_bytes(encode(trust.known))
    assert decode((tmp_path / module.KNOWN_FILE).read_bytes(), Known, max_bytes=module.KNOWN_MAX_BYTES) == trust.known
    again = open_chain(tmp_path, CHAIN, chain.pinned, asked, clock_ms=lambda: chain.now_ms)
    assert again._trust.rotation == trust.rotation > 1
