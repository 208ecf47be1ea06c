"""A line that changes: where a person looks on, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.emulated_line import raw_line
from support.network import BIN

TERMINAL_BYTES = 4096  # what a terminal keeps for whoever reads it late; the lines of a second are far less


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_self_test_shows_that_it_works_to_who_looks_on(tmp_path: Path, is_seen: bool) -> None:
    ours, theirs = os.openpty() if is_seen else os.pipe()
    link = tmp_path / "line"
    try:
        with raw_line(link, rate=100_000):
            command = [BIN / "qrngd", "selftest", "--device", f"serial:{link}", "--seconds", "1.2"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
        os.set_blocking(ours, False)
        os.close(theirs)
        said = _all_of(ours)
    finally:
        os.close(ours)
    assert "PASSED" in done.stdout
    assert (" windows" in said and said.startswith("\r")) == is_seen
    assert said.endswith("\r\n") or not is_seen
    assert is_seen or not said


def _all_of(handle: int) -> str:
    try:
        return os.read(handle, TERMINAL_BYTES).decode()
    except BlockingIOError:
        return ""
