"""Whether we are reached: what two peers say, and for how long nobody has to be asked."""

from __future__ import annotations

from qnode.core import peers_limits as limits
from qnode.core.chance import Chance
from qnode.core.peers_events import Purpose
from qnode.core.peers_link import PeerLink
from qnode.core.peers_reach import Reach

START_MS = limits.DIAL_BACK_FIRST_MS


def links(*operators: str, ours: bool = True) -> list[PeerLink]:
    return [
        PeerLink(number, bytes([number]) * 32, operator, "p", ours, Purpose.CHOSEN, False, 0) for number, operator in enumerate(operators)
    ]


def asked(reach: Reach, of: list[PeerLink], now_ms: int) -> list[bytes]:
    return reach.to_ask(of, Chance(now_ms), now_ms)


def test_two_of_different_operators_are_asked_every_five_minutes_but_not_at_once() -> None:
    reach, three = Reach(), links("a", "a", "b")
    assert asked(reach, three, 0) == []
    assert asked(reach, three, START_MS - 1) == []
    first = asked(reach, three, START_MS)
    assert {three[peer[0]].operator for peer in first} == {"a", "b"}
    assert asked(reach, three, START_MS + limits.DIAL_BACK_EVERY_MS - 1) == []
    assert len(asked(reach, three, START_MS + limits.DIAL_BACK_EVERY_MS)) == 2


def test_one_to_ask_tells_nothing_and_more_are_asked_soon() -> None:
    reach = Reach()
    asked(reach, [], 0)
    [one] = asked(reach, links("a", "a"), START_MS)
    reach.told(one, False, START_MS)
    assert not reach.is_unreachable
    assert asked(reach, links("a", "b"), START_MS + limits.DIAL_BACK_FEW_MS - 1) == []
    for peer in asked(reach, links("a", "b"), START_MS + limits.DIAL_BACK_FEW_MS):
        reach.told(peer, False, START_MS + limits.DIAL_BACK_FEW_MS)
    assert reach.is_unreachable


def test_our_own_links_are_asked_before_those_who_came() -> None:
    mixed = [*links("a", "b", ours=False), PeerLink(9, bytes([9]) * 32, "c", "p", True, Purpose.CHOSEN, False, 0)]
    for draw in range(20):
        reach = Reach()
        asked(reach, mixed, draw)
        assert bytes([9]) * 32 in asked(reach, mixed, draw + START_MS)


def test_both_have_to_fail_and_one_who_comes_in_ends_it() -> None:
    reach = Reach()
    asked(reach, [], 0)
    one, other = asked(reach, links("a", "b"), START_MS)
    reach.told(one, False, START_MS)
    reach.told(one, False, START_MS)  # the same again
    assert not reach.is_unreachable
    reach.told(bytes([7]) * 32, False, START_MS)  # nobody asked it
    assert not reach.is_unreachable
    reach.told(other, False, START_MS)
    assert reach.is_unreachable
    reach.came_in(START_MS)
    assert (reach.is_unreachable, reach.is_reached(START_MS + limits.REACHED_MS - 1)) == (False, True)
    assert asked(reach, links("a", "b"), START_MS + limits.REACHED_MS - 1) == []
    assert len(asked(reach, links("a", "b"), START_MS + limits.REACHED_MS)) == 2


def test_without_an_answer_and_with_one_who_got_through_nothing_is_wrong() -> None:
    for answers in ((None, False), (True, False), (False, True)):
        reach = Reach()
        asked(reach, [], 0)
        for peer, answer in zip(asked(reach, links("a", "b"), START_MS), answers, strict=True):
            reach.told(peer, answer, START_MS)
        assert not reach.is_unreachable
    reach = Reach()
    asked(reach, [], 0)
    [only] = asked(reach, links("a"), START_MS)
    reach.told(only, False, START_MS)
    assert not reach.is_unreachable
