"""What a `[[device]]` or its one-word form becomes: the driver of its kind, and refusals that name the setting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qrngd.device_config import DeviceConfig
from qrngd.devices import CharacterDevice, Device, Emulator, QCicadaDevice, QuantisDevice, SerialDevice
from qustream.errors import OperatorFault
from qustream.identity.p256 import P256Key

AUTHORITY = P256Key(bytes(32), "maker").public.hex()


def test_a_card_has_its_own_driver() -> None:
    config = DeviceConfig("quantis", path=Path("/dev/qrandom0"), min_entropy_millibits=7000, source="pci 0003:0000")
    config.check("device[0]")
    assert isinstance(config.make(), QuantisDevice)
    assert config.expected.kind == "quantis"


def test_an_appliance_is_the_fifo_of_its_reader_and_nothing_else(tmp_path: Path) -> None:
    fifo, file = tmp_path / "fifo", tmp_path / "file"
    os.mkfifo(fifo)
    file.write_bytes(bytes(100))
    config = DeviceConfig("appliance", path=fifo, model="QEA", serial="7", min_entropy_millibits=7000, conditioned=True)
    config.check("device[0]")
    device = config.make()
    assert isinstance(device, CharacterDevice)
    found = device.open()
    device.close()
    assert (found.kind, found.model, found.serial, found.conditioned, found.emulated) == ("appliance", "QEA", "7", True, False)
    with pytest.raises(OperatorFault, match="is a file, and a device of kind 'appliance' is a fifo") as caught:
        DeviceConfig("appliance", path=file, min_entropy_millibits=7000).make().open()
    assert caught.value.code == "E-CONFIG"


@pytest.mark.parametrize("kind", ["chardev", "quantis", "appliance", "serial", "qcicada"])
def test_path_and_claim_must_be_given(kind: str) -> None:
    for settings, key in (({"min_entropy_millibits": 7000}, "path"), ({"path": Path("/dev/none")}, "min_entropy_millibits")):
        with pytest.raises(OperatorFault, match=key) as caught:
            DeviceConfig(kind, **settings).check("device[0]")  # type: ignore[arg-type]
        assert caught.value.code == "E-CONFIG"
        assert "device[0]" in caught.value.detail


def test_nobody_can_promise_what_is_behind_an_appliance() -> None:
    with pytest.raises(OperatorFault, match=r"device\[1\].source"):
        DeviceConfig("appliance", path=Path("/run/x"), min_entropy_millibits=7000, source="me").check("device[1]")


def test_serial_lines_have_a_driver_for_each_protocol() -> None:
    stick = DeviceConfig("serial", path=Path("/dev/ttyACM0"), min_entropy_millibits=7000, baud=921_600)
    stick.check("device[0]")
    assert isinstance(stick.make(), SerialDevice)
    lamp = DeviceConfig("qcicada", path=Path("/dev/ttyUSB0"), min_entropy_millibits=7000, source="raw-samples", device_authority=AUTHORITY)
    lamp.check("device[0]")
    assert isinstance(lamp.make(), QCicadaDevice)
    assert (stick.expected.kind, lamp.expected.kind, lamp.expected.emulated) == ("serial", "qcicada", False)


@pytest.mark.parametrize(
    ("kind", "settings", "key"),
    [
        ("serial", {"baud": 12_345}, "baud"),
        ("serial", {"source": "me"}, "source"),
        ("serial", {"device_authority": AUTHORITY}, "device_authority"),
        ("qcicada", {"source": "me"}, "source"),
        ("qcicada", {"device_authority": "00" * 64}, "device_authority"),
    ],
)
def test_settings_that_do_not_fit_the_kind_are_refused(kind: str, settings: dict[str, object], key: str) -> None:
    with pytest.raises(OperatorFault, match=key) as caught:
        DeviceConfig(kind, path=Path("/dev/ttyUSB0"), min_entropy_millibits=7000, **settings).check("device[2]")  # type: ignore[arg-type]
    assert caught.value.code == "E-CONFIG"
    assert "device[2]" in caught.value.detail


@pytest.mark.parametrize("text", ["emulator", "emulator:stuck@bytes=1000000", "emulator:torn+slow@rate=9"])
def test_emulators_by_text(text: str) -> None:
    config = DeviceConfig.from_text(text)
    config.check("device[0]")
    device: Device = config.make()
    assert isinstance(device, Emulator)
    assert device.open().emulated
    device.close()


@pytest.mark.parametrize(
    ("text", "kind", "path", "driver"),
    [
        ("/dev/hwrng", "chardev", "/dev/hwrng", CharacterDevice),
        ("some:file", "chardev", "some:file", CharacterDevice),
        ("serial", "chardev", "serial", CharacterDevice),
        ("/dev/qrandom0", "quantis", "/dev/qrandom0", QuantisDevice),
        ("chardev:/dev/qrandom0", "chardev", "/dev/qrandom0", CharacterDevice),
        ("quantis:/dev/card", "quantis", "/dev/card", QuantisDevice),
        ("serial:/dev/ttyACM0", "serial", "/dev/ttyACM0", SerialDevice),
        ("qcicada:/dev/serial/by-id/usb-a:b", "qcicada", "/dev/serial/by-id/usb-a:b", QCicadaDevice),
        ("appliance:/run/qrngd-reader/appliance", "appliance", "/run/qrngd-reader/appliance", CharacterDevice),
    ],
)
def test_paths_by_text(text: str, kind: str, path: str, driver: type) -> None:
    config = DeviceConfig.from_text(text, min_entropy_millibits=3000, sample_bits=4)
    config.check("device[0]")
    assert (config.kind, config.path, config.sample_bits) == (kind, Path(path), 4)
    assert type(config.make()) is driver
    with pytest.raises(OperatorFault, match="min_entropy_millibits"):
        DeviceConfig.from_text(text).make()


@pytest.mark.parametrize("text", ["", "emulator:", "serial:", "chardev:", "emulator:nothing"])
def test_a_text_that_names_no_device_is_refused(text: str) -> None:
    with pytest.raises(OperatorFault, match="E-CONFIG"):
        DeviceConfig.from_text(text, min_entropy_millibits=6000).make()


@pytest.mark.parametrize("key", ["min_entropy_millibits", "assessed_min_entropy_millibits"])
def test_a_sample_has_no_more_entropy_than_bits(key: str) -> None:
    claims = {"min_entropy_millibits": 4000, key: 4001}
    with pytest.raises(OperatorFault, match=rf"device\[2\]\.{key}: a sample of 4 bits has at most 4000") as caught:
        DeviceConfig("chardev", path=Path("/dev/none"), sample_bits=4, **claims).check("device[2]")
    assert caught.value.code == "E-CONFIG"
    DeviceConfig("chardev", path=Path("/dev/none"), sample_bits=4, **(claims | {key: 4000})).check("device[2]")
