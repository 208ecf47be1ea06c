"""Growth of a counter over a window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qrngd.alerts.growth import Meter

MINUTE = 60_000
HOUR = 60 * MINUTE


def test_what_was_counted_before_the_first_look_does_not_count() -> None:
    meter = Meter(HOUR)
    meter.read(500, 0, restarted=False)
    assert (meter.growth, meter.covers(0)) == (0, False)
    meter.read(503, MINUTE, restarted=False)
    assert meter.growth == 3


def test_a_window_slides() -> None:
    meter = Meter(10 * MINUTE)
    for minute in range(60):
        meter.read(minute, minute * MINUTE, restarted=False)
        assert meter.growth == min(minute, 10)
    assert meter.covers(59 * MINUTE)
    assert not Meter(HOUR).covers(10 * HOUR)


def test_a_restart_begins_at_zero_and_loses_nothing_that_was_seen() -> None:
    meter = Meter(HOUR)
    meter.read(500, 0, restarted=False)
    meter.read(502, MINUTE, restarted=False)
    meter.read(1, 2 * MINUTE, restarted=True)
    assert meter.growth == 3
    # A counter that fell has begun anew, whoever says otherwise; one that rose all the same has as well, if the server says so.
    meter.read(0, 3 * MINUTE, restarted=False)
    meter.read(600, 4 * MINUTE, restarted=True)
    assert meter.growth == 603


def test_after_a_long_silence_or_a_clock_set_back_it_begins_anew() -> None:
    meter = Meter(10 * MINUTE)
    meter.read(5, HOUR, restarted=False)
    meter.read(9, 2 * HOUR, restarted=False)
    assert meter.growth == 0
    meter.read(10, 2 * HOUR + 1000, restarted=False)
    assert meter.growth == 1
    for later in range(3):
        meter.read(11 + later, HOUR + later * MINUTE, restarted=False)
        assert meter.growth == later


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2 * MINUTE)), min_size=1, max_size=200))
def test_it_looks_back_at_most_a_minute_and_a_pause_too_far(steps: list[tuple[int, int]]) -> None:
    window = 5 * MINUTE
    meter, value, now, seen = Meter(window), 0, 0, []
    for grown, pause in steps:
        value, now = value + grown, now + pause
        meter.read(value, now, restarted=False)
        seen.append((now, value))
    within = [each for at, each in seen if at > now - window]
    earlier = [each for at, each in seen if at <= now - window - 3 * MINUTE]
    assert meter.growth >= value - within[0]
    assert meter.growth <= value - (earlier[-1] if earlier else seen[0][1])
