"""The pace of an emulated device, with a clock of its own."""

from __future__ import annotations

from qrngd.emulation.pace import Pace


def test_it_gives_its_rate_and_saves_little() -> None:
    now_s = [0.0]
    pace = Pace(1000, lambda: now_s[0])
    assert pace.allowed(500) == 0
    total = 0
    for _ in range(100):
        now_s[0] += 0.01
        size = pace.allowed(500)
        pace.spend(size)
        total += size
    assert 990 <= total <= 1000
    now_s[0] += 60
    assert pace.allowed(500) == 50, "what nobody took for a minute is gone"


def test_without_a_rate_it_gives_what_is_asked_for() -> None:
    pace = Pace(0)
    assert pace.allowed(1 << 20) == 1 << 20
    pace.spend(1 << 20)
    assert pace.allowed(7) == 7
