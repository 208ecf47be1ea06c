"""The status line and the watchdog, over a real datagram socket, with a clock that jumps."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from qustream.aio.heartbeat import heartbeat


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield sock


@pytest.mark.parametrize(("watchdog_us", "beats"), [(None, 3), ("30000000", 3), ("4000000", 6)])
async def test_it_beats_as_often_as_is_asked(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, watchdog_us: str | None, beats: int
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if watchdog_us is not None:
        monkeypatch.setenv("WATCHDOG_USEC", watchdog_us)
    said = iter(range(100))
    with trio.move_on_after(11):
        await heartbeat(lambda: f"look {next(said)}")
    for number in range(beats):
        assert manager.recv(4096) == f"STATUS=look {number}\nWATCHDOG=1".encode()
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
