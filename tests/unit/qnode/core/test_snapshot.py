"""Getting a state from others, decision by decision; whole histories are in tests/sim."""

from __future__ import annotations

import random

import pytest
from sim.snapshot_world import CHAIN, State

from qnode.core import snapshot_events as events
from qnode.core import snapshot_limits as limits
from qnode.core.snapshot import Snapshot, Stage, step
from qnode.core.snapshot_events import Verdict
from qustream.wire.snapshot import NEWEST, ChunkAsk, ChunkTold, SnapshotAsk, SnapshotTold

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


@pytest.fixture(scope="module")
def state() -> State:
    return next(found for seed in range(50) if len((found := State(random.Random(seed), 100)).plan.nodes) > 5)


class Node:
    """A core, and what it wants."""

    def __init__(self, *peers: bytes) -> None:
        self.core = Snapshot(CHAIN)
        self.now_ms = 0
        self.asks: dict[bytes, list[events.Ask]] = {}
        self.others: list[events.Effect] = []
        for peer in peers:
            self(events.PeerFound(peer))

    def __call__(self, event: events.Event, after_ms: int = 0) -> None:
        self.now_ms += after_ms
        for effect in step(self.core, event, self.now_ms):
            if isinstance(effect, events.Ask):
                self.asks.setdefault(effect.peer, []).append(effect)
            else:
                self.others.append(effect)

    def tick(self, after_ms: int) -> None:
        self(events.Ticked(7), after_ms)

    def asked(self, peer: bytes) -> events.Ask:
        return self.asks[peer].pop(0)

    def told(self, peer: bytes, state: State, first: int = 0, count: int = 3) -> None:
        ask = self.asked(peer)
        nodes = state.plan.nodes
        offer = None if first else state.offer
        self(events.PlanCame(peer, ask.ask, SnapshotTold(state.root, offer, len(nodes), nodes[first : first + count])))

    def taking(self, state: State, peer: bytes = A) -> None:
        """All the way to the chunks."""
        self.told(peer, state, count=len(state.plan.nodes))
        self.tick(limits.OFFERS_MS)
        self(events.Checked(peer, Verdict.TRUE))
        assert isinstance(self.others[-1], events.Begin)
        self(events.Began(True))
        assert self.others[-1] == events.Look(limits.WINDOW)


def test_a_few_are_asked_and_the_state_that_most_have_is_looked_at(state: State) -> None:
    node = Node(*(bytes([number]) * 32 for number in range(1, 8)))
    assert len(node.asks) == limits.OFFERS_MAX
    other = State(random.Random(99), 300)
    first, second, third = list(node.asks)[:3]
    for peer, what in ((first, other), (second, state), (third, state)):
        assert node.asks[peer][0].message == SnapshotAsk(NEWEST, 0)
        node.told(peer, what)
    assert not node.others  # one has not answered yet
    node.tick(limits.OFFERS_MS)
    check = node.others[-1]
    assert isinstance(check, events.Check)
    assert check.root == state.root
    assert check.peer in (second, third)


def test_a_plan_is_asked_for_of_whom_it_is_and_then_begun(state: State) -> None:
    node = Node(A)
    node.told(A, state)
    assert isinstance(node.others[-1], events.Check)
    node(events.Checked(A, Verdict.TRUE))
    at = 3
    while at < len(state.plan.nodes):
        assert node.asks[A][0].message == SnapshotAsk(state.root, at)
        node.told(A, state, at)
        at += 3
    begin = node.others[-1]
    assert isinstance(begin, events.Begin)
    assert (begin.root, begin.plan) == (state.root, state.plan)


def test_an_offer_that_cannot_be_told_is_asked_for_again_and_a_lie_is_not(state: State) -> None:
    node = Node(A)
    node.told(A, state)
    node(events.Checked(A, Verdict.UNKNOWN))
    assert not node.asks[A]
    node.tick(limits.REST_MS)
    node.told(A, state)
    node(events.Checked(A, Verdict.LIE))
    assert isinstance(node.others[-1], events.Charge)
    node.tick(limits.REST_MAX_MS)
    assert not node.asks[A]


def test_chunks_are_asked_of_all_and_late_ones_of_a_second(state: State) -> None:
    node = Node(A)
    node.taking(state)
    node(events.PeerFound(B))
    node(events.Missing((b"\1", b"\2")))
    assert node.core.stage is Stage.CHUNKS
    asked = {peer: [ask.message for ask in node.asks[peer]] for peer in (A, B)}
    assert sorted(message.prefix for each in asked.values() for message in each if isinstance(message, ChunkAsk)) == [b"\1", b"\2"]
    assert all(len(each) == 1 for each in asked.values())
    node.tick(limits.CHUNK_MS)
    assert all(len(node.asks[peer]) == 2 for peer in (A, B))
    # The first to come is taken, the other forgotten.
    first = node.asked(A)
    assert isinstance(first.message, ChunkAsk)
    node(events.ChunkCame(A, first.ask, ChunkTold(())))
    assert isinstance(node.others[-1], events.Take)
    node(events.Taken(A, first.message.prefix, Verdict.TRUE))
    assert node.core.taken == 1


