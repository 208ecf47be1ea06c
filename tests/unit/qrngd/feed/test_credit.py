"""Fairness and bounds of the credit book, by example and by random histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.feed.credit import CREDIT_MAX_UNITS, IN_FLIGHT_UNITS, NODES_MAX, SHARE_MAX_UNITS, CreditBook
from qustream.errors import PeerFault, Unavailable


def node(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_nodes_with_credit_take_turns() -> None:
    book = CreditBook()
    book.open(node(1), 3)
    book.open(node(2), 1)
    book.open(node(3), 0)
    order = [book.next_node(0) for _ in range(5)]
    assert order == [node(1), node(2), node(1), node(1), None]


def test_a_node_gets_exactly_what_it_asked_for() -> None:
    book = CreditBook()
    book.open(node(1), 2)
    assert book.wanted_units(0) == 2
    assert book.next_node(0) == book.next_node(0) == node(1)
    assert book.next_node(0) is None
    book.taken(node(1))
    assert book.next_node(0) is None
    book.grant(node(1), 1)
    assert book.next_node(0) == node(1)
    assert book.wanted_units(0) == 0


def test_too_much_credit_is_refused_and_changes_nothing() -> None:
    book = CreditBook()
    book.open(node(1), CREDIT_MAX_UNITS)
    with pytest.raises(PeerFault, match="E-FEED-CREDIT"):
        book.grant(node(1), 1)
    assert book.next_node(0) == node(1)
    with pytest.raises(PeerFault, match="E-FEED-CREDIT"):
        book.grant(node(1), 1)  # a unit in flight is still outstanding
    book.taken(node(1))
    book.grant(node(1), 1)
    with pytest.raises(PeerFault, match="E-FEED-CREDIT"):
        book.open(node(2), CREDIT_MAX_UNITS + 1)
    assert len(book) == 1


def test_a_slow_node_holds_its_own_share_only() -> None:
    book = CreditBook()
    for number in range(8):
        book.open(node(number), CREDIT_MAX_UNITS)
    while (turn := book.next_node(0)) is not None:
        if turn != node(0):
            book.taken(turn)
    lines = {line.node: line for line in book.lines()}
    assert lines[node(0)].in_flight == IN_FLIGHT_UNITS // 8
    assert lines[node(0)].units == 0
    assert all(lines[node(n)].units == CREDIT_MAX_UNITS for n in range(1, 8))


def test_the_share_shrinks_with_the_number_of_nodes() -> None:
    book = CreditBook()
    assert book.share_units == SHARE_MAX_UNITS
    for number in range(NODES_MAX):
        book.open(node(number), 1)
    assert book.share_units == 1
    with pytest.raises(Unavailable, match="E-PEER-LIMIT"):
        book.open(node(NODES_MAX), 1)


def test_a_unit_thrown_away_gives_its_credit_back() -> None:
    book = CreditBook()
    book.open(node(1), 1)
    assert book.next_node(0) == node(1)
    book.returned(node(1))
    assert book.next_node(0) == node(1)
    book.close(node(1))
    book.returned(node(1))  # the node has gone: nothing to give back to
    assert book.wanted_units(0) == 0


STEPS = st.tuples(st.sampled_from(["open", "grant", "next", "taken", "close"]), st.integers(0, 5), st.integers(0, 300))


@given(st.lists(STEPS, max_size=200))
def test_no_history_breaks_the_bounds(history: list[tuple[str, int, int]]) -> None:
    book = CreditBook()
    granted: dict[bytes, int] = {}
    given_out: dict[bytes, int] = {}
    for what, number, units in history:
        name = node(number)
        is_open = name in granted
        try:
            if what == "open" and not is_open:
                book.open(name, units)
                granted[name], given_out[name] = units, 0
            elif what == "grant" and is_open:
                book.grant(name, units)
                granted[name] += units
            elif what == "close" and is_open:
                book.close(name)
                del granted[name], given_out[name]
        except PeerFault:
            assert units > 0  # too much credit; it changed nothing, as the sums below show
        if what == "next" and (turn := book.next_node(0)) is not None:
            given_out[turn] += 1
        lines = {line.node: line for line in book.lines()}
        if what == "taken" and is_open and name in lines and lines[name].in_flight:
            book.taken(name)
        assert sum(line.in_flight for line in lines.values()) <= IN_FLIGHT_UNITS
        for name, line in lines.items():
            assert given_out[name] + line.credit == granted[name]
            assert line.credit + line.in_flight <= CREDIT_MAX_UNITS


def test_a_cap_is_a_minutes_units_at_once_and_then_one_by_one() -> None:
    book = CreditBook(units_per_minute=3)
    book.open(node(1), 10)
    assert book.wanted_units(0) == 3
    assert [book.next_node(0) for _ in range(4)] == [node(1)] * 3 + [None]
    assert book.allowance_in_ms(0) == 20_000
    assert book.next_node(19_999) is None
    assert book.allowance_in_ms(19_999) == 1
    assert book.next_node(20_000) == node(1)
    for _ in range(4):
        book.taken(node(1))
    assert book.wanted_units(10_000_000) == 3  # never more than a minute's


def test_a_cap_holds_over_a_new_connection_and_for_each_node_alone() -> None:
    book = CreditBook(units_per_minute=2)
    book.open(node(1), 10)
    book.open(node(2), 10)
    assert [book.next_node(0) for _ in range(5)] == [node(1), node(2), node(1), node(2), None]
    book.close(node(1))
    book.open(node(1), 10)
    assert book.next_node(0) is None


def test_a_unit_thrown_away_does_not_count_for_the_cap() -> None:
    book = CreditBook(units_per_minute=1)
    book.open(node(1), 5)
    assert book.next_node(0) == node(1)
    book.returned(node(1))
    assert book.next_node(0) == node(1)


def test_without_a_cap_nobody_waits_for_one() -> None:
    book = CreditBook()
    book.open(node(1), 5)
    assert book.allowance_in_ms(0) == float("inf")
