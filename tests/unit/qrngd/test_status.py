"""One picture, three renderings: JSON, text, a line for systemd."""

from __future__ import annotations

import msgspec
import pytest

from qrngd.status import (
    AlarmCounts,
    DeviceStatus,
    FeedStatus,
    NodeStatus,
    StateChange,
    StatusFlag,
    StatusSnapshot,
    status_line,
    status_text,
)

DEVICE = DeviceStatus(
    name="card1", kind="chardev", model="card", serial="7", source="", path="/dev/qrandom0", emulated=False, state="live", code="",
    reason="the start-up test passed", since_ms=1000, live_ms=3_600_000, opened=1, read_errors=0,
    history=(StateChange(1000, "testing", "live", "", "the start-up test passed"),), sample_bits=8, min_entropy_millibits=6000,
    rct_cutoff=8, apt_cutoff=40, apt_window=512, raw_bytes=2_500_000, samples=2_500_000, windows=38, windows_passed=37,
    windows_discarded=0, windows_startup=1, alarms=AlarmCounts(0, 0, 0), conditioned_bytes=1_240_000, seed_bytes=3600,
    credited_bits=9_920_000, rate_bps=4_000_000, nominal_rate_bps=0, min_entropy_estimate_millibits=6512,
    flags=(StatusFlag("voltage_low", True), StatusFlag("initialized", False)), worker_restarts=0, latch_trouble="", stock_bytes=524_796,
    stock_dropped_bytes=0,
)  # fmt: skip
FEED = FeedStatus(
    nodes=(NodeStatus("qn1abc", "tls", 5, 3, 1, 12),), allowed=6, units_made=13, units_delivered=12, units_discarded=0,
    attestations=4, opened=2, refused=1, dropped=0, connections=1, handshakes_failed=0,
    connections_refused=0,
)  # fmt: skip
GOOD = StatusSnapshot(
    version="1", server="qr1xyz", chain="test", now_ms=7_560_000, started_ms=0, ready=True, code="", reason="", registry_trouble="",
    leaf_log_trouble="", memory_locked=True, devices=(DEVICE,), feed=FEED,
)  # fmt: skip
FAILED = msgspec.structs.replace(
    GOOD,
    ready=False,
    reason="window 9: stuck",
    devices=(msgspec.structs.replace(DEVICE, state="failed", code="E-DEV-LATCHED", reason="window 9: stuck", emulated=True),),
)


def test_json_holds_everything() -> None:
    assert StatusSnapshot.from_json(GOOD.to_json()) == GOOD
    with pytest.raises(ValueError, match="version"):
        StatusSnapshot.from_json(b"{}")


def test_one_line() -> None:
    assert status_line(GOOD) == "live; 1 nodes fed, 12 units delivered"
    assert status_line(FAILED) == "failed: window 9: stuck; 1 nodes fed, 12 units delivered"


def test_one_screen() -> None:
    text = status_text(GOOD)
    assert "up 2 h 6 min" in text
    assert "2.5 MB read (500 kB/s), 1.24 MB conditioned, 525 kB in stock" in text
    assert "6 bits a sample of 8 counted on, estimated 6.51" in text
    assert "reports      voltage_low" in text
    assert "qn1abc  tls  12 units, wants 3 more" in text
    assert "EMULATED" not in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "E-DEV-LATCHED: window 9: stuck" in status_text(FAILED)
    assert "remedy       examine the device" in status_text(FAILED)
    assert "remedy" not in text
    assert "NOT READY" not in text
    assert "\nNOT READY    window 9: stuck\n" in status_text(FAILED)
    assert "\nNOT READY    E-DEV-LATCHED: window 9: stuck\n" in status_text(msgspec.structs.replace(FAILED, code="E-DEV-LATCHED"))
    assert "EMULATED" in status_text(FAILED)


def test_no_text_commands_the_terminal_or_begins_a_line() -> None:
    lie = "\x1b[2J\x9b1m\u202e\r\nstate        live: all is well"
    text = status_text(msgspec.structs.replace(FAILED, devices=(msgspec.structs.replace(DEVICE, reason=lie, serial=lie, code=lie),)))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert len([line for line in text.splitlines() if line.startswith("state ")]) == 1


def test_devices_are_told_apart() -> None:
    other = msgspec.structs.replace(DEVICE, name="card2", state="absent", code="E-DEV-ABSENT", reason="/dev/qrandom1: No such device")
    both = msgspec.structs.replace(GOOD, devices=(DEVICE, other))
    assert status_line(both) == "card1 live, card2 absent; 1 nodes fed, 12 units delivered"
    assert "card2: card 7" in status_text(both)
    assert "E-DEV-ABSENT" in status_text(both)


def test_a_latch_that_would_be_lost_is_on_the_screen() -> None:
    unwritten = msgspec.structs.replace(FAILED.devices[0], latch_trouble="E-DISK-FULL: no space")
    assert "NOT ON DISK, do not restart: E-DISK-FULL" in status_text(msgspec.structs.replace(FAILED, devices=(unwritten,)))


def test_what_stops_everything_is_on_the_screen() -> None:
    full = msgspec.structs.replace(GOOD, ready=False, code="E-DISK-FULL", leaf_log_trouble="E-DISK-FULL: no space", memory_locked=False)
    assert "leaf log     E-DISK-FULL: no space" in status_text(full)
    assert "memory may be swapped" in status_text(full)
