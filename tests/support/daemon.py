"""A daemon of ours in a process of its own, for tests: started, looked at, stopped, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from support.network import BIN

__all__ = ["PATIENCE_S", "DaemonProcess", "until"]

PATIENCE_S = 60.0  # a loaded machine; usually half a second
STOP_S = 60.0  # likewise; a node lets out what is in flight for five
# Between two looks: what costs little is seen at once, and nothing later than a test would notice.
LOOK_S, LOOK_MAX_S = 0.01, 0.5


def until(condition: Callable[[], object], *, patience_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds. What it costs to ask is a fifth of the time at most: several tests ask daemons for pages at once, and
    take the processor from what they wait for."""
    began = time.monotonic()
    ends = began + patience_s
    while not condition():
        now = time.monotonic()
        assert now < ends, "it did not come about"
        time.sleep(min(LOOK_MAX_S, max(LOOK_S, 4 * (now - began))))
        began = time.monotonic()


class DaemonProcess:
    """The daemon `name`, with configuration, data, credential and log in `folder`; it may run several times on the same data.

    `addresses`, `pages`: as it says in its log where it listens. `command_line`: put in front of the program. `start_s`: how long it may
    take to listen."""

    start_s = PATIENCE_S

    def __init__(self, name: str, folder: Path, *, credential: str, passphrase: bytes) -> None:
        self.program = BIN / name
        self.folder, self.config, self.log_path, self.data_dir = folder, folder / f"{name}.toml", folder / "log", folder / "data"
        self.addresses: list[str] = []
        self.pages = ""
        self.command_line: list[str | Path] = []
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "credentials").mkdir(parents=True)
        (folder / "credentials" / credential).write_bytes(passphrase)

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CREDENTIALS_DIRECTORY": str(self.folder / "credentials")}

    @contextmanager
    def running(self, **environment: str) -> Iterator[Self]:
        """Start it, wait until it listens, stop it; it must stop by itself and well."""
        try:
            self.start(**environment)
            yield self
        finally:
            code = self.stop()
        assert code in (0, None), self.log_path.read_text()

    def start(self, *, pass_fds: Sequence[int] = (), **environment: str) -> None:
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.command_line, self.program, "run", "--config", self.config],
                stdin=subprocess.DEVNULL, stderr=log, env=self.environment | environment, pass_fds=pass_fds,
            )  # fmt: skip
        ends = time.monotonic() + self.start_s
        while not (found := [line for line in self.log() if line["event"] == "listening"]):
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < ends, f"{self.program.name} does not come up"
            time.sleep(0.01)
        self.addresses, self.pages = found[0]["addresses"], found[0]["pages"]

    def stop(self) -> int | None:
        """SIGTERM; the exit code, None if it was stopped already."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(STOP_S)
        finally:
            process.kill()

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer would."""
        process, self.process = self.process, None
        assert process is not None
        process.kill()
        assert process.wait(STOP_S) == -signal.SIGKILL

    def children(self) -> list[int]:
        """The processes it has started and that still run."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # ended meanwhile
                state, parent = entry.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.append(int(entry.parent.name))
        return found

    def log(self) -> list[dict[str, Any]]:
        """The whole lines of the log so far."""
        lines = self.log_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def page(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://{self.pages}{path}", timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()
