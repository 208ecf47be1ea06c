"""When a device is opened and how much is read, without a device and without waiting."""

from __future__ import annotations

import pytest

from qrngd.worker.plan import PROBE_INTERVAL_S, ReadPlan
from qustream.errors import OperatorFault

WINDOW = 65_536


def plan(*, opened: bool = True) -> ReadPlan:
    made = ReadPlan(window_bytes=WINDOW, raw_bytes=32, out_bytes=16)
    if opened:
        made.opened(0.0)
    return made


def read(it: ReadPlan, now_s: float, *, is_live: bool = True, room_bytes: int = 0) -> int:
    """Read a whole stretch at once; how long it was."""
    size = it.wanted_bytes(now_s, is_live=is_live, room_bytes=room_bytes)
    if size:
        it.got(size, now_s)
    return size


def test_room_is_filled_in_whole_windows() -> None:
    it = plan()
    assert read(it, 0.0, room_bytes=100_000) == 4 * WINDOW  # 200,000 raw bytes, rounded up
    assert it.wanted_bytes(0.0, is_live=True, room_bytes=0) == 0


def test_a_stretch_is_read_to_its_end() -> None:
    it = plan()
    assert it.wanted_bytes(0.0, is_live=True, room_bytes=WINDOW) == 2 * WINDOW
    it.got(1000, 0.1)
    assert it.wanted_bytes(0.1, is_live=True, room_bytes=0) == 2 * WINDOW - 1000


def test_without_room_a_window_a_second_is_read() -> None:
    it = plan()
    assert read(it, 0.0) == WINDOW  # the first thing after opening
    assert it.idle_s(0.0) == PROBE_INTERVAL_S
    assert read(it, 0.9) == 0
    assert read(it, 1.0) == WINDOW


def test_a_slow_device_is_probed_a_tenth_of_the_time_and_once_a_minute_at_least() -> None:
    for took_s, pause_s in ((2.0, 18.0), (30.0, 60.0)):
        it = plan()
        assert it.wanted_bytes(0.0, is_live=True, room_bytes=0) == WINDOW
        it.got(WINDOW - 1, 0.1)
        it.got(1, took_s)
        assert it.idle_s(took_s) == pause_s


def test_a_device_that_is_not_live_is_tested_whatever_there_is_room_for() -> None:
    it = plan()
    for _ in range(3):
        assert read(it, 0.0, is_live=False) == WINDOW


def test_silence_is_an_error_and_idleness_is_none() -> None:
    it = plan()
    assert read(it, 0.0) == WINDOW
    assert it.wanted_bytes(100.0, is_live=True, room_bytes=0) == WINDOW
    it.got(0, 100.0)
    it.got(0, 109.9)
    it.got(5, 109.9)
    it.got(0, 119.8)
    with pytest.raises(OperatorFault, match="E-DEV-READ"):
        it.got(0, 119.9)


def test_a_device_that_only_trickles_is_lost() -> None:
    it = plan()
    assert it.wanted_bytes(0.0, is_live=True, room_bytes=WINDOW) == 2 * WINDOW
    for second in range(0, 600, 9):
        it.got(1, second)
    it.got(WINDOW, 599.0)  # a window is whole
    for second in range(600, 1199, 9):
        it.got(1, second)
    with pytest.raises(OperatorFault, match="less than a window"):
        it.got(1, 1199.0)


def test_attempts_in_vain_come_later_and_later_and_success_forgets_them() -> None:
    it = plan(opened=False)
    pauses = []
    for _ in range(8):
        it.lost(0.0)
        pauses.append(it.open_in_s(0.0))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    it.opened(0.0)
    it.lost(0.0)  # opened and lost without a byte: still in vain
    assert it.open_in_s(0.0) == 30
    it.opened(0.0)
    read(it, 0.0)
    it.lost(0.0)
    assert it.open_in_s(0.0) == 0.5


def test_something_new_at_the_path_is_tried_at_once() -> None:
    it = plan(opened=False)
    it.lost(0.0)
    it.try_now()
    assert it.open_in_s(0.0) == 0


def test_a_device_let_go_of_is_opened_at_once() -> None:
    it = plan()
    assert it.wanted_bytes(0.0, is_live=True, room_bytes=WINDOW) > 0
    it.closed()
    assert not it.is_open
    assert it.open_in_s(0.0) == 0
    it.opened(1.0)
    assert read(it, 1.0) == WINDOW  # nothing is left of the stretch before
