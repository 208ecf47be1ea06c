"""The pseudo-terminal of an emulated device: found at one path through everything its readers do."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import shutil
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.emulated_line import PATIENCE_S, qcicada_line, raw_line

from qrngd.emulation.pace import Pace
from qrngd.emulation.pty_line import RawStick, serve_pty
from qrngd.emulation.source import ByteSource
from qustream.errors import QuStreamError


def opened(link: Path) -> int:
    return os.open(link, os.O_RDWR | os.O_NOCTTY)


def gone(handle: int) -> bool:
    """Whether the line behind `handle` was hung up."""
    try:
        return os.read(handle, 4096) == b""
    except OSError:
        return True


def test_it_is_raw_before_anybody_sets_it_up(tmp_path: Path) -> None:
    with qcicada_line(tmp_path / "line"):
        handle = opened(tmp_path / "line")
        assert not termios.tcgetattr(handle)[3] & (termios.ECHO | termios.ICANON)
        os.write(handle, b"\x01")
        assert os.read(handle, 100)[:1] == b"\x11"
        os.close(handle)


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Without root's right to open what is held alone; a folder he may write to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    own = os.geteuid()
    try:
        if own == 0:
            os.seteuid(65_534)
        yield folder
    finally:
        os.seteuid(own)
        shutil.rmtree(folder)


def test_whoever_was_killed_while_he_held_it_alone_has_not_locked_it_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qrngd.emulation.pty_line.RENEW_INTERVAL_S", math.inf)  # nobody looks before we have
    with ordinary_user() as folder, qcicada_line(folder / "line"):
        handle = opened(folder / "line")
        fcntl.ioctl(handle, termios.TIOCEXCL)
        with pytest.raises(OSError, match="busy"):
            opened(folder / "line")
        os.close(handle)  # as the kernel does for the dead
        with pytest.raises(OSError, match="busy"):
            opened(folder / "line")
        monkeypatch.undo()
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            with contextlib.suppress(OSError):
                handle = opened(folder / "line")
                break
        os.write(handle, b"\x01")
        assert os.read(handle, 100)
        os.close(handle)


def test_the_same_line_serves_whoever_comes_next(tmp_path: Path) -> None:
    link = tmp_path / "line"
    with qcicada_line(link):
        name = os.readlink(link)
        for _ in range(3):
            handle = opened(link)
            os.write(handle, b"\x01")
            assert os.read(handle, 100)
            os.close(handle)
        assert os.readlink(link) == name
    assert not os.path.lexists(link)


def test_vanishing_hangs_up_and_takes_the_path_away(tmp_path: Path) -> None:
    link = tmp_path / "line"
    with raw_line(link, faults="vanish@bytes=10000,opens=1"):
        handle = opened(link)
        give_up_s = time.monotonic() + PATIENCE_S
        while not gone(handle) and time.monotonic() < give_up_s:
            pass
        assert gone(handle)
        assert not link.exists()
        os.close(handle)
        while not link.exists() and time.monotonic() < give_up_s:
            time.sleep(0.02)
        handle = opened(link)
        assert os.read(handle, 100)
        os.close(handle)


def test_it_replaces_links_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "old").symlink_to("/dev/pts/none")
    with raw_line(tmp_path / "old"):
        os.close(opened(tmp_path / "old"))
    source = ByteSource()
    for path in (tmp_path / "file", tmp_path / "none" / "line"):
        with pytest.raises(QuStreamError) as caught:
            serve_pty(path, RawStick(source.draw), source, Pace(0), stop=lambda: True, ready=lambda: None)
        assert caught.value.code == "E-FILE"
    assert (tmp_path / "file").read_bytes() == b"mine"
    source.close()
