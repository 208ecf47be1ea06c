"""Which of our links count, and which one gives way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qnode.core.peers_events import Purpose
from qnode.core.peers_limits import OUTBOUND_MAX
from qnode.core.peers_link import PeerLink
from qnode.core.peers_outbound import judge, to_leave


def link(number: int, *, operator: str = "", prefix: str = "", assigned: bool = False, outdated: bool = False) -> PeerLink:
    reason = Purpose.ASSIGNED if assigned else Purpose.CHOSEN
    made = PeerLink(number, bytes([number]) * 32, operator or f"o{number}", prefix or f"p{number}", True, reason, assigned, 1_000 * number)
    made.is_outdated = outdated
    return made


def leaves(links: list[PeerLink], newest: PeerLink | None, *, anchors: tuple[int, ...] = (), rotates: bool = False) -> int | None:
    judge(links, "ours")
    gone = to_leave(links, newest, anchors=[bytes([number]) * 32 for number in anchors], rotates=rotates)
    return None if gone is None else gone.number


def test_the_first_of_an_operator_and_of_a_prefix_counts_and_assigned_ones_before_others() -> None:
    links = [
        link(1, operator="a"),
        link(2, operator="a"),
        link(3, prefix="p"),
        link(4, prefix="p", assigned=True),
        link(5, operator="ours"),
    ]
    judge(links, "ours")
    assert [each.number for each in links if each.spare] == [2, 3, 5]
    links = [each for each in links if each.number not in (1, 4)]
    judge(links, "ours")
    assert [each.number for each in links if each.spare] == [5]


def test_nothing_leaves_while_there_is_room() -> None:
    assert leaves([link(number, operator="a") for number in range(OUTBOUND_MAX)], None) is None


def test_spare_ones_go_first_the_newest_before_all() -> None:
    links = [link(number, operator="a" if number > 5 else "") for number in range(9)]
    assert leaves(links, links[0]) == 8
    assert leaves(links, links[7]) == 7


def test_then_those_of_an_epoch_that_is_over_the_oldest_first() -> None:
    links = [link(number, outdated=number in (4, 6)) for number in range(9)]
    assert leaves(links, links[8]) == 4


def test_then_a_chosen_one_for_an_assigned_one_the_youngest_but_no_anchor() -> None:
    links = [link(number, assigned=number in (0, 1, 2, 8)) for number in range(9)]
    assert leaves(links, links[8]) == 7
    assert leaves(links, links[8], anchors=(7, 6)) == 5
    assert leaves(links, links[8], anchors=(3, 4, 5, 6, 7)) == 7


def test_a_chosen_one_too_many_is_not_let_in_unless_it_is_time_for_the_oldest_to_go() -> None:
    links = [link(number, assigned=number < 4) for number in range(9)]
    assert leaves(links, links[8]) == 8
    assert leaves(links, links[8], rotates=True) == 4
    assert leaves(links, links[8], rotates=True, anchors=(4, 5)) == 6
    assert leaves(links, links[8], rotates=True, anchors=(4, 5, 6, 7)) == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans()), max_size=12), st.booleans())
def test_what_counts_keeps_the_rule_and_what_stays_is_not_too_much(rows: list[tuple[int, int, bool, bool]], rotates: bool) -> None:
    links = [
        link(number, operator=f"o{operator}", prefix=f"p{prefix}", assigned=assigned and number < 4, outdated=outdated)
        for number, (operator, prefix, assigned, outdated) in enumerate(rows)
    ]
    judge(links, "o0")
    while (gone := to_leave(links, None, anchors=(), rotates=rotates)) is not None:
        links.remove(gone)
        judge(links, "o0")
    counted = [each for each in links if not each.spare]
    assert len(links) <= OUTBOUND_MAX
    assert len({each.operator for each in counted} - {"o0"}) == len({each.prefix for each in counted}) == len(counted)
    for each in links:
        others = [other for other in counted if other is not each]
        breaks = any(other.operator == each.operator or other.prefix == each.prefix for other in others) or each.operator == "o0"
        assert each.spare == breaks
