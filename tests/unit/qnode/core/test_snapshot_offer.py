"""What an offer of a state must be, and what a plan that comes in parts."""

from __future__ import annotations

import random

import msgspec
import pytest
from sim.snapshot_world import CHAIN, State

from qnode.core.snapshot_offer import PlanParts, wrong_with
from qustream.model.state import Progress
from qustream.rules.radix_plan import PlanNode
from qustream.wire.codec import encode
from qustream.wire.light import ProvenEntry
from qustream.wire.snapshot import Offer


@pytest.fixture(scope="module")
def state() -> State:
    return next(found for seed in range(50) if len((found := State(random.Random(seed), 100)).plan.nodes) > 5)


def test_a_true_offer_has_nothing_wrong(state: State) -> None:
    assert wrong_with(state.offer, state.root, CHAIN) == ""


def test_whatever_does_not_fit_is_wrong(state: State) -> None:
    offer, change = state.offer, msgspec.structs.replace
    head, block, progress = offer.headers[0], offer.block, offer.progress
    other = encode(Progress(100, bytes(32), 100, 0, 1, 1, bytes(32), False))
    wrong: list[Offer] = [
        change(offer, headers=(change(head, executed=99),)),
        change(offer, headers=(change(head, executed_root=bytes(32)),)),
        change(offer, block=change(block, height=101)),
        change(offer, block=change(block, time_ms=1)),
        change(offer, ids=(bytes(32),)),
        change(offer, progress=ProvenEntry(None, progress.proof)),
        change(offer, progress=ProvenEntry(other, progress.proof)),
        change(offer, progress=ProvenEntry(progress.value, change(progress.proof, inner=progress.proof.inner[:-1]))),
    ]
    for each in wrong:
        assert wrong_with(each, state.root, CHAIN)
    assert wrong_with(offer, bytes(32), CHAIN)
    assert wrong_with(offer, state.root, "another")


def test_a_plan_is_taken_in_any_parts_and_only_whole(state: State) -> None:
    nodes = state.plan.nodes
    for size in (1, 3, len(nodes)):
        parts = PlanParts(state.root, len(nodes))
        for at in range(0, len(nodes), size):
            assert not parts.is_whole
            assert parts.take(nodes[at : at + size])
        assert parts.is_whole
        assert not parts.take(nodes[-1:])


def test_nodes_that_no_other_names_are_refused(state: State) -> None:
    nodes = state.plan.nodes
    last = nodes[-1]
    for wrong in (
        (nodes[0], nodes[0]),  # twice
        (nodes[1],),  # before the root
        (nodes[0], PlanNode(last.prefix, last.node[:-1] + bytes((last.node[-1] ^ 1,)))),
        (nodes[0], PlanNode(last.prefix + b"\0", last.node)),
    ):
        assert not PlanParts(state.root, len(nodes)).take(wrong)
    assert not PlanParts(bytes(32), len(nodes)).take(nodes)
    assert not PlanParts(state.root, len(nodes) - 1).take(nodes)
