"""Who may be served how much: asks at a time, pieces an hour, one probe."""

from __future__ import annotations

from qnode.core import bulk_limits as limits
from qnode.core.bulk_serve import BulkTurns

ALICE, BOB = b"a" * 32, b"b" * 32


def test_a_peer_has_so_many_asks_at_a_time() -> None:
    turns = BulkTurns()
    for _ in range(limits.SERVED_PEER_MAX_ASKS):
        assert turns.begin(ALICE, 4, 0) == 0
    assert turns.begin(ALICE, 4, 0) == limits.REST_MS
    assert turns.begin(BOB, 4, 0) == 0
    turns.end(ALICE)
    assert turns.begin(ALICE, 4, 0) == 0


def test_all_together_have_so_many() -> None:
    turns = BulkTurns()
    peers = [bytes([i]) * 32 for i in range(limits.SERVED_MAX_ASKS)]
    assert all(turns.begin(peer, 1, 0, is_link=True) == 0 for peer in peers)
    assert turns.begin(ALICE, 1, 0, is_link=True) == limits.REST_MS
    for peer in peers:
        turns.end(peer)
    assert turns.working == 0
    assert turns.begin(ALICE, 1, 0) == 0


def test_slow_readers_leave_room_for_a_link() -> None:
    turns = BulkTurns()
    bad = [bytes([i]) * 32 for i in range(8)]
    for peer in bad:
        for _ in range(limits.SERVED_PEER_MAX_ASKS):
            turns.begin(peer, 4, 0, is_link=peer in bad[:4])
    assert turns.working < limits.SERVED_MAX_ASKS
    assert turns.begin(BOB, 4, 0, is_link=True) == 0
    assert turns.begin(BOB, 4, 0, is_link=True) == limits.REST_MS
    assert turns.begin(ALICE, 4, 0) == limits.REST_MS


def test_a_peer_has_so_many_pieces_an_hour() -> None:
    turns = BulkTurns()
    for _ in range(limits.SERVED_PEER_PIECES // 4):
        assert turns.begin(ALICE, 4, 1000) == 0
        turns.end(ALICE)
    assert turns.begin(ALICE, 1, 61_000) == limits.HOUR_MS - 60_000
    assert turns.begin(BOB, 1, 61_000) == 0
    assert turns.begin(ALICE, 1, 1000 + limits.HOUR_MS) == 0


def test_a_refused_ask_costs_nothing() -> None:
    turns = BulkTurns()
    for _ in range(limits.SERVED_PEER_MAX_ASKS):
        turns.begin(ALICE, 4, 0)
    for _ in range(10_000):
        turns.begin(ALICE, 4, 0)
    turns.end(ALICE)
    assert turns.begin(ALICE, 4, 0) == 0


def test_manifests_are_counted_by_themselves() -> None:
    turns = BulkTurns()
    assert all(turns.manifest(ALICE, 5) == 0 for _ in range(limits.SERVED_PEER_MANIFESTS))
    assert turns.manifest(ALICE, 5) == limits.HOUR_MS
    assert turns.begin(ALICE, 4, 5) == 0


def test_so_many_peers_are_remembered() -> None:
    turns = BulkTurns()
    for number in range(limits.PEERS_MAX + 100):
        turns.manifest(number.to_bytes(32, "big"), 0)
    assert len(turns._uses) == limits.PEERS_MAX


def test_one_probe_at_a_time() -> None:
    turns = BulkTurns()
    assert turns.begin_probe(ALICE, 0, "alice") == 0
    assert turns.is_probing(ALICE, 10)
    assert not turns.is_probing(BOB, 10)
    assert turns.begin_probe(BOB, 100, "bob") == limits.PROBE_OVER_MS - 100
    turns.end_probe(BOB)  # not his
    assert turns.is_probing(ALICE, 100)
    turns.end_probe(ALICE)
    assert turns.begin_probe(BOB, 100, "bob") == 0
    assert not turns.is_probing(BOB, 100 + limits.PROBE_OVER_MS)
    assert turns.begin_probe(ALICE, 100 + limits.PROBE_OVER_MS, "alice") == 0  # whoever stays away holds nobody up


def test_a_few_probes_a_peer_and_a_number_for_all() -> None:
    turns = BulkTurns()

    def probe(peer: bytes, now_ms: int) -> int:
        wait_ms = turns.begin_probe(peer, now_ms, peer.hex())
        turns.end_probe(peer)
        return wait_ms

    assert [probe(ALICE, 0) for _ in range(limits.PROBES_PEER + 1)] == [0] * limits.PROBES_PEER + [limits.HOUR_MS]
    granted = sum(probe(number.to_bytes(32, "big"), 1) == 0 for number in range(200))
    assert granted == limits.PROBES_ALL - limits.PROBES_PEER
    assert probe(BOB, limits.HOUR_MS) == 0


def test_the_nodes_of_one_operator_leave_probes_to_others() -> None:
    turns = BulkTurns()

    def probe(peer: bytes, operator: str) -> int:
        wait_ms = turns.begin_probe(peer, 5, operator)
        turns.end_probe(peer)
        return wait_ms

    nodes = [bytes([number]) * 32 for number in range(limits.PROBES_ALL // limits.PROBES_PEER)]
    granted = sum(probe(node, "one") == 0 for node in nodes for _ in range(limits.PROBES_PEER))
    assert granted == limits.PROBES_OPERATOR
    assert probe(nodes[-1], "one") == limits.HOUR_MS
    assert probe(BOB, "another") == 0
