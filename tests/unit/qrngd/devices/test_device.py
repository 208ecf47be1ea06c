"""Back-off."""

from __future__ import annotations

from qrngd.devices import reopen_delay_ms


def test_back_off_doubles_and_is_bounded() -> None:
    delays = [reopen_delay_ms(attempt) for attempt in range(10)]
    assert delays[:4] == [500, 1000, 2000, 4000]
    assert max(delays) == reopen_delay_ms(10**9) == 30_000
