"""Holding a file against other processes, and whose a file is that root has made."""

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


NOBODY = 65534


def owner_of(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


@pytest.mark.needs("root")
def test_what_root_writes_in_a_directory_of_somebody_else_becomes_his(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    files.create(tmp_path / "new", b"1")
    (tmp_path / "old").write_bytes(b"root's")
    files.replace(tmp_path / "old", b"2", mode=0o644)
    os.close(files.hold(tmp_path / "lock"))
    with files.locked(tmp_path / "other lock"):
        pass
    files.make_directory(tmp_path / "within")
    assert {path.name: owner_of(path) for path in tmp_path.iterdir()} == {
        "new": (NOBODY, NOBODY, 0o600), "old": (NOBODY, NOBODY, 0o644), "lock": (NOBODY, NOBODY, 0o600),
        "other lock": (NOBODY, NOBODY, 0o600), "within": (NOBODY, NOBODY, 0o700),
    }  # fmt: skip


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [0o770, 0o1777, 0o702])
def test_where_others_may_write_what_root_writes_stays_roots(tmp_path: Path, mode: int) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    tmp_path.chmod(mode)
    files.create(tmp_path / "new", b"1")
    assert owner_of(tmp_path / "new")[0] == 0


@pytest.mark.needs("root")
def test_no_file_that_was_there_before_or_elsewhere_changes_its_owner(tmp_path: Path) -> None:
    mine, his = tmp_path / "mine", tmp_path / "his"
    mine.mkdir()
    his.mkdir()
    os.chown(his, NOBODY, NOBODY)
    for name in ("target", "lock", "linked"):
        (mine / name).write_bytes(b"root's")
    (his / "link").symlink_to(mine / "target")
    os.link(mine / "lock", his / "lock")
    (his / "locked").symlink_to(mine / "linked")
    files.replace(his / "link", b"2")
    os.close(files.hold(his / "lock"))
    with files.locked(his / "locked"):
        pass
    assert [owner_of(mine / name)[0] for name in ("target", "lock", "linked")] == [0, 0, 0]
    assert (mine / "target").read_bytes() == b"root's"
    assert owner_of(his / "link")[0] == NOBODY
    files.create(mine / "new", b"3")
    assert owner_of(mine / "new")[0] == 0
