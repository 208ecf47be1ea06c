"""Who brings more than can be looked at does not take the place of all others."""

from __future__ import annotations

from support.gossip_node import ALICE, BOB, CAROL, DAVE, Node

from qnode.core import gossip_limits as limits
from qnode.core.gossip_checks import Checks
from qnode.core.gossip_events import Check, Judged, Verdict
from qustream.wire.gossip import GossipPush, Topic


def test_one_peer_has_its_part_and_all_together_have_what_there_is() -> None:
    checks, large = Checks(), 1 << 20
    assert [checks.take(ALICE, large) for _ in range(8)] == [True] * 7 + [False]
    assert all(checks.take(BOB, 1) for _ in range(limits.CHECKS_PEER_MAX))
    assert not checks.take(BOB, 1)
    assert all(checks.take(peer, large) for peer in (CAROL, DAVE) for _ in range(7))
    last = b"e" * 32
    assert [checks.take(last, large) for _ in range(3)] == [True, True, False]
    assert checks.take(last, 1)
    assert checks.held_bytes <= limits.CHECKS_BYTES_MAX
    checks.leave(ALICE, large)
    assert checks.take(ALICE, large)


def test_there_is_never_more_than_a_number() -> None:
    checks = Checks()
    peers = [bytes([number]) * 32 for number in range(9)]
    assert sum(checks.take(peer, 1) for peer in peers for _ in range(limits.CHECKS_PEER_MAX)) == len(checks) == limits.CHECKS_MAX


def test_who_brings_what_comes_to_nothing_has_less() -> None:
    checks = Checks()
    bundle = limits.TOPIC_LIMITS[Topic.TRANSACTION].body_max_bytes
    assert [checks.take(ALICE, bundle, is_trusted=False) for _ in range(9)] == [True] * 8 + [False]
    assert checks.take(ALICE, bundle), "it has brought something good"
    node = Node(ALICE)
    bodies = [number.to_bytes(2, "big") * 500 for number in range(600)]
    for body in bodies[: limits.HOLLOW_MAX]:
        [check] = [effect for effect in node.hears(ALICE, GossipPush(Topic.TRANSACTION, body)) if isinstance(effect, Check)]
        node.does(Judged(check.id, Verdict.USELESS))
    asked = [
        effect for body in bodies[16:] for effect in node.hears(ALICE, GossipPush(Topic.TRANSACTION, body)) if isinstance(effect, Check)
    ]
    assert sum(len(check.body) for check in asked) == limits.CHECKS_DOUBTED_BYTES_MAX // 1000 * 1000


def test_who_is_judged_leaves_nothing_behind() -> None:
    checks = Checks()
    for size in range(1, 9):
        assert checks.take(ALICE, size)
    for size in range(1, 9):
        checks.leave(ALICE, size)
    assert (len(checks), checks.held_bytes, checks._of) == (0, 0, {})


def test_a_flood_of_one_does_not_keep_another_from_being_heard() -> None:
    node = Node(ALICE, BOB)
    bodies = [number.to_bytes(4, "big") for number in range(limits.CHECKS_PEER_MAX + 9)]
    asked = [effect for body in bodies for effect in node.hears(ALICE, GossipPush(Topic.TRANSACTION, body)) if isinstance(effect, Check)]
    assert len(asked) == limits.CHECKS_PEER_MAX
    assert node.core.dropped == 9
    [check] = [effect for effect in node.hears(BOB, GossipPush(Topic.TRANSACTION, b"of use")) if isinstance(effect, Check)]
    assert check.peer == BOB
    node.does(Judged(asked[0].id, Verdict.USELESS))
    assert any(isinstance(effect, Check) for effect in node.hears(ALICE, GossipPush(Topic.TRANSACTION, bodies[-1])))
