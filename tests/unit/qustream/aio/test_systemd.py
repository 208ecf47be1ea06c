"""sd_notify over a real datagram socket, and none of it without one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qustream.aio.systemd import notify, watchdog_interval_ms


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_all_fields_travel_in_one_datagram(manager: socket.socket) -> None:
    notify(READY="1", STATUS="ready; pool 8/8")
    assert manager.recv(4096) == b"READY=1\nSTATUS=ready; pool 8/8"


def test_a_value_never_brings_a_field_of_its_own(manager: socket.socket) -> None:
    notify(STATUS="first\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=first"
    notify(STATUS="")
    assert manager.recv(4096) == b"STATUS="


def test_an_abstract_address_works(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"qustream-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify(WATCHDOG="1")
        assert sock.recv(64) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:2:1234"])
def test_no_manager_is_no_trouble(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify(READY="1")


def test_a_manager_that_does_not_read_never_blocks(manager: socket.socket) -> None:
    for _ in range(5000):
        notify(STATUS="x" * 200)
    assert manager.recv(4096).startswith(b"STATUS=x")


@pytest.mark.parametrize(
    ("usec", "pid", "half_ms"),
    [("30000000", "", 15_000), ("30000000", "ours", 15_000), ("30000000", "1", None), ("", "", None), ("soon", "", None), ("1", "", 1)],
)
def test_the_watchdog_is_fed_at_half_its_time(monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, half_ms: int | None) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert watchdog_interval_ms() == half_ms
