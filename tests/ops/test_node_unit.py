"""The node's systemd unit: how much it is exposed, and that what it forbids a node never does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.node import QNode
from support.qrng_server import Server

from qustream.identity.signing import SigningKey

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "qnode.service"
EXPOSURE_MAX = 1.4


def settings(name: str) -> list[str]:
    """The values of every line `name=` of the unit, in order."""
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


def analyze(*arguments: str | Path) -> str:
    done = subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def system_calls(group: str) -> set[str]:
    """The system calls of a group of systemd's filter, groups in it resolved."""
    found: set[str] = set()
    for line in analyze("syscall-filter", group).splitlines()[1:]:
        name = line.partition("#")[0].strip()
        if name:
            found |= system_calls(name) if name.startswith("@") else {name}
    return found


@pytest.mark.needs("systemd-analyze")
def test_the_node_is_hardly_exposed() -> None:
    said = analyze("security", "--offline=true", UNIT)
    [exposure] = re.findall(r"Overall exposure level for qnode.service: ([0-9.]+)", said)
    assert float(exposure) <= EXPOSURE_MAX, said


@pytest.mark.needs("systemd-analyze")
def test_the_unit_has_no_setting_that_systemd_does_not_know() -> None:
    complaints = [line for line in analyze("verify", UNIT).splitlines() if "qnode.service" in line]
    assert [line for line in complaints if "not executable" not in line] == []


def test_the_unit_and_the_daemon_agree() -> None:
    assert settings("Type") == ["notify"]
    assert settings("RestartPreventExitStatus") == ["78"]
    assert float(settings("TimeoutStopSec")[0]) >= 10  # draining takes five seconds, closing one more
    assert settings("LimitCORE") == ["0"]
    assert settings("LoadCredentialEncrypted")[0].startswith("qnode:")
    assert settings("User") == ["qnode"]
    assert re.search(r"^u qnode ", (DEPLOY / "sysusers.d" / "qnode.conf").read_text(), re.MULTILINE)


@pytest.mark.e2e
@pytest.mark.needs("systemd-analyze", "strace")
def test_every_system_call_of_a_node_is_allowed(tmp_path: Path) -> None:
    allowed, forbidden = set[str](), set[str]()
    for value in settings("SystemCallFilter"):
        target = forbidden if value.startswith("~") else allowed
        target.update(*(system_calls(group) for group in value.lstrip("~").split()))
    (tmp_path / "qrngd").mkdir()
    key, trace = SigningKey(b"n" * 32), tmp_path / "trace"
    with Server(tmp_path / "qrngd", allow=[key]).running() as server:
        node = QNode(tmp_path / "qnode", [server], key=key)
        node.command_line = ["strace", "-D", "-f", "-qq", "-o", str(trace)]
        with node.running():
            node.until_ready()
            node.page("/metrics")
    made = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z0-9_]+)[ (]", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"openat", "mmap", "epoll_wait", "fdatasync"} <= made
    assert made - (allowed - forbidden) == set()
