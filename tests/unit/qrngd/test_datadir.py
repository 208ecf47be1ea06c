"""One daemon a directory, and numbers that never come again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qrngd.datadir import RUN_NUMBERS, DataDirectory
from qustream.errors import OperatorFault


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    DataDirectory.create(tmp_path / "data")
    return tmp_path / "data"


def test_runs_rise_across_restarts(directory: Path) -> None:
    firsts = []
    for _ in range(3):
        with DataDirectory(directory) as opened:
            firsts += [opened.next_run(), opened.next_run()]
    assert firsts == [RUN_NUMBERS * n for n in range(1, 7)]
    assert (directory / "run").read_text() == "6\n"
    assert (directory / "run").stat().st_mode & 0o077 == 0


def test_creating_again_keeps_the_numbers(directory: Path) -> None:
    with DataDirectory(directory) as opened:
        opened.next_run()
    DataDirectory.create(directory)
    with DataDirectory(directory) as opened:
        assert opened.next_run() == 2 * RUN_NUMBERS


def test_a_second_daemon_is_refused(directory: Path) -> None:
    with DataDirectory(directory), pytest.raises(OperatorFault, match="E-DATA-LOCKED"):
        DataDirectory(directory)
    DataDirectory(directory).close()


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777])
def test_a_directory_that_others_may_write_is_refused(directory: Path, mode: int) -> None:
    """A latch could be moved away with its folder, whoever may read it."""
    directory.chmod(mode)
    with pytest.raises(OperatorFault, match="chmod 0700"):
        DataDirectory(directory)
    directory.chmod(0o750)
    DataDirectory(directory).close()


def test_who_holds_it_for_a_moment_stops_nobody(directory: Path) -> None:
    held = DataDirectory(directory)
    release = threading.Timer(0.3, held.close)
    release.start()
    with DataDirectory(directory) as opened:
        assert opened.next_run() == RUN_NUMBERS
    release.join()


def test_a_killed_process_leaves_no_lock_and_no_number(directory: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from qrngd.datadir import DataDirectory
print(DataDirectory(Path({str(directory)!r})).next_run(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert died.stdout == f"{RUN_NUMBERS}\n"
    with DataDirectory(directory) as opened:
        assert opened.next_run() == 2 * RUN_NUMBERS


@pytest.mark.parametrize("content", [b"", b"x\n", b"-1\n", b"1.5", b"9" * 30, b"\xb2\n"])
def test_a_damaged_number_is_not_made_up(directory: Path, content: bytes) -> None:
    (directory / "run").write_bytes(content)
    with DataDirectory(directory) as opened, pytest.raises(OperatorFault, match=r"E-DATA-CORRUPT|E-FILE"):
        opened.next_run()


def test_a_missing_number_is_not_zero(directory: Path) -> None:
    (directory / "run").unlink()
    with DataDirectory(directory) as opened, pytest.raises(OperatorFault, match="E-FILE"):
        opened.next_run()


def test_the_last_run_is_refused_rather_than_wrapped(directory: Path) -> None:
    (directory / "run").write_text(f"{(1 << 23) - 1}\n")
    os.chmod(directory / "run", 0o600)
    with DataDirectory(directory) as opened, pytest.raises(OperatorFault, match="E-DATA-CORRUPT"):
        opened.next_run()


def test_no_directory_is_a_coded_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="qrngd init"):
        DataDirectory(tmp_path / "nowhere")
