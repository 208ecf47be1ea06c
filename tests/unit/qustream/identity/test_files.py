"""Holding a file against other processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from qustream.errors import OperatorFault
from qustream.identity import files


def test_one_holds_and_the_next_is_refused_until_it_lets_go(tmp_path: Path) -> None:
    first = files.hold(tmp_path / "lock")
    with pytest.raises(OperatorFault, match="in use by another process") as caught:
        files.hold(tmp_path / "lock")
    assert caught.value.code == "E-DATA-LOCKED"
    os.close(first)
    os.close(files.hold(tmp_path / "lock"))
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_whoever_has_patience_gets_it_when_it_is_let_go(tmp_path: Path) -> None:
    first = files.hold(tmp_path / "lock")
    timer = threading.Timer(0.2, os.close, [first])
    timer.start()
    os.close(files.hold(tmp_path / "lock", patience_s=60.0))
    timer.join()


def test_it_holds_for_a_process_and_ends_with_it(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        files.hold(tmp_path / "lock")
        os.write(write_end, b"x")
        os.kill(os.getpid(), 19)  # SIGSTOP: it holds until it is killed
        os._exit(0)
    assert os.read(read_end, 1) == b"x"
    with pytest.raises(OperatorFault, match="E-DATA-LOCKED"):
        files.hold(tmp_path / "lock")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(files.hold(tmp_path / "lock"))
    os.close(read_end)
    os.close(write_end)


def test_what_cannot_be_locked_is_a_coded_refusal(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "none" / "lock", tmp_path, tmp_path / "link"):
        with pytest.raises(OperatorFault) as caught:
            files.hold(path)
        assert caught.value.code == "E-FILE"
    assert not (tmp_path / "elsewhere").exists()
