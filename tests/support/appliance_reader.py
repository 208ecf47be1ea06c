"""The reader of an entropy appliance in a process of its own, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from support.appliance import TOKEN, Appliance, Authority
from support.daemon import PATIENCE_S, until
from support.network import BIN

__all__ = ["Reader"]


class Reader:
    """`qrngd reader` in a process of its own, with its configuration, token and log in `folder`. `command_line`: put in front."""

    def __init__(self, folder: Path, appliance: Appliance, authority: Authority, **settings: object) -> None:
        folder.mkdir()
        (folder / "state").mkdir()
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.folder, self.config, self.fifo = folder, folder / "qrngd-reader.toml", folder / "fifo"
        values: dict[str, object] = {
            "url": appliance.url, "authority_file": str(authority.file), "token_file": "token", "output": "fifo",
            "metrics_file": "reader.prom", "quota_bytes_per_day": 1 << 30, "state_dir": "state",
        }  # fmt: skip
        self.config.write_text(
            "".join(f"{name} = {json.dumps(value)}\n" for name, value in (values | settings).items() if value is not None)
        )
        self.command_line: list[str | Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        command = [BIN / "qrngd", "reader", "--config", self.config, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=self._environment)

    def __enter__(self) -> Reader:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command_line, BIN / "qrngd", "reader", "--config", self.config], stderr=log, env=self._environment
            )
        until(lambda: self.events("reading"))
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(PATIENCE_S) == 0, self.log

    @property
    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == name]
