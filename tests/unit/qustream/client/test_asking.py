"""Whom an operation asks, what it makes of results, and when it is over: without a network."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.client.asking import Ask, Gather, Quorum, Suspect, Tell
from qustream.errors import OperatorFault, PeerFault, QuStreamError, Unavailable, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord

FOUNDATION, COMMUNITY = NodeClass.FOUNDATION, NodeClass.COMMUNITY
GOOD, BAD = b"good", b"bad"


@cache
def node(node_class: NodeClass, number: int) -> NodeRecord:
    seed = hashlib.sha256(bytes([node_class, number])).digest()
    return NodeRecord(SigningKey(seed).public, node_class, f"operator {number}", bytes(16), (), 1, True)


def nodes(node_class: NodeClass, count: int) -> list[NodeRecord]:
    return [node(node_class, number) for number in range(count)]


def ask(record: NodeRecord) -> Ask:
    return Ask(record, lambda _: b"", 100)


def check(record: NodeRecord, data: bytes) -> str:
    if data != GOOD:
        raise fault("E-PROOF", "it leads elsewhere")
    return record.operator


def gather(foundation: int = 5, community: int = 5, need: int = 3) -> Gather[str]:
    sizes = {FOUNDATION: foundation, COMMUNITY: community}
    return Gather((Quorum(c, nodes(c, size), need) for c, size in sizes.items()), ask=ask, check=check)


def ids(asks: list[Ask]) -> list[bytes]:
    return [each.id for each in asks]


def finish(operation: Any, results: dict[bytes, Any]) -> list[bytes]:
    """Drive an operation one result at a time; returns whom it asked, in order."""
    waiting, asked = operation.start(), []
    while waiting and not operation.is_over:
        now = waiting.pop(0)
        asked.append(now.id)
        waiting += operation.completed(now, results.get(now.id, GOOD))
    return asked + ids(waiting)


def test_three_of_each_class_are_asked_first_and_are_enough() -> None:
    operation = gather()
    first = operation.start()
    assert ids(first) == [node(c, n).key.id for c in NodeClass for n in range(3)]
    for each in first:
        assert not operation.is_over
        assert operation.completed(each, GOOD) == []
    assert operation.is_over
    assert list(operation.require().values()) == ["operator 0", "operator 1", "operator 2"] * 2
    assert operation.suspects == ()


def test_the_next_rank_is_asked_at_once_for_one_that_fails() -> None:
    operation = gather()
    first = operation.start()
    assert ids(operation.completed(first[4], fault("E-PEER-UNREACHABLE", "refused"))) == [node(COMMUNITY, 3).key.id]
    assert ids(operation.completed(first[0], BAD)) == [node(FOUNDATION, 3).key.id]
    assert operation.suspects[0] == Suspect(node(FOUNDATION, 0).key.id, "E-PROOF", "it leads elsewhere", True)
    failed = [suspect for suspect in operation.suspects if suspect.code == "E-PEER-UNREACHABLE"]
    assert [suspect.is_fault for suspect in failed] == [False]


def test_only_an_answer_that_does_not_check_is_a_fault() -> None:
    for result, is_fault in [(BAD, True), (fault("E-PROOF"), False), (fault("E-NODE-FULL"), False)]:
        operation = gather()
        operation.completed(operation.start()[0], result)
        assert [suspect.is_fault for suspect in operation.suspects if suspect.node == node(FOUNDATION, 0).key.id] == [is_fault]


def test_a_fault_of_our_own_side_in_a_check_is_no_fault_of_the_node() -> None:
    def broken(record: NodeRecord, data: bytes) -> str:
        raise fault("E-CHAIN-STALE", "no view")

    operation = Gather((Quorum(FOUNDATION, nodes(FOUNDATION, 3), 3),), ask=ask, check=broken)
    operation.completed(operation.start()[0], GOOD)
    assert [suspect.is_fault for suspect in operation.suspects if suspect.code == "E-CHAIN-STALE"] == [False]


def test_a_class_that_cannot_be_met_is_named_with_every_nodes_reason() -> None:
    operation = gather()
    results = {node(COMMUNITY, n).key.id: fault("E-PEER-UNREACHABLE", f"number {n} refused") for n in range(5)}
    finish(operation, results)
    with pytest.raises(Unavailable) as caught:
        operation.require()
    assert caught.value.code == "E-CLASS-SHORT"
    assert "0 of the 3 community nodes" in caught.value.detail
    assert "foundation" not in caught.value.detail
    for n in range(5):
        assert f"number {n} refused" in caught.value.detail


def test_both_classes_are_named_when_both_are_short() -> None:
    operation = gather()
    finish(operation, {node(c, n).key.id: fault("E-PEER-UNREACHABLE") for c in NodeClass for n in range(5)})
    with pytest.raises(Unavailable, match=r"foundation.*community"):
        operation.require()


def test_when_one_class_is_lost_the_others_answers_are_still_taken_but_nobody_new_is_asked() -> None:
    operation = gather(foundation=5, community=3)
    first = operation.start()
    assert operation.completed(first[5], fault("E-NODE-FULL")) == []
    assert operation.completed(first[0], fault("E-NODE-FULL")) == []
    for each in first[1:5]:
        assert not operation.is_over
        assert operation.completed(each, GOOD) == []
    assert operation.is_over
    assert len(operation.answers) == 4


def test_a_lost_class_is_not_waited_for_any_longer_than_patience() -> None:
    operation = gather(foundation=3, community=3)
    operation.completed(operation.start()[0], fault("E-NODE-FULL"))
    assert not operation.is_over
    assert operation.waited() == []
    assert operation.is_over
    with pytest.raises(Unavailable, match=r"foundation.*no answer yet"):
        operation.require()


def test_too_few_candidates_are_over_before_anybody_is_asked() -> None:
    operation = gather(foundation=2)
    assert operation.start() == []
    assert operation.is_over
    with pytest.raises(Unavailable, match="the registry has 2 of different operators"):
        operation.require()


def test_after_patience_one_more_of_each_waiting_class_is_asked() -> None:
    operation = gather()
    first = operation.start()
    for each in first[:3]:
        operation.completed(each, GOOD)
    assert ids(operation.waited()) == [node(COMMUNITY, 3).key.id]
    assert ids(operation.waited()) == [node(COMMUNITY, 4).key.id]
    assert operation.waited() == []
    extra = ask(node(COMMUNITY, 4))
    for each in (first[3], first[4], extra):
        operation.completed(each, GOOD)
    assert operation.is_over
    assert set(operation.require()) == {node(c, n).key.id for c, n in [(FOUNDATION, 0), (FOUNDATION, 1), (FOUNDATION, 2)]} | {
        first[3].id,
        first[4].id,
        extra.id,
    }
    assert {suspect.node for suspect in operation.suspects} == {first[5].id, node(COMMUNITY, 3).key.id}
    assert {suspect.code for suspect in operation.suspects} == {"E-DEADLINE"}


def test_an_answer_beyond_what_is_needed_is_not_taken() -> None:
    operation = gather()
    first = operation.start()
    (spare,) = [each for each in operation.waited() if each.node.node_class is FOUNDATION]
    for each in (*first[:3], spare):
        operation.completed(each, GOOD)
    assert len(operation.answers) == 3
    assert not operation.is_over


@pytest.mark.parametrize("code", ["E-DEVICE-REVOKED", "E-GRANT-SPENT", "E-NOT-HELD", "E-REQUEST-EXPIRED"])
def test_what_a_whole_class_says_of_the_asker_is_the_answer(code: str) -> None:
    operation = gather()
    finish(operation, {node(c, n).key.id: fault(code, "because") for c in NodeClass for n in range(5)})
    with pytest.raises(PeerFault) as caught:
        operation.require()
    assert caught.value.code == code
    assert caught.value.detail.count("because") == 2


def test_one_who_differs_or_lies_makes_it_a_short_class_again() -> None:
    refusals: dict[bytes, Any] = {node(FOUNDATION, n).key.id: fault("E-DEVICE-REVOKED", "because") for n in range(5)}
    for odd in (fault("E-PEER-UNREACHABLE"), fault("E-DEVICE-UNKNOWN"), BAD):
        operation = gather()
        finish(operation, refusals | {node(FOUNDATION, 2).key.id: odd})
        with pytest.raises(Unavailable) as caught:
            operation.require()
        assert caught.value.code == "E-CLASS-SHORT"


def test_a_node_cannot_make_an_operators_fault_of_its_refusal() -> None:
    operation = gather()
    finish(operation, {node(c, n).key.id: fault("E-DISK-FULL") for c in NodeClass for n in range(5)})
    with pytest.raises(QuStreamError) as caught:
        operation.require()
    assert not isinstance(caught.value, OperatorFault)


@given(
    outcomes=st.lists(st.sampled_from([GOOD, BAD, fault("E-NODE-FULL"), None]), min_size=10, max_size=10),
    order=st.randoms(use_true_random=False),
    need=st.integers(1, 3),
)
def test_whatever_happens_nobody_is_asked_twice_and_the_end_is_right(outcomes: list[Any], order: Any, need: int) -> None:
    """`None`: never answers. After all that will come has come, `waited` brings the rest in."""
    operation = gather(need=need)
    fate = {node(c, n).key.id: outcomes[5 * (c - 1) + n] for c in NodeClass for n in range(5)}
    waiting, asked = list(operation.start()), []
    for _ in range(40):
        if operation.is_over:
            break
        asked += [each.id for each in waiting if each.id not in asked]
        ready = [each for each in waiting if fate[each.id] is not None]
        if ready:
            now = order.choice(ready)
            waiting.remove(now)
            waiting += operation.completed(now, fate[now.id])
        else:
            further = operation.waited()
            assert not {each.id for each in further} & set(asked)
            waiting += further
            if not further and not operation.is_over:
                break
    everybody = ids(waiting) + asked
    assert len(set(asked)) == len(asked)
    assert set(everybody) <= set(fate)
    good = {c: [n for n in range(5) if fate[node(c, n).key.id] == GOOD] for c in NodeClass}
    if all(len(each) >= need for each in good.values()):
        assert operation.is_over
        assert len(operation.require()) == 2 * need
    else:
        with pytest.raises(QuStreamError):
            operation.require()


# -- Tell -----------------------------------------------------------------------------------------------------------------


def test_tell_asks_everybody_once_and_keeps_what_each_says() -> None:
    three = nodes(COMMUNITY, 3)
    told = Tell(three, ask=ask, check=check)
    assert told.patience_ms is None
    first = told.start()
    assert [each.node for each in first] == three
    told.completed(first[0], GOOD)
    told.completed(first[1], BAD)
    assert not told.is_over
    told.completed(first[2], fault("E-DEADLINE", "late"))
    assert told.is_over
    assert told.answers == {three[0].key.id: "operator 0"}
    assert {identity: error.code for identity, error in told.errors.items()} == {
        three[1].key.id: "E-PROOF",
        three[2].key.id: "E-DEADLINE",
    }
    assert [(suspect.code, suspect.is_fault) for suspect in told.suspects] == [("E-PROOF", True), ("E-DEADLINE", False)]


def test_tell_leaves_those_who_do_not_answer_in_time() -> None:
    told = Tell(nodes(COMMUNITY, 3), ask=ask, check=check, patience_ms=5)
    first = told.start()
    told.completed(first[0], GOOD)
    assert told.waited() == []
    assert told.is_over
    assert set(told.errors) == {first[1].id, first[2].id}
    assert {suspect.code for suspect in told.suspects} == {"E-DEADLINE"}
    assert "5 ms" in told.suspects[0].detail


def test_tell_nobody_is_over_at_once() -> None:
    told = Tell([], ask=ask, check=check)
    assert told.start() == []
    assert told.is_over


def test_a_suspect_is_shown_by_the_beginning_of_its_id() -> None:
    shown = str(Suspect(node(COMMUNITY, 0).key.id, "E-PROOF", "it leads elsewhere", True))
    assert shown.startswith("qn1")
    assert shown.endswith("… E-PROOF (it leads elsewhere)")
