"""Commands over a local network: what they wait for, and what they do not."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[4] / "scripts"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("localnet.commands")


def test_nobody_waits_for_a_daemon_that_has_stopped(commands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = commands.processes
    layout = processes.Layout(tmp_path, tmp_path / "credentials")
    layout.nodes = {"node1": "qn1"}
    layout.logs.mkdir()
    (layout.logs / "node1.log").write_text("out of paper\n")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        processes._pid_file(layout, "node1").write_text(f"{child.pid} {processes._started(child.pid)}")
        asked = []

        def height_of(_layout: object, name: str) -> int:
            asked.append(name)
            child.kill()
            child.wait()
            return 0

        monkeypatch.setattr(commands, "height_of", height_of)
        with pytest.raises(processes.Failed, match=r"node1 has stopped\. Its last words:\nout of paper"):
            commands.wait_seen(layout, 1)
    assert asked == ["node1"]
