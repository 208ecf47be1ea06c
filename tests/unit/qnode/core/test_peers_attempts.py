"""Back-offs: ever longer, by chance, forgotten when there is reason to."""

from __future__ import annotations

from qnode.core import peers_limits as limits
from qnode.core.chance import Chance
from qnode.core.peers_attempts import Attempts
from qnode.core.peers_events import Purpose

NODE, OTHER = bytes(32), bytes([1]) * 32


def failing(times: int, *, alone: bool = False, retry_after_ms: int = 0) -> tuple[Attempts, list[int]]:
    """An `Attempts` after so many failures at moment 1000, and the back-offs that were drawn."""
    attempts, drawn = Attempts(), []
    for _ in range(times):
        attempts.failed(NODE, "E-DEADLINE", 1_000, chance=Chance(len(drawn)), alone=alone, retry_after_ms=retry_after_ms)
        attempt = attempts.of(NODE)
        assert attempt is not None
        drawn.append(attempt.until_ms - 1_000)
    return attempts, drawn


def test_a_back_off_doubles_up_to_half_an_hour_a_quarter_more_or_less() -> None:
    _, drawn = failing(14)
    for count, delay_ms in enumerate(drawn):
        middle_ms = min(limits.BACKOFF_FIRST_MS << count, limits.BACKOFF_MAX_MS)
        assert middle_ms * 3 // 4 <= delay_ms <= middle_ms * 5 // 4
    assert (
        len({delay_ms * 1000 // min(limits.BACKOFF_FIRST_MS << count, limits.BACKOFF_MAX_MS) for count, delay_ms in enumerate(drawn)}) > 3
    )


def test_when_to_come_again_is_heeded_up_to_half_an_hour() -> None:
    assert failing(1, retry_after_ms=60_000)[1] == [60_000]
    assert failing(1, retry_after_ms=1 << 62)[1] == [limits.BACKOFF_MAX_MS]
    assert failing(5, retry_after_ms=1)[1][-1] > 60_000


def test_failures_while_we_are_alone_are_not_held_against_anybody() -> None:
    attempts, drawn = failing(20, alone=True)
    attempt = attempts.of(NODE)
    assert attempt is not None
    assert attempt.failures == 1
    assert max(drawn) <= limits.BACKOFF_ALONE_MAX_MS * 5 // 4
    attempts, _ = failing(12)
    assert attempts.ready_ms(NODE, Purpose.CHOSEN, True) == 1_000 + limits.BACKOFF_ALONE_MAX_MS
    assert attempts.ready_ms(NODE, Purpose.ASSIGNED, False) == 1_000 + limits.BACKOFF_DUE_MAX_MS
    assert attempts.ready_ms(NODE, Purpose.CHOSEN, False) > 1_000_000
    assert attempts.ready_ms(OTHER, Purpose.CHOSEN, False) == 0


def test_a_node_is_new_again_after_a_link_that_stood_and_worth_a_dial_when_it_has_moved() -> None:
    attempts, _ = failing(12)
    attempts.moved(NODE)
    assert attempts.ready_ms(NODE, Purpose.CHOSEN, False) == 0
    assert attempts.failing() == [NODE]
    attempts.stood(NODE)
    assert attempts.failing() == []
    attempts.moved(OTHER)
    attempts.stood(OTHER)
    assert len(attempts) == 1


def test_when_a_cut_is_over_the_others_are_tried_again_soon() -> None:
    attempts, _ = failing(12)
    attempts.failed(OTHER, "E-DEADLINE", 500_000, chance=Chance(), alone=False)
    attempts.met(OTHER, 600_000)  # it had failed but once
    assert attempts.ready_ms(NODE, Purpose.CHOSEN, False) > 1_000_000
    for _ in range(limits.CUT_FAILURES):
        attempts.failed(OTHER, "E-DEADLINE", 500_000, chance=Chance(), alone=False)
    attempts.met(OTHER, 600_000)
    assert attempts.ready_ms(NODE, Purpose.CHOSEN, False) == 600_000 + limits.BACKOFF_FIRST_MS
    attempts.failed(NODE, "E-DEADLINE", 700_000, chance=Chance(), alone=False)
    assert attempts.ready_ms(NODE, Purpose.CHOSEN, False) > 700_000 + limits.BACKOFF_MAX_MS // 2


def test_who_is_not_known_any_more_is_forgotten_and_who_was_tried_is_left_alone_for_an_hour() -> None:
    attempts, _ = failing(1)
    attempts.tried(OTHER, 5_000)
    assert not attempts.is_stale(OTHER, 5_000 + limits.FEELER_AGAIN_MS - 1)
    assert attempts.is_stale(OTHER, 5_000 + limits.FEELER_AGAIN_MS)
    attempts.tried(OTHER, 6_000)
    assert not attempts.is_stale(OTHER, 5_000 + limits.FEELER_AGAIN_MS)
    attempts.keep({OTHER})
    assert (attempts.of(NODE), len(attempts)) == (None, 1)
    assert attempts.is_stale(NODE, 0)
