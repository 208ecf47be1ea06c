"""Service units as systemd sees them, for tests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

__all__ = ["DEPLOY", "NO_NEW_CODE", "Unit", "calls_of", "system_calls"]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
# A program in front of another, for `python -c`: prctl(2), PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN, as MemoryDenyWriteExecute= has it.
NO_NEW_CODE = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def analyze(*arguments: str | Path) -> str:
    """What systemd-analyze says."""
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


def calls_of(trace: Path) -> set[str]:
    """The system calls in what strace wrote."""
    return set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z0-9_]+)[ (]", trace.read_text(errors="replace"), re.MULTILINE))


class Unit:
    """The unit file `name` of deploy/systemd."""

    def __init__(self, name: str) -> None:
        self.name, self.path = name, DEPLOY / "systemd" / name

    def settings(self, name: str) -> list[str]:
        """The values of every line `name=`, in order."""
        return [line.partition("=")[2] for line in self.path.read_text().splitlines() if line.startswith(f"{name}=")]

    def exposure(self) -> float:
        """How much it is exposed: 0 to 10."""
        said = analyze("security", "--offline=true", self.path)
        [exposure] = re.findall(rf"Overall exposure level for {re.escape(self.name)}: ([0-9.]+)", said)
        return float(exposure)

    def complaints(self) -> list[str]:
        """What systemd finds wrong with it, but for programs and manual pages that this machine does not have."""
        lines = [line for line in analyze("verify", self.path).splitlines() if self.name in line]
        return [line for line in lines if "not executable" not in line and "Command 'man" not in line]

    def allowed_calls(self) -> set[str]:
        """The system calls its filter lets through."""
        allowed, forbidden = set[str](), set[str]()
        for value in self.settings("SystemCallFilter"):
            target = forbidden if value.startswith("~") else allowed
            target.update(*(system_calls(group) for group in value.lstrip("~").split()))
        return allowed - forbidden
