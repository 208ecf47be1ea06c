"""Alerts: nothing a stranger does fills the disk, pushes a stolen device out of sight, or loses count."""

from hypothesis import given, settings
from hypothesis import strategies as st

from qnode.core.delivery_alerts import (
    ALERT_KEEP_MS,
    ALERTS_A_CODE_MAX,
    NODE_WRITES_A_MINUTE,
    NOTE_INTERVAL_MS,
    REMEMBERED_MAX,
    USER_WRITES_A_MINUTE,
    AlertGate,
    AlertNote,
    newest,
    noted,
    unexpired,
)
from qustream.wire.keys import Alert

ALICE, PHONE = b"a" * 32, b"p" * 32
UNKNOWN, REVOKED = "E-DEVICE-UNKNOWN", "E-DEVICE-REVOKED"
NOW = 1_800_000_000_000


def device(n):
    return n.to_bytes(32, "big")


def test_the_first_attempt_is_written_at_once_and_the_next_are_added_up():
    gate = AlertGate()
    assert gate.attempted(AlertNote(ALICE, UNKNOWN, PHONE, NOW)) == AlertNote(ALICE, UNKNOWN, PHONE, NOW)
    for n in range(5):
        assert gate.attempted(AlertNote(ALICE, UNKNOWN, PHONE, NOW + n)) is None
    assert gate.ripe(NOW + NOTE_INTERVAL_MS - 1) == []
    assert gate.ripe(NOW + NOTE_INTERVAL_MS) == [AlertNote(ALICE, UNKNOWN, PHONE, NOW + 4, 5)]
    assert gate.ripe(NOW + 2 * NOTE_INTERVAL_MS) == []


def test_what_was_counted_is_written_with_the_next_attempt():
    gate = AlertGate()
    for at in (NOW, NOW + 1, NOW + 2):
        gate.attempted(AlertNote(ALICE, UNKNOWN, PHONE, at))
    later = NOW + NOTE_INTERVAL_MS
    assert gate.attempted(AlertNote(ALICE, UNKNOWN, PHONE, later)) == AlertNote(ALICE, UNKNOWN, PHONE, later, 3)


def test_a_flood_of_invented_devices_is_written_no_faster_than_the_bound():
    gate = AlertGate()
    written = [gate.attempted(AlertNote(ALICE, UNKNOWN, device(n), NOW + n)) for n in range(10_000)]  # ten seconds
    assert sum(note is not None for note in written) == USER_WRITES_A_MINUTE + USER_WRITES_A_MINUTE * 10 // 60
    assert gate.dropped == 10_000 - sum(note is not None for note in written)
    assert gate.attempted(AlertNote(ALICE, REVOKED, PHONE, NOW + 10_000)) is not None, "the stolen phone is still seen"


def test_a_flood_over_all_users_is_bounded_too_on_disk_and_in_memory():
    gate = AlertGate()
    written = [gate.attempted(AlertNote(device(n), UNKNOWN, PHONE, NOW)) for n in range(5000)]
    assert sum(note is not None for note in written) == NODE_WRITES_A_MINUTE
    assert max(len(gate._users), len(gate._notes)) <= REMEMBERED_MAX


def test_asking_often_does_not_starve_the_bucket():
    gate = AlertGate()
    written = 0
    for ms in range(0, 120_001, 5):
        written += gate.attempted(AlertNote(ALICE, UNKNOWN, device(ms), NOW + ms)) is not None
    assert written == USER_WRITES_A_MINUTE * 3


def test_a_clock_that_jumps_back_gives_no_extra_writes():
    gate = AlertGate()
    written = [gate.attempted(AlertNote(ALICE, UNKNOWN, device(n), NOW - n * 60_000)) for n in range(100)]
    assert sum(note is not None for note in written) == USER_WRITES_A_MINUTE


def test_unknown_devices_never_displace_revoked_ones():
    alerts = noted((), AlertNote(ALICE, REVOKED, PHONE, NOW))
    for n in range(100):
        alerts = noted(alerts, AlertNote(ALICE, UNKNOWN, device(n), NOW + 1 + n))
    assert len(alerts) == ALERTS_A_CODE_MAX + 1
    assert alerts[0] == Alert(REVOKED, PHONE, NOW, 1)
    assert [alert.device for alert in alerts[1:]] == [device(n) for n in range(68, 100)]


def test_a_device_seen_again_counts_up_and_moves_to_the_end():
    alerts = noted(noted((), AlertNote(ALICE, UNKNOWN, PHONE, NOW)), AlertNote(ALICE, UNKNOWN, device(1), NOW + 1))
    assert noted(alerts, AlertNote(ALICE, UNKNOWN, PHONE, NOW + 2, 3))[-1] == Alert(UNKNOWN, PHONE, NOW + 2, 4)


@given(st.lists(st.tuples(st.sampled_from([UNKNOWN, REVOKED]), st.integers(0, 50), st.integers(0, 10**6)), max_size=150))
@settings(max_examples=50, deadline=None)
def test_a_users_notes_stay_bounded_ordered_and_fit_an_answer(attempts):
    alerts = ()
    for code, n, ms in attempts:
        alerts = noted(alerts, AlertNote(ALICE, code, device(n), NOW + ms))
    assert len(alerts) <= 2 * ALERTS_A_CODE_MAX == 64
    assert list(alerts) == sorted(alerts, key=lambda alert: alert.at_ms)
    assert len({(alert.code, alert.device) for alert in alerts}) == len(alerts)


def test_notes_go_after_their_time_and_a_reader_sees_what_is_new_to_him():
    alerts = tuple(Alert(UNKNOWN, device(n), NOW + n, 1) for n in range(4))
    assert newest(alerts, NOW + 1, NOW + 4) == alerts[2:]
    assert unexpired(alerts, NOW + ALERT_KEEP_MS + 1) == alerts[2:]
