"""A real `qrngd alert` in a process of its own, and Debian's Prometheus and Alertmanager beside it, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import STOP_S, until
from support.debian import HOME, program
from support.network import BIN
from support.places import free_port, host

__all__ = ["Alertmanager", "Prometheus", "Pusher"]


class _Program:
    """Something that is started, looked at, and stopped."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log_path = folder, folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.command_line: list[str | Path] = []  # put in front of the program

    def spawn(self, *command: str | Path, cwd: Path | None = None, **environment: str) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command_line, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd or self.folder,
                env=os.environ | environment,
            )

    def stop(self) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.terminate()
        try:
            return process.wait(STOP_S)
        finally:
            process.kill()

    def answers(self, url: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_path.read_text()
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Pusher(_Program):
    """`qrngd alert` with this configuration, which is TOML; impatient, so that tests are short."""

    def __init__(self, folder: Path, config: str, **credentials: bytes) -> None:
        super().__init__(folder, "pusher")
        self.config = folder / "alert.toml"
        self.config.write_text("interval_s = 1\nsettle_s = 1\n" + config)
        (folder / "credentials").mkdir()
        for name, secret in credentials.items():
            (folder / "credentials" / name.replace("_", ".")).write_bytes(secret)

    @contextmanager
    def running(self, **environment: str) -> Iterator[Pusher]:
        before = len(self.events("watching"))
        self.spawn(BIN / "qrngd", "alert", "--config", self.config, CREDENTIALS_DIRECTORY=str(self.folder / "credentials"), **environment)
        try:
            until(lambda: len(self.events("watching")) > before or self.process is None or self.process.poll() is not None)
            assert self.process is not None
            assert self.process.poll() is None, self.log_path.read_text()
            yield self
        finally:
            code = self.stop()
        assert code == 0, self.log_path.read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log that say it."""
        lines = self.log_path.read_text().splitlines() if self.log_path.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in found if line["event"] == event]


class Alertmanager(_Program):
    """Alertmanager on loopback, which tells nobody; it may be stopped and started again."""

    def __init__(self, folder: Path, config: str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n") -> None:
        super().__init__(folder, "alertmanager")
        self.address = f"{host(7)}:{free_port(7)}"
        (folder / "alertmanager.yml").write_text(config)

    def start(self) -> None:
        name = program("alertmanager")
        assert name is not None
        self.spawn(
            name, f"--config.file={self.folder / 'alertmanager.yml'}", f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}", "--cluster.listen-address=", "--log.level=warn",
            cwd=HOME if name.is_relative_to(HOME) else None,
        )  # fmt: skip
        until(lambda: self.answers(f"http://{self.address}/-/ready"))

    @contextmanager
    def running(self) -> Iterator[Alertmanager]:
        self.start()
        try:
            yield self
        finally:
            if self.process is not None:
                self.stop()

    def alerts(self) -> dict[str, dict[str, Any]]:
        """What it holds to be firing, by name."""
        with urllib.request.urlopen(f"http://{self.address}/api/v2/alerts", timeout=60) as answer:
            return {alert["labels"]["alertname"]: alert for alert in json.load(answer)}


class Prometheus(_Program):
    """Prometheus on loopback with this configuration."""

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(folder, "prometheus")
        self.address = f"{host(7)}:{free_port(7)}"
        (folder / "prometheus.yml").write_text(config)

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        name = program("prometheus")
        assert name is not None
        self.spawn(
            name, "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={self.address}", "--log.level=warn"
        )
        try:
            until(lambda: self.answers(f"http://{self.address}/-/ready"))
            yield self
        finally:
            self.stop()

    def ask(self, path: str) -> Any:
        """The `data` of an answer of its API."""
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}", timeout=60) as answer:
            return json.load(answer)["data"]
