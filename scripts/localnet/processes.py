"""Daemons of a local test network as real processes: start, see, stop, kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from localnet.layout import Layout

BIN = Path(sys.executable).parent
STOP_SECONDS = 15.0  # a daemon that has not left by then is killed
GONE_SECONDS = 60.0  # for the kernel to take a killed one away, which needs the processor, too
POLL_SECONDS = 0.05
# As in the systemd units: freed 256 KiB buffers are kept for the next message instead of returned to the kernel.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}


class Failed(Exception):
    """What went wrong with a daemon, in words for the user."""


def start(layout: Layout, name: str) -> None:
    """Start one daemon in a session of its own, its output appended to `logs/NAME.log`."""
    program = "qrngd" if name == "qrngd" else "qnode"
    environment = os.environ | MALLOC | {"CREDENTIALS_DIRECTORY": str(layout.new_credential(name))}
    with (layout.logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            [BIN / program, "run", "--config", layout.config(name)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment, cwd=layout.directory,
        )  # fmt: skip
    _pid_file(layout, name).write_text(f"{child.pid} {_started(child.pid)}")


def taken(layout: Layout, name: str) -> str:
    """The address of this daemon that another program listens on, or ''."""
    for address in (layout.listen(name), layout.status_listen(name)):
        host, _, port = address.rpartition(":")
        with socket.socket() as probe_socket:
            probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe_socket.bind((host, int(port)))
            except OSError:
                return address
    return ""


def pid(layout: Layout, name: str) -> int | None:
    """The process id of a running daemon, or None. A recycled id is told apart by its start time."""
    try:
        number, started = _pid_file(layout, name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(number) if _started(int(number)) == started else None


def send(layout: Layout, name: str, which: signal.Signals) -> bool:
    number = pid(layout, name)
    if number is None:
        return False
    os.kill(number, which)
    return True


def stop(layout: Layout, names: Iterable[str], *, hard: bool = False) -> list[str]:
    """Stop daemons and wait for their end; return those that had to be killed."""
    told = [n for n in names if send(layout, n, signal.SIGKILL if hard else signal.SIGTERM)]
    left = _left(layout, told, GONE_SECONDS if hard else STOP_SECONDS)
    for name in left:
        send(layout, name, signal.SIGKILL)
    _left(layout, left, GONE_SECONDS)  # the kernel takes its time, and whoever removes their files next must not meet them
    for name in names:
        if pid(layout, name) is None:
            _pid_file(layout, name).unlink(missing_ok=True)
    return left


def _left(layout: Layout, names: list[str], patience: float) -> list[str]:
    """Wait for the end of these; those that have not come to it after `patience`, in seconds."""
    deadline = time.monotonic() + patience
    while (names := [n for n in names if pid(layout, n) is not None]) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return names


def probe(layout: Layout, name: str, path: str = "/readyz") -> tuple[int, dict[str, object]]:
    """Ask a daemon's status address; (0, {}) when nobody answers."""
    url = f"http://{layout.status_listen(name)}{path}"
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status, _json(answer.read(65536))
    except urllib.error.HTTPError as refusal:
        return refusal.code, _json(refusal.read(65536))
    except OSError:
        return 0, {}


def last_words(layout: Layout, name: str, lines: int = 8) -> str:
    try:
        return "\n".join((layout.logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def _json(raw: bytes) -> dict[str, object]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {"value": value}


def _pid_file(layout: Layout, name: str) -> Path:
    return layout.directory / f"{name}.pid"


def _started(number: int) -> str:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22); '' when gone or a zombie."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    if fields[0] == "Z":
        _reap(number)
        return ""
    return fields[19]


def _reap(number: int) -> None:
    try:
        os.waitpid(number, os.WNOHANG)
    except ChildProcessError:
        return
