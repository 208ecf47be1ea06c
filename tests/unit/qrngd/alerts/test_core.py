"""Playbooks: what is told after each look at a server, minute by minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.alert_pages import device, page, picture

from qrngd.alerts import core
from qrngd.alerts.core import AlertState, Effect, Event, Raise, Resolve, StatusMissed, StatusSeen, step
from qrngd.alerts.picture import read_picture
from qrngd.status import DeviceStatus, StatusFlag

GONE = device(state="absent", code="E-DEV-ABSENT", reason="no such file")
FAILED = device(state="failed", code="E-DEV-LATCHED", reason="stuck")


def seen(*devices: DeviceStatus, **changes: object) -> StatusSeen:
    return StatusSeen("a:1", picture(*devices, **changes))


MISSED = StatusMissed("a:1", "E-PEER-UNREACHABLE", "refused")


def told(effects: list[Effect]) -> list[str]:
    return [f"{type(each).__name__} {each.alert.key.name}{' ' + each.alert.cause if isinstance(each, Raise) else ''}" for each in effects]


def play(*events: Event, every_s: int = 20, settle_ms: int = 60_000) -> list[list[str]]:
    """What is told after each of them, `every_s` apart."""
    state = AlertState(settle_ms)
    return [told(step(state, event, 1000 * every_s * number)) for number, event in enumerate(events)]


def test_a_condition_must_hold_before_it_is_told_and_be_gone_before_that_is() -> None:
    assert play(seen(), *[seen(GONE)] * 5, *[seen()] * 5) == [
        [], [], [], [], ["Raise QrngdDeviceNotLive E-DEV-ABSENT"], [], [], [], [], ["Resolve QrngdDeviceNotLive"], [],
    ]  # fmt: skip


def test_what_comes_and_goes_is_told_once() -> None:
    # Never long enough to be told.
    assert play(*[seen(GONE), seen()] * 20) == [[]] * 40
    # Told once, and not over as long as it comes back.
    said = play(*[seen(GONE)] * 4, *[seen(), seen(GONE)] * 20, *[seen()] * 4)
    assert [each for each in said if each] == [["Raise QrngdDeviceNotLive E-DEV-ABSENT"], ["Resolve QrngdDeviceNotLive"]]
    assert said[-1] == ["Resolve QrngdDeviceNotLive"]


def test_a_permanent_failure_is_told_at_once_and_replaces_the_lesser_one() -> None:
    assert play(seen(), seen(FAILED)) == [[], ["Raise QrngdDeviceFailed E-DEV-LATCHED"]]
    said = play(*[seen(GONE)] * 4, *[seen(FAILED)] * 4)
    assert said[3:] == [
        ["Raise QrngdDeviceNotLive E-DEV-ABSENT"], ["Raise QrngdDeviceFailed E-DEV-LATCHED"], [], [], ["Resolve QrngdDeviceNotLive"],
    ]  # fmt: skip


def test_a_server_that_does_not_answer_is_told_and_nothing_else_about_it_changes() -> None:
    said = play(seen(FAILED), *[MISSED] * 10, seen(FAILED), *[seen(FAILED)] * 3, *[seen()] * 4)
    assert [each for each in said if each] == [
        ["Raise QrngdDeviceFailed E-DEV-LATCHED"],
        ["Raise QrngdUnreachable E-PEER-UNREACHABLE"],
        ["Resolve QrngdUnreachable"],
        ["Resolve QrngdDeviceFailed"],
    ]
    assert said[4] == ["Raise QrngdUnreachable E-PEER-UNREACHABLE"]


def test_silence_is_no_time_in_which_anything_held_or_was_over() -> None:
    assert play(seen(GONE), MISSED, MISSED, seen(GONE), seen(GONE), seen(GONE), seen(GONE))[-2:] == [
        [], ["Raise QrngdDeviceNotLive E-DEV-ABSENT"],
    ]  # fmt: skip
    said = play(*[seen(GONE)] * 4, seen(), MISSED, MISSED, *[seen()] * 4)
    assert [bool(each) for each in said] == [False] * 3 + [True] + [False] * 6 + [True]


def test_words_that_change_are_kept_for_the_next_renewal() -> None:
    state = AlertState()
    step(state, seen(FAILED), 0)
    effects = step(state, seen(device(state="failed", code="E-DEV-LATCHED", reason="stuck, and still so")), 5000)
    assert told(effects) == ["Amend QrngdDeviceFailed"]
    assert effects[0].alert.detail == "stuck, and still so"
    assert effects[0].alert.started_ms == 0
    assert told(step(state, seen(device(state="failed", code="E-DEV-LATCHED", reason="stuck, and still so")), 10_000)) == []


def test_devices_flags_and_servers_are_told_apart() -> None:
    state = AlertState(settle_ms=0)
    bad = device(name="one", flags=(StatusFlag("voltage_low", True), StatusFlag("bit_count", True)))
    step(state, StatusSeen("a:1", picture(bad, device(name="two", state="failed"))), 0)
    step(state, StatusSeen("b:1", picture(device(name="two", state="failed"))), 0)
    assert [tuple(each.key) for each in state.firing] == [
        ("QrngdDeviceFlag", "a:1", "one", "voltage_low"),
        ("QrngdDeviceFlag", "a:1", "one", "bit_count"),
        ("QrngdDeviceFailed", "a:1", "two", ""),
        ("QrngdDeviceFailed", "b:1", "two", ""),
    ]
    assert state.firing[0].summary == "device one of a:1: it reports a fault of its own"
    assert state.firing[0].runbook == "deploy/runbooks/E-DEV-STATUS.md"


def test_a_device_that_is_no_longer_configured_is_over() -> None:
    gone = StatusSeen("a:1", picture(device(name="other")))
    assert play(seen(FAILED), *[gone] * 4)[-1] == ["Resolve QrngdDeviceFailed"]


def test_an_end_is_after_its_beginning_whatever_the_clock_does() -> None:
    state = AlertState(settle_ms=1)
    [raised] = step(state, seen(FAILED), 1_000_000)
    assert step(state, seen(), 10) == []
    [over] = step(state, seen(), 20)
    assert isinstance(over, Resolve)
    assert over.alert.ended_ms == raised.alert.started_ms + 1


def test_a_clock_that_was_set_back_lets_nothing_wait_for_ever() -> None:
    state = AlertState()
    assert step(state, seen(GONE), 1_000_000) == []
    assert step(state, seen(GONE), 0) == []
    assert step(state, seen(GONE), 59_999) == []
    assert told(step(state, seen(GONE), 60_000)) == ["Raise QrngdDeviceNotLive E-DEV-ABSENT"]


def test_an_alert_says_whose_it_is_and_what_fits_best_now() -> None:
    state = AlertState(settle_ms=0)
    [nobody] = step(state, MISSED, 0)
    assert nobody.alert.server == ""
    effects = step(state, seen(device(state="absent", code="E-DEV-LOCKED")), 1)
    assert [(each.alert.server, each.alert.cause) for each in effects if isinstance(each, Raise)] == [("qr1xyz", "E-DEV-LOCKED")]
    [amended] = step(state, seen(device(state="testing", code="")), 2)
    assert (amended.alert.cause, amended.alert.detail) == ("E-DEV-ABSENT", "testing: the start-up test passed")
    [silent] = [each for each in step(state, MISSED, 3) if isinstance(each, Raise)]
    assert silent.alert.server == "qr1xyz"


def test_a_page_that_invents_alerts_fills_nothing(monkeypatch) -> None:
    monkeypatch.setattr(core, "FIRING_MAX", 10)
    state = AlertState(settle_ms=3_600_000)
    for number in range(100):
        step(state, StatusSeen("a:1", picture(device(name=f"d{number}", state="failed"))), number)
    assert len(state.firing) == 10
    assert state.unraised > 0
    assert len(state.servers["a:1"].watched) <= 11


@given(
    st.lists(st.sampled_from([seen(), seen(GONE), seen(FAILED), seen(ready=False, reason="x"), MISSED]), max_size=60), st.integers(1, 90)
)
def test_every_alert_is_raised_once_and_resolved_at_most_once(events: list[Event], every_s: int) -> None:
    state, open_alerts = AlertState(), set()
    for number, event in enumerate(events):
        for effect in step(state, event, 1000 * every_s * number):
            key = (effect.alert.key, effect.alert.started_ms)
            if isinstance(effect, Raise):
                assert key not in open_alerts
                open_alerts.add(key)
            else:
                assert key in open_alerts
            if isinstance(effect, Resolve):
                open_alerts.remove(key)
    assert {(each.key, each.started_ms) for each in state.firing} == open_alerts


def test_what_a_step_needs_is_what_a_page_gives() -> None:
    assert step(AlertState(), StatusSeen("a:1", read_picture(page())), 0) == []
