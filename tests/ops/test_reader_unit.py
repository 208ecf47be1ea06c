"""The unit of the appliance's reader: how little it may do, that this is enough, and how qrngd comes to its FIFO."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.appliance import Appliance, Authority
from support.appliance_reader import Reader
from support.daemon import until
from support.units import DEPLOY, NO_NEW_CODE, Unit, calls_of

from qrngd.appliance.client import CONNECT_LIMIT_S, EXCHANGE_LIMIT_S
from qrngd.appliance.config import load_reader_config
from qrngd.appliance.reader import CREDENTIAL
from qrngd.device_config import DeviceConfig

UNIT = Unit("qrngd-reader.service")


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[tuple[Appliance, Authority]]:
    authority = Authority(tmp_path)
    with Appliance(authority.server()).running() as found:
        yield found, authority


def read_a_little(reader: Reader) -> None:
    with reader:
        device = DeviceConfig("appliance", path=reader.fifo, min_entropy_millibits=7000).make()
        device.open()
        until(lambda: device.read(1000))
        device.close()


def test_the_unit_and_the_program_agree() -> None:
    assert UNIT.settings("LoadCredentialEncrypted")[0].startswith(f"{CREDENTIAL}:")
    # The watchdog is told between exchanges, so it has to outlast one with every limit used up, and a name with several addresses.
    assert int(UNIT.settings("WatchdogSec")[0]) > EXCHANGE_LIMIT_S + 4 * CONNECT_LIMIT_S


def test_the_example_configuration_is_one_and_fits_the_unit() -> None:
    config = load_reader_config(DEPLOY / "qrngd-reader.toml")
    assert config.output.parent == Path("/run") / UNIT.settings("RuntimeDirectory")[0]
    assert config.state_dir == Path("/var/lib") / UNIT.settings("StateDirectory")[0]


def test_qrngd_may_read_the_fifo_and_the_reader_nothing_of_qrngd() -> None:
    users = (DEPLOY / "sysusers.d" / "qrngd-reader.conf").read_text()
    assert re.search(r"^u qrngd-reader ", users, re.MULTILINE)
    assert re.findall(r"^m .*$", users, re.MULTILINE) == ["m qrngd qrngd-reader"]
    assert (UNIT.settings("User"), UNIT.settings("Group")) == (["qrngd-reader"], ["qrngd-reader"])
    assert UNIT.settings("RuntimeDirectoryMode") == ["0750"], "its group enters"
    assert UNIT.settings("SupplementaryGroups") == []


def test_only_the_reader_has_a_network() -> None:
    assert Unit("qrngd.service").settings("PrivateNetwork") == ["yes"]
    assert UNIT.settings("PrivateNetwork") == []
    assert UNIT.settings("SocketBindDeny") == ["any"], "it calls, and nobody calls it"


@pytest.mark.e2e
@pytest.mark.needs("systemd-analyze", "strace")
def test_every_system_call_of_a_reader_is_allowed(tmp_path: Path, appliance: tuple[Appliance, Authority]) -> None:
    trace = tmp_path / "trace"
    reader = Reader(tmp_path / "reader", *appliance)
    reader.command_line = ["strace", "-D", "-f", "-qq", "-o", trace]
    read_a_little(reader)
    made = calls_of(trace)
    assert {"openat", "connect", "mknodat", "fsync"} <= made
    # numpy's OpenBLAS, loaded with the command, asks once where its memory should lie, and takes a no.
    assert made - UNIT.allowed_calls() <= {"mbind"}


@pytest.mark.e2e
@pytest.mark.needs("mdwe")
def test_it_needs_no_memory_that_is_written_and_then_run(tmp_path: Path, appliance: tuple[Appliance, Authority]) -> None:
    assert UNIT.settings("MemoryDenyWriteExecute") == ["yes"]
    reader = Reader(tmp_path / "reader", *appliance)
    reader.command_line = [sys.executable, "-c", NO_NEW_CODE]
    read_a_little(reader)
