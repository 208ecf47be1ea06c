"""The device's state machine: every path to live leads through the start-up test, and failed stays failed until it is cleared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.health.state import INTERMITTENT_LIMIT, INTERMITTENT_SPAN_WINDOWS, DeviceMachine, DeviceState, StateChanged
from qrngd.health.verdict import Finding, Grade, HealthTest, WindowVerdict
from qustream.errors import CODES


def verdict(grade: Grade, window: int = 0) -> WindowVerdict:
    findings = () if grade is Grade.PASSED else (Finding(HealthTest.REPETITION, grade, 10, 6, 1, 42),)
    return WindowVerdict(window, grade, findings)


def live() -> DeviceMachine:
    machine = DeviceMachine()
    machine.opened("lamp")
    machine.judged(verdict(Grade.PASSED))
    assert machine.state is DeviceState.LIVE
    return machine


def test_from_start_to_live() -> None:
    machine = DeviceMachine()
    assert machine.state is DeviceState.STARTING
    change = machine.opened("virtio_rng.0")
    assert change is not None
    assert (change.before, change.after, change.code) == (DeviceState.STARTING, DeviceState.TESTING, "")
    assert "virtio_rng.0" in change.reason
    change = machine.judged(verdict(Grade.PASSED))
    assert change is not None
    assert change.after is DeviceState.LIVE
    assert machine.judged(verdict(Grade.PASSED, 1)) is None


def test_an_intermittent_alarm_needs_a_passed_start_up_test() -> None:
    machine = live()
    change = machine.judged(verdict(Grade.INTERMITTENT, 7))
    assert change is not None
    assert (change.after, change.code) == (DeviceState.SUSPECT, "E-DEV-HEALTH")
    assert "window 7: repetition count: 10 where fewer than 6 are allowed (sample 42)" in change.reason
    change = machine.judged(verdict(Grade.INTERMITTENT, 8))
    assert change is not None
    assert change.after is DeviceState.SUSPECT
    assert machine.judged(verdict(Grade.PASSED, 9)) is not None
    assert machine.state is DeviceState.LIVE
    assert machine.code == ""


def test_a_permanent_alarm_latches_for_good() -> None:
    machine = live()
    machine.judged(verdict(Grade.PERMANENT, 5))
    assert (machine.state, machine.code) == (DeviceState.FAILED, "E-DEV-LATCHED")
    reason = machine.reason
    assert machine.lost("E-DEV-ABSENT", "pulled out") is None
    assert (machine.state, machine.reason) == (DeviceState.FAILED, reason)
    with pytest.raises(AssertionError):
        machine.opened("lamp")


def test_many_intermittent_alarms_in_a_short_span_latch() -> None:
    machine = live()
    for number in range(INTERMITTENT_LIMIT - 1):
        machine.judged(verdict(Grade.INTERMITTENT, 10 * number))
        machine.judged(verdict(Grade.PASSED, 10 * number + 1))
    assert machine.state is DeviceState.LIVE
    machine.judged(verdict(Grade.INTERMITTENT, 999))
    assert machine.state is DeviceState.FAILED
    assert "8 alarms" in machine.reason


def test_the_same_alarms_far_apart_do_not() -> None:
    machine = live()
    step = INTERMITTENT_SPAN_WINDOWS // (INTERMITTENT_LIMIT - 1) + 1
    for number in range(40):
        machine.judged(verdict(Grade.INTERMITTENT, step * number))
        machine.judged(verdict(Grade.PASSED, step * number + 1))
    assert machine.state is DeviceState.LIVE


def test_a_failed_retry_is_reported_once_and_a_new_reason_again() -> None:
    machine = live()
    assert machine.lost("E-DEV-ABSENT", "no such file") is not None
    assert machine.lost("E-DEV-ABSENT", "no such file") is None
    assert machine.lost("E-DEV-LOCKED", "held by another process") is not None
    assert machine.opened("lamp") is not None
    assert machine.state is DeviceState.TESTING


def suspect() -> DeviceMachine:
    machine = live()
    machine.judged(verdict(Grade.INTERMITTENT))
    return machine


def failed() -> DeviceMachine:
    machine = live()
    machine.judged(verdict(Grade.PERMANENT))
    return machine


def absent() -> DeviceMachine:
    machine = DeviceMachine()
    machine.lost("E-DEV-ABSENT", "no such file")
    return machine


def under_test() -> DeviceMachine:
    machine = DeviceMachine()
    machine.opened("lamp")
    return machine


IN_STATE: dict[DeviceState, Callable[[], DeviceMachine]] = {
    DeviceState.STARTING: DeviceMachine,
    DeviceState.TESTING: under_test,
    DeviceState.LIVE: live,
    DeviceState.SUSPECT: suspect,
    DeviceState.FAILED: failed,
    DeviceState.ABSENT: absent,
}
OCCASIONS: dict[str, Callable[[DeviceMachine], StateChanged | None]] = {
    "opened": lambda machine: machine.opened("lamp"),
    "lost": lambda machine: machine.lost("E-DEV-READ", "torn cable"),
    "passed": lambda machine: machine.judged(verdict(Grade.PASSED, 1)),
    "intermittent": lambda machine: machine.judged(verdict(Grade.INTERMITTENT, 1)),
    "permanent": lambda machine: machine.judged(verdict(Grade.PERMANENT, 1)),
    "cleared": lambda machine: machine.clear("lamp changed"),
    "test requested": lambda machine: machine.retest("after the thunderstorm"),
}
IMPOSSIBLE = None  # our own bug, an AssertionError
# The state machine a second time, as a picture: one row a state, one column an occasion, in the order above.
S, T, L, U, F, A = DeviceState
EVERY_TRANSITION: dict[DeviceState, tuple[DeviceState | None, ...]] = {
    S: (T, A, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, S, S),
    T: (IMPOSSIBLE, A, L, U, F, T, T),
    L: (IMPOSSIBLE, A, L, U, F, L, T),
    U: (IMPOSSIBLE, A, L, U, F, U, T),
    F: (IMPOSSIBLE, F, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, S, F),
    A: (T, A, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, A, A),
}


@pytest.mark.parametrize("before", list(DeviceState))
@pytest.mark.parametrize(("column", "occasion"), list(enumerate(OCCASIONS)))
def test_every_transition_is_the_one_of_the_picture(before: DeviceState, column: int, occasion: str) -> None:
    machine, after = IN_STATE[before](), EVERY_TRANSITION[before][column]
    assert machine.state is before
    if after is IMPOSSIBLE:
        with pytest.raises(AssertionError):
            OCCASIONS[occasion](machine)
        return
    change = OCCASIONS[occasion](machine)
    assert machine.state is after
    if change is None:
        assert after is before
    else:
        assert (change.before, change.after, change.code, change.reason) == (before, after, machine.code, machine.reason)


def test_a_failure_of_an_earlier_run_is_latched_with_its_reason() -> None:
    machine = DeviceMachine(("E-DEV-LATCHED", "window 5: it was stuck"))
    assert (machine.state, machine.code, machine.reason) == (DeviceState.FAILED, "E-DEV-LATCHED", "window 5: it was stuck")
    assert machine.lost("E-DEV-ABSENT", "pulled out") is None
    with pytest.raises(AssertionError):
        machine.opened("lamp")
    change = machine.clear("fibre replaced")
    assert change is not None
    assert (change.before, change.after, change.code) == (DeviceState.FAILED, DeviceState.STARTING, "")
    assert "fibre replaced" in change.reason
    machine.opened("lamp")
    assert machine.state is DeviceState.TESTING


def test_clearing_forgets_the_alarms_and_nothing_else_does() -> None:
    machine = live()
    for number in range(INTERMITTENT_LIMIT):
        machine.judged(verdict(Grade.INTERMITTENT, number))
    assert machine.state is DeviceState.FAILED
    machine.clear("seen to")
    machine.opened("lamp")
    for number in range(INTERMITTENT_LIMIT - 1):
        machine.judged(verdict(Grade.INTERMITTENT, 10 + number))
    machine.retest("to be sure")
    machine.lost("E-DEV-READ", "torn cable")
    machine.opened("lamp")
    assert machine.state is DeviceState.TESTING
    machine.judged(verdict(Grade.INTERMITTENT, 20))
    assert machine.state is DeviceState.FAILED


ACTIONS = st.sampled_from(["open", "lose", "clear", "retest", Grade.PASSED, Grade.INTERMITTENT, Grade.PERMANENT])


@given(st.lists(ACTIONS, max_size=60))
def test_live_is_reached_only_by_a_passed_window_and_failed_is_left_only_by_clearing(actions: list[str | Grade]) -> None:
    machine = DeviceMachine()
    for number, action in enumerate(actions):
        before = machine.state
        is_open = before in (DeviceState.TESTING, DeviceState.LIVE, DeviceState.SUSPECT)
        if isinstance(action, Grade) and is_open:
            machine.judged(verdict(action, number))
        elif action == "open" and before in (DeviceState.STARTING, DeviceState.ABSENT):
            machine.opened("lamp")
        elif action == "lose":
            machine.lost("E-DEV-READ", f"step {number}")
        elif action == "clear":
            machine.clear("examined")
        elif action == "retest":
            machine.retest("asked for")
        if machine.state is DeviceState.LIVE and before is not DeviceState.LIVE:
            assert action is Grade.PASSED
        if before is DeviceState.FAILED:
            assert machine.state is (DeviceState.STARTING if action == "clear" else DeviceState.FAILED)
        assert machine.code == "" or machine.code in CODES
        assert machine.reason
