"""Pauses: as the appliance asks, within bounds; else growing; and the configured rate over time."""

from __future__ import annotations

import pytest

from qrngd.appliance.pace import Backoff, RateLimit, retry_after_s
from qustream.errors import fault

NOW_S = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("3601", 3600),
        ("9" * 5000, 3600),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2099 08:00:00 GMT", 3600),
        ("Fri, 15 Jan 2027 08:02:00", 120),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Fri, 99 Foo 2027 99:99:99 GMT", None),
        ("Fri, 15 Jan 99999999999 08:00:00 GMT", None),
    ],
)
def test_retry_after(header: str, seconds: int | None) -> None:
    assert retry_after_s(header, NOW_S) == seconds


def test_pauses_grow_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(lambda: 1.0)
    broken = fault("E-APPLIANCE-UNREACHABLE")
    assert [backoff.pause_s(broken) for _ in range(10)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert backoff.pause_s(fault("E-APPLIANCE-TOKEN")) == 60, "another trouble is a first one"
    assert backoff.pause_s(broken) == 1
    backoff.pause_s(broken)
    backoff.succeeded()
    assert backoff.pause_s(broken) == 1
    for _ in range(5000):
        assert backoff.pause_s(broken) <= 300


def test_jitter_takes_up_to_half() -> None:
    assert Backoff(lambda: 0.0).pause_s(fault("E-APPLIANCE-UNREACHABLE")) == 0.5


@pytest.mark.parametrize(("asked_ms", "draw", "pause_s"), [(7000, 0.0, 7.0), (7000, 1.0, 7.7), (10**12, 0.0, 3600.0), (1, 0.0, 1.0)])
def test_what_the_appliance_asks_for_counts(asked_ms: int, draw: float, pause_s: float) -> None:
    backoff = Backoff(lambda: draw)
    for _ in range(3):
        assert backoff.pause_s(fault("E-APPLIANCE-QUOTA", retry_after_ms=asked_ms)) == pytest.approx(pause_s)


def test_the_rate_holds_over_time() -> None:
    rate, now_s, taken = RateLimit(1000), 0.0, 0
    for _ in range(50):
        now_s += rate.wait_s(now_s)
        rate.took(640, now_s)
        taken += 640
    assert taken - 640 <= 1000 * now_s <= taken
    now_s += 3600
    assert rate.wait_s(now_s) == 0
    rate.took(640, now_s)
    assert rate.wait_s(now_s) == pytest.approx(0.64), "an idle hour is not saved up"


def test_no_limit() -> None:
    rate = RateLimit(0)
    rate.took(1 << 40, 5.0)
    assert rate.wait_s(5.0) == 0
