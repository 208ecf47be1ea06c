"""Files, FIFOs and character devices: real ones, and what happens when they are locked, empty, gone or something else."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
import trio

from qrngd.device_config import DeviceConfig
from qrngd.devices.chardev import CharacterDevice, kind_of
from qustream.errors import OperatorFault


def device(path: Path | str, *, hwrng_folder: Path | None = None, **settings: object) -> CharacterDevice:
    config = DeviceConfig("chardev", path=Path(path), min_entropy_millibits=8000, **settings)  # type: ignore[arg-type]
    return CharacterDevice(str(path), config.expected, **({"hwrng_folder": hwrng_folder} if hwrng_folder else {}))


def code(caught: pytest.ExceptionInfo[OperatorFault]) -> str:
    return caught.value.code


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "lamp"
    os.mkfifo(path)
    return path


def test_a_file_is_read_to_its_end_once_and_is_no_live_device(tmp_path: Path) -> None:
    path = tmp_path / "recorded"
    path.write_bytes(bytes(range(100)))
    lamp = device(path, model="lamp", serial="7", nominal_rate_bps=1000)
    descriptor = lamp.open()
    assert (descriptor.kind, descriptor.model, descriptor.serial) == ("file", "lamp", "7")
    assert descriptor.emulated
    assert not lamp.pollable
    assert lamp.read(60) == bytes(range(60))
    lamp.close()
    lamp.open()
    assert lamp.read(60) == bytes(range(60, 100)), "opening again goes on where it stopped"
    for _ in range(2):
        with pytest.raises(OperatorFault, match="end after 100 bytes") as caught:
            lamp.read(60)
        assert code(caught) == "E-DEV-ABSENT"
        lamp.open()
    lamp.close()


def test_a_fifo_waits_for_its_writer_and_ends_with_it(fifo: Path) -> None:
    lamp = device(fifo)
    descriptor = lamp.open()
    assert (descriptor.kind, descriptor.model, descriptor.emulated) == ("fifo", "lamp", False)
    assert lamp.read(10) == b""
    assert not lamp.pollable
    writer = os.open(fifo, os.O_WRONLY)
    assert lamp.read(10) == b""
    os.write(writer, b"abc")
    assert lamp.read(10) == b"abc"
    assert lamp.pollable
    assert lamp.read(10) == b""
    os.write(writer, b"de")
    os.close(writer)
    assert lamp.read(10) == b"de"
    with pytest.raises(OperatorFault, match="end after 5 bytes") as caught:
        lamp.read(10)
    assert code(caught) == "E-DEV-ABSENT"
    assert lamp.open().kind == "fifo"
    assert lamp.read(10) == b""
    lamp.close()


def test_waits_grow_while_nothing_comes_and_shrink_with_data(fifo: Path) -> None:
    lamp = device(fifo)
    lamp.open()
    writer = os.open(fifo, os.O_WRONLY)
    waits = []
    for _ in range(8):
        waits.append(lamp.retry_after_ms)
        assert lamp.read(1) == b""
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]
    os.write(writer, b"x")
    assert lamp.read(1) == b"x"
    assert lamp.retry_after_ms == 1
    os.close(writer)
    lamp.close()


def test_two_cannot_hold_one_device(fifo: Path) -> None:
    first, second = device(fifo), device(fifo)
    first.open()
    with pytest.raises(OperatorFault, match="held by another process") as caught:
        second.open()
    assert code(caught) == "E-DEV-LOCKED"
    first.close()
    second.open()
    second.close()


def test_a_lock_of_any_other_program_counts(fifo: Path) -> None:
    holder = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(OperatorFault, match="E-DEV-LOCKED"):
        device(fifo).open()
    os.close(holder)


def test_what_is_not_there_is_absent(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none" / "deeper"):
        with pytest.raises(OperatorFault) as caught:
            device(path).open()
        assert code(caught) == "E-DEV-ABSENT"
        assert str(path) in str(caught.value)


def test_a_device_that_comes_back_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "lamp"
    lamp = device(path)
    for _ in range(2):
        with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
            lamp.open()
    path.write_bytes(b"light")
    lamp.open()
    assert lamp.read(5) == b"light"
    lamp.close()


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"])
def test_streams_of_the_kernel_pass_for_no_device(path: str) -> None:
    with pytest.raises(OperatorFault, match="stream of the kernel") as caught:
        device(path).open()
    assert code(caught) == "E-CONFIG"


def test_a_folder_is_no_device(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="not a character device") as caught:
        device(tmp_path).open()
    assert code(caught) == "E-CONFIG"


def test_a_serial_line_is_refused_before_it_changes_bytes() -> None:
    ours, theirs = os.openpty()
    with pytest.raises(OperatorFault, match="serial line") as caught:
        device(os.ttyname(theirs)).open()
    assert code(caught) == "E-CONFIG"
    os.close(ours)
    os.close(theirs)


def status_of(mode: int, major: int, minor: int) -> os.stat_result:
    return os.stat_result((mode, *[0] * 9), {"st_rdev": os.makedev(major, minor)})


def test_kinds_of_character_devices() -> None:
    assert kind_of("/dev/hwrng", status_of(stat.S_IFCHR, 10, 183), is_terminal=False) == "hwrng"
    assert kind_of("/dev/qrandom0", status_of(stat.S_IFCHR, 240, 0), is_terminal=False) == "chardev"
    with pytest.raises(OperatorFault, match="not a character device"):
        kind_of("/dev/sda", status_of(stat.S_IFBLK, 8, 0), is_terminal=False)


@pytest.mark.parametrize(
    ("content", "says"), [("none\n", "no hardware generator"), ("", "no hardware generator"), (None, "cannot be read")]
)
def test_hwrng_without_a_generator_is_absent(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "rng_current").write_text(content)
    with pytest.raises(OperatorFault, match=says) as caught:
        device("/dev/hwrng", hwrng_folder=tmp_path).rng_current()
    assert code(caught) == "E-DEV-ABSENT"


def test_the_generator_behind_hwrng_is_read_anew_each_time(tmp_path: Path) -> None:
    lamp = device("/dev/hwrng", hwrng_folder=tmp_path)
    for name in ("virtio_rng.0", "tpm-rng-0"):
        (tmp_path / "rng_current").write_text(name + "\n")
        assert lamp.rng_current() == name


def test_long_labels_are_cut(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 100)
    path.write_bytes(b"x")
    assert device(path).open().model == "m" * 64
    (tmp_path / "rng_current").write_text("s" * 100)
    assert device("/dev/hwrng", hwrng_folder=tmp_path).rng_current() == "s" * 64


@pytest.mark.needs("hwrng")
async def test_the_real_hwrng_names_its_source_and_delivers() -> None:
    lamp = device("/dev/hwrng")
    descriptor = lamp.open()
    assert descriptor.kind == "chardev"
    assert descriptor.source == Path("/sys/class/misc/hw_random/rng_current").read_text().strip()
    assert not descriptor.emulated
    raw = b""
    with trio.fail_after(60):
        while len(raw) < 64:
            raw += lamp.read(64)
            await trio.sleep(lamp.retry_after_ms / 1000)
    lamp.close()
    assert len(set(raw)) > 16