def test_a_forged_chunk_is_charged_and_asked_of_another(state: State) -> None:
    node = Node(A)
    node.taking(state)
    node(events.Missing((b"\1",)))
    ask = node.asked(A)
    node(events.ChunkCame(A, ask.ask, ChunkTold(())))
    node(events.Taken(A, b"\1", Verdict.LIE))
    assert isinstance(node.others[-1], events.Charge)
    node(events.PeerFound(B))
    assert node.asked(B).message == ChunkAsk(state.root, b"\1")


def test_what_nobody_has_any_more_is_given_up_for_a_newer(state: State) -> None:
    node = Node(A, B)
    node.taking(state)
    node.asks.clear()
    node(events.Missing((b"\1",)))
    for _ in range(2):
        peer = next(peer for peer, asks in node.asks.items() if asks)
        node(events.Refused(peer, node.asked(peer).ask, has_not=True))
    assert node.core.stage is Stage.OFFERS  # at once: there is nobody else to ask
    node.tick(limits.REST_MAX_MS)
    assert {asks[0].message for asks in node.asks.values() if asks} == {SnapshotAsk(NEWEST, 0)}


def test_what_nobody_gives_is_given_up_though_all_come_and_go(state: State) -> None:
    """Links that stand for a second and are away for another: the time without them does not count, and takes nothing back."""
    node = Node(A)
    node.taking(state)
    node(events.Missing((b"\1",)))
    node(events.Refused(A, node.asked(A).ask))
    lived_ms = 0
    while node.core.stage is Stage.CHUNKS:
        node.tick(1_000)
        lived_ms += 1_000
        if node.asks[A]:
            node(events.Refused(A, node.asked(A).ask))
        node(events.PeerLost(A))
        node.tick(1_000)
        node(events.PeerFound(A))
        assert lived_ms <= 2 * limits.GONE_MS, "it is never given up"
    assert lived_ms >= limits.GONE_MS


def test_what_ends_together_is_one_refusal(state: State) -> None:
    node = Node(A)
    node.taking(state)
    node(events.Missing((b"\1", b"\2")))
    for ask in [node.asked(A), node.asked(A)]:
        node(events.Refused(A, ask.ask))
    node.tick(limits.REST_MS)
    assert len(node.asks[A]) == 2


def test_while_nobody_is_here_nothing_is_given_up(state: State) -> None:
    node = Node(A)
    node.taking(state)
    node(events.Missing((b"\1",)))
    node(events.PeerLost(A))
    node.tick(10 * limits.GONE_MS)
    node(events.PeerFound(A))
    assert node.core.stage is Stage.CHUNKS


def test_a_restart_goes_on_with_what_is_missing_and_ends(state: State) -> None:
    node = Node(A)
    node.asks.clear()
    fresh = Node()
    fresh(events.Resumed(state.root))
    fresh(events.PeerFound(A))
    assert fresh.others == [events.Look(limits.WINDOW)]
    fresh(events.Missing((b"\1",)))
    fresh(events.ChunkCame(A, fresh.asked(A).ask, ChunkTold(())))
    fresh(events.Taken(A, b"\1", Verdict.TRUE))
    assert fresh.others[-1] == events.Look(limits.WINDOW)
    fresh(events.Missing(()))
    assert fresh.others[-1] == events.Finish()
    fresh(events.Finished(Verdict.UNKNOWN))  # the disk was full
    fresh.tick(limits.RETRY_MS)
    fresh(events.Missing(()))
    fresh(events.Finished(Verdict.TRUE))
    assert fresh.core.stage is Stage.DONE


def test_memory_is_bounded_however_many_chunks_come_at_once(state: State) -> None:
    node = Node(*(bytes([number]) * 32 for number in range(1, 30)))
    node.taking(state, next(iter(node.asks)))
    node(events.Missing(tuple(bytes((number,)) for number in range(100))))
    chunks = [ask for asks in node.asks.values() for ask in asks if isinstance(ask.message, ChunkAsk)]
    assert len(chunks) == limits.CHUNK_ASKS_MAX
    for ask in chunks:
        node(events.ChunkCame(ask.peer, ask.ask, ChunkTold(())))
    assert node.core.sizes["keeping"] == limits.CHUNK_ASKS_MAX
    assert len([ask for asks in node.asks.values() for ask in asks if isinstance(ask.message, ChunkAsk)]) == limits.CHUNK_ASKS_MAX
