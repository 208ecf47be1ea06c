"""The FIFO: made private, never a file, written only while somebody reads."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from qrngd.appliance.output import OutputFifo
from qustream.errors import OperatorFault


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "appliance"


def test_it_is_made_for_one_group_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        OutputFifo(path)
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(before)
    status = path.stat()
    assert stat.S_ISFIFO(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o640


def test_without_a_reader_it_is_not_open_and_holds_nothing(path: Path) -> None:
    output = OutputFifo(path)
    assert not output.open()
    assert not output.has_reader
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert output.open()
    assert output.has_reader
    assert output.has_room(0)
    assert output.write(memoryview(b"abc")) == 3
    assert os.read(reader, 10) == b"abc"
    os.close(reader)
    assert not output.has_room(0)
    assert not output.has_reader
    assert not output.open()


def test_a_full_pipe_is_no_room_until_it_is_read(path: Path) -> None:
    output = OutputFifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output.open()
    data, written = memoryview(bytes(100_000)), 0
    while size := output.write(data[written:]):
        written += size
    assert written == fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    assert not output.has_room(0)
    assert len(os.read(reader, written)) == written
    assert output.has_room(0)
    output.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_reader_that_leaves_while_we_write(path: Path) -> None:
    output = OutputFifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output.open()
    os.close(reader)
    assert output.write(memoryview(b"abc")) == 0
    assert not output.has_reader


def test_a_file_a_link_or_a_stranger_gets_nothing(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"kept")
    link = tmp_path / "link"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    link.symlink_to(fifo)
    for wrong in (path, link, tmp_path):
        with pytest.raises(OperatorFault, match="output:") as caught:
            OutputFifo(wrong)
        assert caught.value.code == "E-CONFIG"
    assert path.read_bytes() == b"kept"
    with pytest.raises(OperatorFault) as caught:
        OutputFifo(tmp_path / "none" / "fifo")
    assert caught.value.code == "E-FILE"


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602, 0o604])
def test_a_fifo_others_may_use_is_refused(path: Path, mode: int) -> None:
    os.mkfifo(path)
    path.chmod(mode)
    with pytest.raises(OperatorFault, match=f"{mode:04o}") as caught:
        OutputFifo(path)
    assert caught.value.code == "E-CONFIG"
    path.chmod(0o600)
    OutputFifo(path)


def test_what_takes_its_place_later_is_noticed(path: Path) -> None:
    output = OutputFifo(path)
    path.unlink()
    path.write_bytes(b"")
    with pytest.raises(OperatorFault, match="never onto a disk") as caught:
        output.open()
    assert caught.value.code == "E-CONFIG"
    path.unlink()
    assert not output.open()
    assert stat.S_ISFIFO(path.stat().st_mode), "what was tidied away is made again"
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(OperatorFault) as caught:
        output.open()
    assert caught.value.code == "E-FILE"
