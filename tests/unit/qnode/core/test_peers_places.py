"""Inbound places: who gets one, who loses one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qnode.core.peers_events import Purpose
from qnode.core.peers_limits import DISPLACE_LEAD, INBOUND_KEPT, INBOUND_MAX, INBOUND_OPERATOR_MAX
from qnode.core.peers_link import PeerLink
from qnode.core.peers_places import excess, has_room_for, to_displace


def link(number: int, prefix: str, operator: str = "") -> PeerLink:
    return PeerLink(number, bytes([number]) * 32, operator or f"o{number}", prefix, False, Purpose.CHOSEN, False, number)


def test_an_operator_has_two_places() -> None:
    assert has_room_for([link(1, "p", "a")], "a")
    assert not has_room_for([link(1, "p", "a"), link(2, "q", "a")], "a")
    assert has_room_for([link(1, "p", "a"), link(2, "q", "a")], "b")


def test_the_youngest_of_the_fullest_prefix_goes_if_that_makes_them_more_even() -> None:
    placed = [link(number, "crowd" if number % 2 else f"p{number}") for number in range(INBOUND_MAX)]
    gone = to_displace(placed, "new")
    assert gone is not None
    assert gone.number == INBOUND_MAX - 1
    assert to_displace(placed, "crowd") is None
    even = [link(number, f"p{number}") for number in range(INBOUND_MAX)]
    assert to_displace(even, "new") is None


def test_the_oldest_are_left_in_peace() -> None:
    placed = [link(number, "crowd" if number < INBOUND_KEPT else f"p{number}") for number in range(INBOUND_MAX)]
    assert to_displace(placed, "new") is None


@given(st.lists(st.integers(0, 6), min_size=INBOUND_MAX, max_size=INBOUND_MAX), st.integers(0, 7))
def test_displacing_never_makes_prefixes_less_even(prefixes: list[int], newcomer: int) -> None:
    placed = [link(number, str(prefix)) for number, prefix in enumerate(prefixes)]
    gone = to_displace(placed, str(newcomer))
    if gone is not None:
        assert prefixes.count(int(gone.prefix)) >= prefixes.count(newcomer) + DISPLACE_LEAD
        assert gone.number >= INBOUND_KEPT


@given(st.lists(st.integers(0, 9), max_size=40))
def test_what_is_left_when_bounds_are_another_is_within_them(operators: list[int]) -> None:
    placed = [link(number, "p", str(operator)) for number, operator in enumerate(operators)]
    gone = excess(placed)
    left = [each for each in placed if each not in gone]
    assert len(left) <= INBOUND_MAX
    assert all([each.operator for each in left].count(each.operator) <= INBOUND_OPERATOR_MAX for each in left)
    assert not gone or len(left) == INBOUND_MAX or {each.operator for each in gone} <= {each.operator for each in left}
