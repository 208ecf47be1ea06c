"""A file that is whole and checked, or not there."""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from qustream.envelope import ContentKey, Header, content_key, file_in_making, open_to_path, read_header, unseal
from qustream.errors import QuStreamError
from qustream.identity import files


def keyed(world: Any, envelope: bytes) -> tuple[BytesIO, Header, ContentKey]:
    stream = BytesIO(envelope)
    header = read_header(stream)
    secrets = unseal(header, world.bob.user, world.bob.hpke)
    return stream, header, content_key(header, secrets.client_secret, world.opened())


@pytest.mark.parametrize("kind", ["envelope", "pad"])
def test_a_whole_envelope_becomes_a_private_file(world: Any, tmp_path: Path, kind: str) -> None:
    plaintext = os.urandom(150_000)
    stream, header, key = keyed(world, getattr(world, kind)(plaintext))
    target = tmp_path / "opened"
    assert open_to_path(stream, target, header, key) == len(plaintext)
    assert target.read_bytes() == plaintext
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_nlink == 1


@pytest.mark.parametrize("at", [-1, -1000, -100_000])
@pytest.mark.parametrize("replace", [False, True])
def test_a_broken_envelope_leaves_nothing(world: Any, tmp_path: Path, at: int, replace: bool) -> None:
    envelope = bytearray(world.envelope(os.urandom(2_000_000)))
    envelope[at] ^= 1
    stream, header, key = keyed(world, bytes(envelope))
    with pytest.raises(QuStreamError, match="E-ENVELOPE-"):
        open_to_path(stream, tmp_path / "opened", header, key, replace=replace)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_envelope_leaves_what_was_there(world: Any, tmp_path: Path) -> None:
    target = tmp_path / "opened"
    target.write_bytes(b"older")
    envelope = world.envelope(b"newer")
    stream, header, key = keyed(world, envelope[:-1])
    with pytest.raises(QuStreamError, match="E-ENVELOPE-TRUNCATED"):
        open_to_path(stream, target, header, key, replace=True)
    assert target.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_replaced_only_on_demand(world: Any, tmp_path: Path) -> None:
    target = tmp_path / "opened"
    target.write_bytes(b"older")
    envelope = world.envelope(b"newer")
    stream, header, key = keyed(world, envelope)
    with pytest.raises(QuStreamError, match=r"E-FILE-EXISTS.*there is a file already"):
        open_to_path(stream, target, header, key)
    assert target.read_bytes() == b"older"
    open_to_path(stream, target, header, key, replace=True)
    assert target.read_bytes() == b"newer"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "opened"

    def race() -> None:
        with file_in_making(target) as file:
            file.write(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(QuStreamError, match="E-FILE-EXISTS"):
        race()
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """exFAT refuses `link` so; no such file system can be mounted here without privileges."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "opened"
    with file_in_making(target) as file:
        file.write(b"first")

    def race() -> None:
        target.unlink()
        with file_in_making(target) as file:
            file.write(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(QuStreamError, match="E-FILE-EXISTS"):
        race()
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "opened"
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QuStreamError, match="E-FILE"), file_in_making(target):
        pass
    with file_in_making(target, replace=True) as file:
        file.write(b"here")
    assert not target.is_symlink()
    assert target.read_bytes() == b"here"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["pipe", "directory", "link to a pipe", "standard output"])
def test_only_a_file_is_ever_replaced(tmp_path: Path, kind: str) -> None:
    """A rename onto /dev/null would take the machine's /dev/null away."""
    target = tmp_path / "opened"
    if kind == "directory":
        target.mkdir()
    elif kind == "standard output":
        (tmp_path / "log").touch()
        with (tmp_path / "log").open("wb") as log:
            target.symlink_to(f"/proc/self/fd/{log.fileno()}")
            check_refused(target)
        return
    else:
        os.mkfifo(tmp_path / "pipe")
        target.symlink_to("pipe") if "link" in kind else os.rename(tmp_path / "pipe", target)
    check_refused(target)


def check_refused(target: Path) -> None:
    before = target.lstat()
    for replace in (True, False):
        with pytest.raises(QuStreamError, match=r"E-FILE: .*not an ordinary file"), file_in_making(target, replace=replace):
            pass
    with pytest.raises(QuStreamError, match=r"E-FILE: .*not an ordinary file"):
        files.replace(target, b"")
    assert (target.lstat().st_ino, target.lstat().st_mode) == (before.st_ino, before.st_mode)


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        with file_in_making(tmp_path / "opened") as file:
            file.write(b"half")
            raise Interrupted

    with pytest.raises(Interrupted):
        work()
    assert list(tmp_path.iterdir()) == []


def test_the_operating_systems_refusals_are_coded(tmp_path: Path) -> None:
    with pytest.raises(QuStreamError, match=r"E-FILE.*No such file"), file_in_making(tmp_path / "nowhere" / "opened"):
        pass
    with pytest.raises(QuStreamError, match=r"E-FILE.*name too long"), file_in_making(tmp_path / ("x" * 256)):
        pass
    with file_in_making(tmp_path / ("ü" * 127)) as file:
        file.write(b"a long name is no reason")
    (tmp_path / ("ü" * 127)).unlink()

    def full() -> None:
        with file_in_making(tmp_path / "opened"):
            raise OSError(28, "No space left on device")

    with pytest.raises(QuStreamError, match="E-DISK-FULL"):
        full()
    assert list(tmp_path.iterdir()) == []
