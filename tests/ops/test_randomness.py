"""`scripts/randomness`: the report has both streams, names what is missing, and says when the device fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/randomness.py"


def report(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = None if path is None else {"PATH": path}
    return subprocess.run([sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_programs_that_are_missing_are_named(tmp_path: Path) -> None:
    done = report("--programs", "ent,rngtest", path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "MISSING, not run: ent, rngtest"
    assert json.loads(report("--programs", "ent", "--json", path=str(tmp_path)).stdout) == {
        "device": "emulator",
        "megabytes": 100,
        "missing": ["ent"],
        "rows": [],
    }
    assert report("--programs", "entropy").returncode == 1


@pytest.mark.needs("ent", "rngtest")
def test_both_streams_are_reported() -> None:
    done = report("--programs", "ent,rngtest", "--megabytes", "2", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["figure"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["blocks"]["qrngd"] == rows["blocks"]["urandom"] == 799
    for side in ("qrngd", "urandom"):
        assert rows["entropy a byte"][side] > 7.999
        assert rows["blocks failed"][side] < 40


@pytest.mark.needs("ent", "rngtest")
def test_a_device_that_fails_ends_the_report_with_its_code() -> None:
    done = report("--programs", "ent", "--megabytes", "9", "--device", "emulator:stuck@bytes=4000000")
    assert (done.returncode, done.stderr.splitlines()[-1].partition(":")[0]) == (1, "E-DEV-LATCHED")
