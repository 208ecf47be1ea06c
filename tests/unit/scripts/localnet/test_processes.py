"""Daemons of a local network: whoever does not leave is killed, and is gone when `stop` returns."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[4] / "scripts"
STUBBORN = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print("up", flush=True); time.sleep(600)'


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("localnet.processes")


@pytest.mark.parametrize("hard", [False, True])
def test_whoever_does_not_leave_is_killed_and_gone(processes: Any, hard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = processes.Layout(tmp_path, tmp_path / "credentials")
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        processes._pid_file(layout, "node1").write_text(f"{child.pid} {processes._started(child.pid)}")
        try:
            left = processes.stop(layout, ["node1", "node2"], hard=hard)
            assert left == ([] if hard else ["node1"])
            assert processes._started(child.pid) == ""
        finally:
            child.kill()
    assert not list(tmp_path.glob("*.pid"))
