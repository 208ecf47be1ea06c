"""A Quantis card played by a preloaded library: our driver and PyPI's `quantix-rng`, each in a process of its own, meet the same one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from quantix import quantix
from support.quantis_card import PATTERN, Card, compile_shim

from qrngd.device_config import DeviceConfig
from qrngd.devices import quantis
from qrngd.devices.quantis import QuantisCard
from qustream.errors import OperatorFault


def test_the_questions_are_those_of_the_published_client() -> None:
    names = ("GET_DRIVER_VERSION", "GET_CARD_COUNT", "GET_MODULES_MASK", "GET_BOARD_VERSION", "GET_MODULES_STATUS", "GET_PCI_BUS_DEVICE_ID")
    for name in names:
        assert getattr(quantis, name) == getattr(quantix, f"QUANTIS_IOCTL_{name}")


def test_nothing_that_changes_a_card_is_ever_asked() -> None:
    theirs = {getattr(quantix, f"QUANTIS_IOCTL_{name}") for name in ("RESET_BOARD", "ENABLE_MODULE", "DISABLE_MODULE")}
    assert theirs.isdisjoint(value for value in vars(quantis).values() if isinstance(value, int))


@pytest.mark.parametrize(
    ("mask", "status", "trouble"),
    [
        (0b0001, 0b0001, ""),
        (0b1111, 0b1111, ""),
        (0b0001, 0b1111, ""),  # status bits of empty places mean nothing
        (0, 0, "no module"),
        (0, 0b1111, "no module"),
        (0b0011, 0b0001, "module 1 is present"),
        (0b1111, 0b0101, "module 1, 3 is present"),
    ],
)
def test_what_a_card_says_of_its_modules(mask: int, status: int, trouble: str) -> None:
    card = QuantisCard(21, 1, mask, status, None)
    assert card.trouble.startswith(trouble) if "module 1" in trouble else trouble in card.trouble
    assert bool(card.trouble) == bool(trouble)
    flags = dict(card.flags)
    assert list(flags) == [f"module_{number}_{what}" for number in range(4) for what in ("present", "working")]
    for number in range(4):
        assert flags[f"module_{number}_present"] == bool(mask & 1 << number)
        assert flags[f"module_{number}_working"] == bool(mask & status & 1 << number)


def test_a_file_or_a_terminal_is_no_card(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "fifo"):
        with pytest.raises(OperatorFault, match=f"is a {name}") as caught:
            DeviceConfig("quantis", path=tmp_path / name, min_entropy_millibits=8000).make().open()
        assert caught.value.code == "E-CONFIG"
    master, slave = os.openpty()
    with pytest.raises(OperatorFault, match="serial line"):
        DeviceConfig("quantis", path=Path(os.ttyname(slave)), min_entropy_millibits=8000).make().open()
    os.close(master)
    os.close(slave)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def card(shim: Path, tmp_path: Path) -> Iterator[Card]:
    found = Card(shim, tmp_path)
    with found.delivering():
        yield found


@pytest.mark.needs("gcc")
def test_driver_and_published_client_read_the_same_card(card: Card) -> None:
    with card.read_by("client") as ask:
        theirs = ask("open")["value"]
        stream = bytes.fromhex(ask("read 1024")["value"])
        ask("close")
    assert theirs == {"driver": 2.1, "board": 0x00010203, "mask": 7, "status": 7, "pci": [3, 17]}
    with card.read_by("driver") as ask:
        ours = ask("open")["value"]
        flags = ask("flags")["value"]
        for _ in range(4):
            stream += bytes.fromhex(ask("read 1024 at 0")["value"])
        stream += bytes.fromhex(ask("read 1000000 at 0")["value"])
        ask("close")
    assert ours == {
        "kind": "quantis", "model": "Quantis board 00010203 driver 2.1", "source": "pci 0003:0011", "emulated": False, "pollable": False,
    }  # fmt: skip
    assert sum(flags[f"module_{number}_present"] << number for number in range(4)) == theirs["mask"]
    assert sum(flags[f"module_{number}_working"] << number for number in range(4)) == theirs["status"]
    assert len(stream) == 5 * 1024 + quantis.READ_MAX_BYTES, "no request is longer than what the card has ready"
    assert stream == (PATTERN * 2)[: len(stream)], "not a byte is lost or changed between the two"


@pytest.mark.needs("gcc")
def test_a_module_that_fails_stops_the_reading_and_is_named(card: Card) -> None:
    with card.read_by("driver") as ask:
        ask("open")
        assert len(ask("read 100 at 0")["value"]) == 200
        card.say(status=0b0101)
        failed = ask(f"read 100 at {quantis.STATUS_INTERVAL_MS}")
        assert failed["code"] == "E-DEV-STATUS"
        assert "module 1 is present and does not work" in failed["detail"]
        assert ask("flags")["value"]["module_1_working"] is False
        assert ask("open")["code"] == "E-DEV-STATUS"
        card.say()
        assert ask("open")["value"]["kind"] == "quantis"
        assert len(ask("read 100 at 0")["value"]) == 200


@pytest.mark.needs("gcc")
def test_the_card_is_asked_now_and_then_and_not_at_every_read(card: Card) -> None:
    with card.read_by("driver") as ask:
        ask("open")
        card.say(mask=0b0011, status=0b0011)  # a module was taken out; the others deliver
        ask(f"read 100 at {quantis.STATUS_INTERVAL_MS - 1}")
        assert ask("flags")["value"]["module_2_present"] is True
        assert len(ask(f"read 100 at {quantis.STATUS_INTERVAL_MS}")["value"]) == 200
        assert ask("flags")["value"]["module_2_present"] is False
    assert quantis.STATUS_INTERVAL_MS >= 1000


@pytest.mark.needs("gcc")
def test_a_read_that_fails_asks_the_card_why(card: Card) -> None:
    with card.read_by("driver") as ask:
        ask("open")
        card.say(status=0b0011)  # the driver's read says EIO, long before the next question about the modules
        failed = ask("read 100 at 1")
        assert (failed["code"], "module 2" in failed["detail"]) == ("E-DEV-STATUS", True)
        card.say()
        ask("open")
        card.say(read_errno=errno.EIO)
        assert ask("read 100 at 1")["code"] == "E-DEV-READ", "all modules work, and yet nothing comes"
        card.say()
        ask("open")
        card.say(read_errno=errno.ENODEV, ioctl_errno=errno.ENODEV)
        assert ask("read 100 at 1")["code"] == "E-DEV-ABSENT"


@pytest.mark.needs("gcc")
def test_a_driver_that_has_nothing_now_is_asked_again(card: Card) -> None:
    with card.read_by("driver") as ask:
        ask("open")
        card.say(read_errno=errno.EAGAIN)
        assert ask("read 100 at 1")["value"] == ""
        card.say()
        assert len(ask("read 100 at 1")["value"]) == 200


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"mask": 0, "status": 0}, "E-DEV-STATUS", "no module"),
        ({"status": 0b0110}, "E-DEV-STATUS", "module 0"),
        ({"mask": 0x17}, "E-DEV-READ", "0x17"),
        ({"status": 0xFFFFFFFF}, "E-DEV-READ", "0xffffffff"),
        ({"ioctl_errno": errno.ENOTTY}, "E-CONFIG", "not answer as a Quantis card"),
        ({"ioctl_errno": errno.EIO}, "E-DEV-READ", "/dev/pts/"),
        ({"ioctl_errno": errno.ENODEV}, "E-DEV-ABSENT", "/dev/pts/"),
    ],
)
def test_cards_that_are_refused_when_they_are_opened(card: Card, changes: dict[str, int], code: str, text: str) -> None:
    card.say(**changes)
    with card.read_by("driver") as ask:
        refused = ask("open")
        assert refused["code"] == code
        assert text in refused["detail"]
        card.say()
        assert ask("open")["value"], "nothing was left open or locked"


@pytest.mark.needs("gcc")
def test_the_configured_card_and_no_other(card: Card) -> None:
    with card.read_by("driver") as ask:
        assert ask("open pci 0003:0011")["value"]["source"] == "pci 0003:0011"
        ask("close")
        other = ask("open pci 0004:0000")
        assert (other["code"], "pci 0003:0011" in other["detail"]) == ("E-DEV-IDENTITY", True)
        card.say(pci=-1)
        assert ask("open")["value"]["source"] == "", "an old driver does not know where its card is"
        ask("close")
        assert ask("open pci 0003:0011")["code"] == "E-DEV-IDENTITY"
