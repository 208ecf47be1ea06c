"""Logs as a daemon writes them: in a process of its own, because logging is configured once a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from qustream.aio.logs import configure_logs, logger
configure_logs(sys.argv[1])
log = logger("part")
log.debug("quiet")
log.info("said", number=7, text="\\ud800 and \\n")
try:
    raise ValueError("boom")
except ValueError:
    log.exception("failed")
print("still here")
"""


def run(level: str, stderr: object = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, level], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, timeout=30)  # type: ignore[call-overload, no-any-return]


def test_one_json_object_a_line_with_level_time_and_part() -> None:
    lines = [json.loads(line) for line in run("info").stderr.splitlines()]
    assert [(line["event"], line["level"], line["part"]) for line in lines] == [("said", "info", "part"), ("failed", "error", "part")]
    assert lines[0]["number"] == 7
    assert lines[0]["timestamp"].endswith("Z")
    assert "ValueError: boom" in lines[1]["exception"]


def test_the_level_decides_what_is_written() -> None:
    assert "quiet" in run("debug").stderr
    assert "said" not in run("error").stderr


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    with Path("/dev/full").open("w") as full:
        assert run("info", full).stdout == "still here\n"
