"""The draw: all alike, under the rule first, and not a walk through thousands every second."""

from __future__ import annotations

from collections import Counter

from qnode.core import peers_limits as limits
from qnode.core.chance import Chance
from qnode.core.peers_attempts import Attempts
from qnode.core.peers_book import AddressBook
from qnode.core.peers_candidates import Candidates, Fit, Taken
from qnode.core.peers_events import Known

ME = bytes([255]) * 32


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Draw:
    """Candidates of a network of `count` others."""

    def __init__(self, count: int, *, operators: int = 10_000, prefixes: int = 10_000) -> None:
        self.nodes = {ME: Known("ours", ("9.9.9.9:1",))}
        for number in range(count):
            place = number % prefixes
            self.nodes[name(number)] = Known(f"o{number % operators}", (f"{10 + place // 250}.{place % 250}.0.1:1",))
        self.book, self.attempts, self.chance = AddressBook(), Attempts(), Chance(7)
        self.book.changed(self.nodes, 0)
        self.candidates = Candidates(self.book, self.attempts)
        self.candidates.changed(self.nodes, ME)
        self.asked = 0

    def draw(
        self, taken: Taken | None = None, *, now_ms: int = 0, spare: bool = False, free: frozenset[bytes] | None = None
    ) -> bytes | None:
        def is_free(node: bytes) -> bool:
            self.asked += 1
            return free is None or node in free

        return self.candidates.draw(is_free, taken or Taken(), self.chance, now_ms, spare=spare, alone=False)


def test_all_are_drawn_alike_and_never_ourselves() -> None:
    draw = Draw(20)
    counts = Counter(draw.draw() for _ in range(4_000))
    assert set(counts) == {name(number) for number in range(20)}
    assert max(counts.values()) < 2 * min(counts.values())
    assert Draw(0).draw() is None


def test_one_in_many_is_found_and_many_in_vain_are_not_looked_through_again_at_once() -> None:
    draw = Draw(3_000)
    assert draw.draw(free=frozenset({name(1234)})) == name(1234)
    assert draw.draw(free=frozenset()) is None
    draw.asked = 0
    assert draw.draw(free=frozenset({name(1234)}), now_ms=limits.SCAN_PAUSE_MS - 1) is None
    assert draw.asked == limits.SAMPLES
    draw.candidates.stir()
    assert draw.draw(free=frozenset({name(1234)}), now_ms=1) == name(1234)
    assert not draw.candidates.is_paused(0)
    small = Draw(10)
    assert small.draw(free=frozenset()) is None
    assert small.candidates.is_paused(limits.SCAN_PAUSE_SMALL_MS - 1)
    assert small.draw(now_ms=limits.SCAN_PAUSE_SMALL_MS) is not None


def test_spare_ones_break_the_rule_of_prefixes_before_that_of_operators() -> None:
    draw = Draw(6, operators=3, prefixes=4)  # prefix, operator: 00 11 22 30 01 12
    taken = Taken({"o0"}, {"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.0.0.0/16"})
    assert draw.draw(taken) is None
    draw.candidates.stir()
    assert {draw.draw(taken, spare=True) for _ in range(50)} == {name(1), name(2), name(4), name(5)}
    taken.add("o1", {"10.0.0.0/16"})
    taken.add("o2", set())
    assert {draw.draw(taken, spare=True) for _ in range(50)} == {name(number) for number in range(6)}
    assert draw.candidates.fit(name(0), taken) is Fit.OPERATOR_TAKEN


def test_our_own_operator_is_for_those_who_know_nobody_else() -> None:
    draw = Draw(2, operators=1)
    draw.nodes = {node: Known("ours", known.addresses) for node, known in draw.nodes.items()}
    draw.candidates.changed(draw.nodes, ME)
    assert draw.draw() is None
    draw.candidates.stir()
    assert draw.draw(spare=True) is not None
    draw.nodes[name(9)] = Known("others", ())
    draw.candidates.changed(draw.nodes, ME)
    assert draw.draw(spare=True) is None


def test_who_is_in_back_off_or_nowhere_is_not_drawn() -> None:
    draw = Draw(1)
    draw.attempts.failed(name(0), "E-DEADLINE", 0, chance=Chance(), alone=False)
    assert draw.draw() is None
    assert draw.draw(now_ms=60_000) == name(0)
    draw.book.changed({name(0): Known("o0", ())}, 0)
    assert draw.draw(now_ms=120_000, spare=True) is None


def test_feelers_go_to_those_that_were_not_tried() -> None:
    draw = Draw(300)
    for number in range(299):
        draw.attempts.tried(name(number), 0)
    assert draw.candidates.draw_feeler(lambda _: True, draw.chance, 1) == name(299)
    assert draw.candidates.draw_feeler(lambda node: node != name(299), draw.chance, 1) is None
