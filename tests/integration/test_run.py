"""`scripts/run` as a newcomer treats it: interrupted, misspelt, started beside another network."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.network import ROOT, Network, run
from support.places import free_base_port

pytestmark = pytest.mark.e2e


def processes_of(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if entry.name.isdigit() and str(directory) in line and "qnode" in line:
            found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    # `env`: a suite started in the background ignores SIGINT, and its children would too.
    command = ["env", "--default-signal=INT", ROOT / "scripts" / "run", "--network-file"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    started = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    assert started.stdout is not None
    said = []
    for line in started.stdout:
        said.append(line)
        if line.startswith("node6"):
            break
    assert said[-1].startswith("node6"), said
    [directory] = tmp_path.iterdir()
    assert len(processes_of(directory)) >= 6
    os.killpg(started.pid, number)
    started.communicate(timeout=60)
    assert started.returncode == (1 if number == signal.SIGINT else 128 + number)
    assert list(tmp_path.iterdir()) == []
    assert processes_of(directory) == []


def test_a_file_that_is_not_there_is_told_before_anything_is_made(tmp_path: Path) -> None:
    done = run(ROOT / "scripts" / "run", "no-such-file", env={"TMPDIR": str(tmp_path)})
    assert done.code == 2
    assert "no-such-file is not a file" in done.err
    assert "scripts/run" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_second_network_at_the_same_addresses_is_refused(network: Network, tmp_path: Path) -> None:
    done = run(ROOT / "scripts" / "testnet.py", "up", "--dir", tmp_path / "other", "--base-port", str(network.layout["base_port"]))
    assert done.code == 1
    assert "is taken" in done.err
    assert "--base-port" in done.err


def test_an_interrupted_up_leaves_no_half_of_a_network(tmp_path: Path) -> None:
    home = tmp_path / "net"
    with free_base_port() as port:
        command = [ROOT / "scripts" / "testnet.py", "up", "--dir", home, "--base-port", str(port)]
        started = subprocess.Popen(["env", "--default-signal=INT", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ends = time.monotonic() + 60
            while not (home / "node1").exists():
                assert started.poll() is None
                assert time.monotonic() < ends, "testnet up makes nothing"
                time.sleep(0.01)
        finally:
            started.send_signal(signal.SIGINT)
        assert started.wait(timeout=60) == 1
    assert not home.exists()
