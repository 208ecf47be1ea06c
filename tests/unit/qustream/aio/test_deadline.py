"""The deadline, under a clock that jumps."""

import pytest
import trio
from trio.testing import MockClock

from qustream.aio.deadline import Deadline
from qustream.errors import QuStreamError


async def test_in_time_nothing_happens(autojump_clock: MockClock) -> None:
    with Deadline(1000, "late"):
        await trio.sleep(0.9)


async def test_too_late_is_a_coded_error(autojump_clock: MockClock) -> None:
    with pytest.raises(QuStreamError, match="late") as caught:
        await sleep_too_long()
    assert caught.value.code == "E-DEADLINE"
    assert trio.current_time() == pytest.approx(1.0, abs=0.01)


async def sleep_too_long() -> None:
    with Deadline(1000, "late"):
        await trio.sleep(5)


async def test_an_outer_cancellation_is_not_our_deadline(autojump_clock: MockClock) -> None:
    with trio.move_on_after(0.5) as outer:
        with Deadline(1000, "late"):
            await trio.sleep(5)
    assert outer.cancelled_caught


async def test_an_error_inside_passes(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError), Deadline(1000, "late"):
        raise KeyError
