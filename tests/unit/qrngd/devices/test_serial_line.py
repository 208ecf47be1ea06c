"""Serial lines and raw sticks on them: pseudo-terminals with an emulated device at the other end."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.emulated_line import raw_line, read_exactly, read_until_fault, reopened

from qrngd.device_config import DeviceConfig
from qrngd.devices.serial_line import BAUD_RATES, SerialDevice, SerialLine
from qustream.errors import QuStreamError


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "stick"


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The master of a terminal nobody has set up, and the path of its slave."""
    master, slave = pty.openpty()
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def stick(path: Path | str, **settings: object) -> SerialDevice:
    device = DeviceConfig("serial", path=Path(path), **({"min_entropy_millibits": 7000} | settings)).make()  # type: ignore[arg-type]
    assert isinstance(device, SerialDevice)
    return device


def code_of(device: SerialDevice) -> str:
    with pytest.raises(QuStreamError) as caught:
        device.open()
    return caught.value.code


def test_claim_rate_and_width_must_make_sense() -> None:
    for settings in ({"min_entropy_millibits": None}, {"baud": 12_345}, {"baud": 0}, {"sample_bits": 9}):
        with pytest.raises(QuStreamError, match=next(iter(settings))) as caught:
            stick("/dev/ttyACM0", **settings)
        assert caught.value.code == "E-CONFIG"


def test_every_byte_goes_through_unchanged_both_ways(terminal: tuple[int, str]) -> None:
    master, path = terminal
    line = SerialLine(path, baud=1_000_000)
    everything = bytes(range(256))
    os.write(master, everything)
    buffer = memoryview(bytearray(512))
    assert line.readinto(buffer) == 256
    assert bytes(buffer[:256]) == everything
    line.write(everything)
    assert os.read(master, 512) == everything, "no echo, no translation"
    assert line.readinto(buffer) == 0
    line.close()


def test_what_came_before_the_opening_is_thrown_away(terminal: tuple[int, str]) -> None:
    master, path = terminal
    os.write(master, b"old\n")
    line = SerialLine(path, baud=115_200)
    buffer = memoryview(bytearray(16))
    assert line.readinto(buffer) == 0
    os.write(master, b"new")
    assert line.readinto(buffer) == 3
    line.close()


@pytest.mark.parametrize("baud", [9600, 115_200, 921_600, 1_000_000, 4_000_000])
def test_rates_posix_does_not_know_are_set_too(terminal: tuple[int, str], baud: int) -> None:
    line = SerialLine(terminal[1], baud=baud)
    assert termios.tcgetattr(line.fileno())[4:6] == [BAUD_RATES[baud]] * 2
    line.close()


def test_it_streams_and_says_what_it_is(link: Path) -> None:
    with raw_line(link):
        device = stick(link, model="lamp", serial="7", nominal_rate_bps=800_000, sample_bits=1, min_entropy_millibits=900)
        descriptor = device.open()
        assert (descriptor.kind, descriptor.model, descriptor.serial, descriptor.sample_bits) == ("serial", "lamp", "7", 1)
        assert descriptor.emulated, "behind a pseudo-terminal is a program"
        assert device.pollable
        assert device.flags == ()
        assert len(set(read_exactly(device, 100_000))) == 256
        device.close()
        device.close()


def test_it_is_found_again_after_closing(link: Path) -> None:
    with raw_line(link, rate=1_000_000):
        device = stick(link)
        for _ in range(3):
            device.open()
            read_exactly(device, 10_000)
            device.close()


def test_an_unplugged_stick_is_absent_and_comes_back(link: Path) -> None:
    with raw_line(link, faults="vanish@bytes=50000"):
        device = stick(link)
        device.open()
        error, got = read_until_fault(device)
        assert error.code == "E-DEV-ABSENT"
        assert got <= 50_000
        assert code_of(device) == "E-DEV-ABSENT"
        reopened(device)
        read_exactly(device, 10_000)
        device.close()


def test_two_cannot_hold_one_line(link: Path) -> None:
    with raw_line(link):
        first, second = stick(link), stick(link)
        first.open()
        assert code_of(second) == "E-DEV-LOCKED"
        first.close()
        second.open()
        second.close()


def test_whoever_is_refused_takes_nothing_away_from_the_holder(terminal: tuple[int, str]) -> None:
    first, second = stick(terminal[1]), stick(terminal[1])
    first.open()
    assert code_of(second) == "E-DEV-LOCKED"
    assert is_exclusive(first.fileno())
    handle = first.fileno()
    again = os.dup(handle)
    first.close()
    assert not is_exclusive(again)
    os.close(again)


def is_exclusive(handle: int) -> bool:
    """TIOCGEXCL (linux/tty.h), which the module termios does not name."""
    answer = array.array("i", [0])
    fcntl.ioctl(handle, 0x80045440, answer)
    return bool(answer[0])


def test_a_lock_of_any_other_program_counts(terminal: tuple[int, str]) -> None:
    holder = os.open(terminal[1], os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert code_of(stick(terminal[1])) == "E-DEV-LOCKED"
    os.close(holder)
    stick(terminal[1]).open()


def test_a_reader_that_was_killed_does_not_lock_the_line(link: Path) -> None:
    program = (
        "import sys; from qrngd.device_config import DeviceConfig; "
        "DeviceConfig.from_text(sys.argv[1], min_entropy_millibits=7000).make().open(); print(1, flush=True); input()"
    )
    with raw_line(link):
        with subprocess.Popen([sys.executable, "-c", program, f"serial:{link}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout
            assert reader.stdout.readline() == b"1\n"
            assert code_of(stick(link)) == "E-DEV-LOCKED"
            reader.send_signal(signal.SIGKILL)
        device = stick(link)
        device.open()
        read_exactly(device, 1000)
        device.close()


def test_what_is_no_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert code_of(stick(tmp_path / "file")) == "E-CONFIG"
    assert code_of(stick("/dev/null")) == "E-CONFIG"
    assert code_of(stick(tmp_path / "none")) == "E-DEV-ABSENT"
    assert code_of(stick(tmp_path)) == "E-DEV-READ"


def test_a_line_that_takes_nothing_is_broken(terminal: tuple[int, str]) -> None:
    line = SerialLine(terminal[1], baud=1_000_000)
    with pytest.raises(QuStreamError, match="takes no more") as caught:
        line.write(bytes(1 << 22))
    assert caught.value.code == "E-DEV-READ"
    line.close()


def test_writing_to_an_unplugged_line_is_coded(link: Path) -> None:
    with raw_line(link):
        line = SerialLine(str(link), baud=1_000_000)
    with pytest.raises(QuStreamError) as caught:
        line.write(b"x")
    assert caught.value.code == "E-DEV-ABSENT"
    line.close()
