"""Who else has a device open: processes with a lock and without one, and what the commands say of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.emulated_line import raw_line
from support.held_terminal import held, terminal
from support.network import BIN

from qrngd.cli.openers import SHOWN_MAX, openers


def test_other_processes_are_named_and_this_one_is_not(tmp_path: Path) -> None:
    link = tmp_path / "device"
    with terminal() as path:
        link.symlink_to(path)
        assert openers(link) == ""
        with held(path) as pid:
            assert openers(link).startswith(f"process {pid} ({sys.executable} -c import sys")
        assert openers(link) == ""


def test_many_are_not_all_named() -> None:
    with terminal() as path, contextlib.ExitStack() as stack:
        pids = [stack.enter_context(held(path)) for _ in range(SHOWN_MAX + 1)]
        assert openers(path).count("process ") == SHOWN_MAX
        assert openers(path).endswith(", others")
        assert str(min(pids)) in openers(path)


def test_a_name_commands_no_terminal(tmp_path: Path) -> None:
    with terminal() as path:
        process = tmp_path / "77"
        (process / "fd").mkdir(parents=True)
        (process / "fd" / "3").symlink_to(path)
        (process / "cmdline").write_bytes(b"evil\x1b[2J\nqrngd: PASSED\0" + b"x" * 1000)
        said = openers(path, tmp_path)
        assert said.startswith("process 77 (evil\ufffd[2J\ufffdqrngd: PASSED xxx")
        assert len(said) < 90


def test_nothing_is_said_of_a_fifo_a_missing_path_and_without_proc(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    try:
        assert openers(fifo) == ""
        assert openers(tmp_path / "nowhere") == ""
    finally:
        os.close(writer)
    with terminal() as path:
        assert openers(path, tmp_path / "nowhere") == ""


def test_a_capture_says_who_keeps_it_out(tmp_path: Path) -> None:
    with terminal() as path, held(path) as pid:
        command = [BIN / "qrngd", "capture", "--device", f"serial:{path}", "--out", tmp_path / "raw", "--samples", "1"]
        handle = os.open(path, os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            os.close(handle)
        assert done.returncode == 78
        assert f"process {pid} (" in done.stderr
        assert "E-DEV-LOCKED" in done.stderr
        assert "if that is qrngd, stop it first" in done.stderr


@pytest.mark.parametrize("command", ["capture", "selftest"])
def test_who_reads_beside_without_a_lock_is_told_once(tmp_path: Path, command: str) -> None:
    line = tmp_path / "line"
    wanted = ["--out", tmp_path / "raw", "--samples", "2", "--restarts", "2"] if command == "capture" else ["--bytes", "1"]
    with raw_line(line, rate=0), held(line) as pid:
        done = subprocess.run([BIN / "qrngd", command, "--device", f"serial:{line}", *wanted], capture_output=True, text=True, check=True)
    [warning] = [text for text in done.stderr.splitlines() if "Two readers share its bits" in text]
    assert f"process {pid} (" in warning
