"""Logs as a daemon writes them: in a process of its own, because logging is configured once a process."""

from __future__ import annotations

import json
import os
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
    return subprocess.run([sys.executable, "-c", PROGRAM, level], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True, timeout=60)  # type: ignore[call-overload, no-any-return]


def test_one_json_object_a_line_with_level_time_and_part() -> None:
    lines = [json.loads(line) for line in run("info").stderr.splitlines()]
    assert [(line["event"], line["level"], line["part"]) for line in lines] == [("said", "info", "part"), ("failed", "error", "part")]
    assert lines[0]["number"] == 7
    assert lines[0]["timestamp"].endswith("Z")
    assert "ValueError: boom" in lines[1]["exception"]


def test_the_level_decides_what_is_written() -> None:
    assert "quiet" in run("debug").stderr
    assert "said" not in run("error").stderr


def test_in_the_journal_every_line_has_its_priority(tmp_path: Path) -> None:
    program = PROGRAM + 'log.warning("warned")\nlog.critical("lost")\n'
    written = tmp_path / "journal"
    with written.open("wb") as stream:
        status = os.fstat(stream.fileno())
        journal = f"{status.st_dev}:{status.st_ino}"
        # The second process writes elsewhere, into a pipe, though it has inherited the variable: no priorities there.
        for stderr in (stream, subprocess.PIPE):
            done = subprocess.run(
                [sys.executable, "-c", program, "debug"], stdout=subprocess.PIPE, stderr=stderr, check=True, timeout=60,
                env={**os.environ, "JOURNAL_STREAM": journal},
            )  # fmt: skip
    lines = written.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<3>", "<4>", "<2>"]
    assert [json.loads(line[3:])["level"] for line in lines] == ["debug", "info", "error", "warning", "critical"]
    assert [json.loads(line)["level"] for line in done.stderr.splitlines()] == ["debug", "info", "error", "warning", "critical"]


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    with Path("/dev/full").open("w") as full:
        assert run("info", full).stdout == "still here\n"
