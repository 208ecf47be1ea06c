"""Time that never goes back."""

from __future__ import annotations

import trio
import trio.testing

from qnode.service.steady import SteadyClock


async def test_it_begins_with_the_machines_clock_and_goes_on_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    machine_ms = 1_700_000_000_000
    steady_ms = SteadyClock(lambda: machine_ms)
    assert steady_ms() == machine_ms
    await trio.sleep(2.5)
    machine_ms -= 3_600_000
    assert steady_ms() == 1_700_000_002_500
    machine_ms += 7_200_000
    await trio.sleep(1)
    assert steady_ms() == 1_700_000_003_500
