"""The service unit of the QRNG server: how little it may do, and what the daemon needs of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "qrngd.service"
EXPOSURE_MAX = 0.8


@pytest.mark.needs("systemd-analyze")
def test_the_unit_exposes_little() -> None:
    said = subprocess.run(["systemd-analyze", "security", "--offline=true", UNIT], capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for qrngd\.service: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE_MAX


def test_the_unit_asks_for_what_the_daemon_does() -> None:
    text = UNIT.read_text()
    for line in ("Type=notify", "RestartPreventExitStatus=78", "LimitCORE=0", "MemorySwapMax=0", "DeviceAllow=/dev/hwrng r"):
        assert f"\n{line}\n" in text
    # pyOpenSSL's callbacks need memory that is written and then executed; with this directive the first handshake ends the daemon.
    assert not re.search(r"^MemoryDenyWriteExecute", text, re.MULTILINE)


def test_the_sockets_have_the_names_the_daemon_knows() -> None:
    from qrngd.sockets import NAMES

    files = (DEPLOY / "systemd").glob("qrngd*.socket")
    found = sorted(re.findall(r"^FileDescriptorName=(\w+)$", "\n".join(f.read_text() for f in files), re.MULTILINE))
    assert found == sorted(NAMES)
