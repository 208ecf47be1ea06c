"""Nothing is lost while a receiver is away, and nothing is told more often than it should be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrngd.alerts import outbox
from qrngd.alerts.alert import Alert, AlertKey
from qrngd.alerts.conditions import CONDITIONS
from qrngd.alerts.core import Amend, Effect, Raise, Resolve
from qrngd.alerts.outbox import Outbox, Status

RENEW = 60_000


def alert(name: str = "one", started_ms: int = 0, detail: str = "") -> Alert:
    return Alert(AlertKey("QrngdDeviceFailed", "a:1", name), CONDITIONS[2], "E-DEV-LATCHED", "it failed", detail, "qr1", started_ms)


def over(each: Alert, ended_ms: int) -> Alert:
    return replace(each, ended_ms=ended_ms)


def told(box: Outbox, now_ms: int) -> list[tuple[str, str]]:
    """What is due, taken by the receiver."""
    notices = box.due(now_ms)
    if notices:
        box.acknowledged(notices, now_ms)
    return [(each.status.value, each.alert.key.device) for each in notices]


def test_an_alert_is_raised_renewed_and_resolved() -> None:
    box = Outbox(RENEW)
    assert (box.due(0), box.next_due_ms()) == ([], None)
    box.take(Raise(alert()))
    assert told(box, 10) == [("raised", "one")]
    assert told(box, RENEW) == []
    assert box.next_due_ms() == RENEW + 10
    assert told(box, RENEW + 10) == [("renewed", "one")]
    box.take(Resolve(over(alert(), 70_000)))
    assert told(box, 70_000) == [("resolved", "one")]
    assert (box.due(10**9), box.next_due_ms()) == ([], None)


def test_while_a_receiver_is_away_both_ends_of_an_alert_are_kept() -> None:
    box = Outbox(RENEW)
    box.take(Raise(alert()))
    box.take(Raise(alert("two")))
    now = 0
    for pause in (1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000):
        assert len(box.due(now)) == 2
        assert box.failed(now) == pause
        assert box.due(now + pause - 1) == []
        assert box.next_due_ms() == now + pause
        now += pause
    box.take(Resolve(over(alert(), 100)))
    box.take(Raise(alert(started_ms=200)))
    assert told(box, now) == [("resolved", "one"), ("raised", "two"), ("raised", "one")]
    assert box.failed(now) == 1000  # the receiver was there: the next failure is a new one


def test_words_wait_for_the_renewal() -> None:
    box = Outbox(RENEW)
    box.take(Raise(alert()))
    assert told(box, 0) == [("raised", "one")]
    box.take(Amend(alert(detail="worse")))
    assert box.due(1) == []
    assert [each.alert.detail for each in box.due(RENEW)] == ["worse"]


def test_what_ended_while_it_was_being_told_is_told_again() -> None:
    box = Outbox(RENEW)
    box.take(Raise(alert()))
    notices = box.due(0)
    box.take(Resolve(over(alert(), 5)))
    box.acknowledged(notices, 10)
    assert told(box, 10) == [("resolved", "one")]


def test_each_alert_has_its_own_renewal() -> None:
    box = Outbox(RENEW)
    box.take(Raise(alert()))
    assert told(box, 0) == [("raised", "one")]
    box.take(Raise(alert("two")))
    assert told(box, 20_000) == [("raised", "two")]
    assert box.next_due_ms() == RENEW
    assert told(box, RENEW) == [("renewed", "one")]
    assert box.next_due_ms() == RENEW + 20_000


def test_many_go_in_several_requests() -> None:
    box = Outbox(RENEW)
    for number in range(300):
        box.take(Raise(alert(str(number))))
    assert [len(told(box, 0)) for _ in range(4)] == [128, 128, 44, 0]


def test_of_those_that_ended_the_oldest_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "ENDED_MAX", 5)
    box = Outbox(RENEW)
    box.take(Raise(alert("lasts")))
    for number in range(8):
        box.take(Raise(alert(str(number))))
        box.take(Resolve(over(alert(str(number)), 1)))
    assert box.dropped == 3
    assert [name for _, name in told(box, 0)] == ["lasts", "3", "4", "5", "6", "7"]


def test_a_clock_that_was_set_back_keeps_nobody_waiting() -> None:
    box = Outbox(RENEW)
    box.take(Raise(alert()))
    assert told(box, 10**12) == [("raised", "one")]
    assert told(box, 5) == []
    assert box.next_due_ms() == 5 + RENEW
    assert told(box, 5 + RENEW) == [("renewed", "one")]
    box.failed(10**12)
    assert box.due(0) == []
    assert len(box.due(RENEW)) == 1


@given(st.lists(st.sampled_from(["raise", "resolve", "up", "down"]), max_size=60))
def test_every_alert_reaches_a_receiver_that_comes_back(steps: list[str]) -> None:
    box, now, number, raised, heard = Outbox(RENEW), 0, 0, False, []
    expected: list[tuple[str, str]] = []
    for each in [*steps, "up"]:
        now += 61_000
        effect: Effect | None = None
        if each == "raise" and not raised:
            number, raised = number + 1, True
            effect = Raise(alert(str(number)))
        elif each == "resolve" and raised:
            raised = False
            effect = Resolve(over(alert(str(number)), now))
            expected.append((str(number), "resolved"))
        if effect:
            box.take(effect)
        notices = box.due(now)
        if each == "up" and notices:
            box.acknowledged(notices, now)
            heard += [(notice.alert.key.device, notice.status) for notice in notices]
        elif each == "down" and notices:
            box.failed(now)
    assert [(name, "resolved") for name, status in heard if status is Status.RESOLVED] == expected
    assert {name for name, status in heard if status is not Status.RESOLVED} >= ({str(number)} if raised else set())
