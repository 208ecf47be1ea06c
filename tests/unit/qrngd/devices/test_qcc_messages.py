"""QCC byte for byte: known frames, and what of a hostile answer is refused."""

from __future__ import annotations

import struct

import pytest

from qrngd.devices import qcc_messages as qcc
from qrngd.devices.qcc_messages import Code, PostProcess
from qustream.errors import QuStreamError


def info(serial: bytes, hardware: bytes) -> qcc.Info:
    return qcc.decode_info(struct.pack("<II24s24s", 1, 2, serial, hardware))


def test_commands_are_these_bytes() -> None:
    assert qcc.STATUS.frame == b"\x01"
    assert qcc.STOP.frame == b"\x05"
    assert qcc.one_shot(3840).frame == b"\x04\x01\x00\x0f"
    assert qcc.CONTINUOUS.frame == b"\x04\x00\x00\x00"
    assert qcc.signed_read(65_535).frame == b"\x51\xff\xff"
    assert qcc.REBOOT.frame == b"\xf8\xa1\x25"
    assert qcc.set_config(qcc.Config(bytes(range(12)))).frame == b"\x08" + bytes(range(12))
    assert qcc.CONTINUOUS.is_continuous
    assert not qcc.one_shot(1).is_continuous
    assert not qcc.STATUS.is_continuous


def test_answers_are_as_long_as_their_command_says() -> None:
    lengths = [each.answer_bytes for each in (qcc.STATUS, qcc.CONFIG, qcc.STATISTICS, qcc.INFO, qcc.KEY, qcc.CERTIFICATE, qcc.REBOOT)]
    assert lengths == [6, 13, 31, 57, 65, 65, 1]
    assert qcc.one_shot(100).answer_bytes == 106
    assert qcc.signed_read(65_535).answer_bytes == qcc.ANSWER_MAX_BYTES == 65_600
    assert set(qcc.RESPONSES) == set(qcc.COMMAND_PAYLOAD_BYTES) == set(Code)


def test_status_bits_have_names() -> None:
    status = qcc.decode_status(b"\x41\x00\x10\x00\x00")
    assert status.ready_bytes == 4096
    assert [name for name, is_set in status.flags if is_set] == ["initialised", "repetition_count"]
    assert [name for name, _ in status.flags] == list(qcc.STATUS_BITS)


@pytest.mark.parametrize(
    ("bits", "trouble", "testing"),
    [
        (0x01, "", False),
        (0x03, "", True),
        (0x00, "not initialised", False),
        (0x05, "voltage_low", False),
        (0x09, "voltage_high", False),
        (0x11, "voltage_undefined", False),
        (0x21, "bit_count", False),
        (0x41, "repetition_count", False),
        (0x81, "adaptive_proportion", False),
        (0xFE, "not initialised, voltage_low, voltage_high, voltage_undefined, bit_count, repetition_count, adaptive_proportion", True),
    ],
)
def test_every_bit_that_speaks_against_a_device_is_named(bits: int, trouble: str, testing: bool) -> None:
    status = qcc.Status(bits, 0)
    assert (status.trouble, status.is_testing) == (trouble, testing)


def test_settings_are_changed_and_nothing_else_is() -> None:
    raw = struct.pack("<BfBBBHH", 0, float("nan"), 0b11_1111, 4, 64, 448, 2048)
    config = qcc.decode_config(raw)
    assert config.post_process is PostProcess.SHA256
    assert config.generate_on_error
    changed = config.changed(PostProcess.RAW_SAMPLES)
    assert (changed.post_process, changed.generate_on_error) == (PostProcess.RAW_SAMPLES, False)
    assert changed.raw[1:5] == raw[1:5]
    assert changed.raw[5] == 0b01_1111
    assert changed.raw[6:] == raw[6:]
    assert changed.changed(PostProcess.RAW_SAMPLES) == changed


def test_an_unknown_post_processing_is_refused() -> None:
    with pytest.raises(QuStreamError, match="unknown post-processing, 3") as caught:
        qcc.decode_config(b"\x03" + bytes(11))
    assert caught.value.code == "E-DEV-READ"


def test_names_are_read_as_a_certificate_names_them() -> None:
    found = info(b"QC0000000217", b"CICADA-QRNG-1.12")
    assert (found.serial, found.hardware, found.serial_number, found.version) == ("QC0000000217", "CICADA-QRNG-1.12", 217, (1, 12))
    assert info(b"QC4294967295", b"CICADA-QRNG-255.0").serial_number == (1 << 32) - 1
    assert info(b"Q" * 24, b"C" * 24).serial == "Q" * 24, "a text may fill its field"
    assert info(b"QC0000000217\x00\xff\xff", b"").serial == "QC0000000217", "what follows the end of a text is nothing"


@pytest.mark.parametrize("serial", [b"", b"QC217", b"QC4294967296", b"QC000000021x", b"XX0000000217", b"QC00000000217", b"QC0000000217 "])
def test_other_serials_have_no_number(serial: bytes) -> None:
    assert info(serial, b"").serial_number is None


@pytest.mark.parametrize(
    "hardware", [b"", b"CICADA-QRNG-1", b"CICADA-QRNG-256.0", b"CICADA-QRNG-0.256", b"CICADA-QRNG-1.1.1", b"CICADA-QRNG-a.b"]
)
def test_other_hardware_has_no_version(hardware: bytes) -> None:
    assert info(b"", hardware).version is None


@pytest.mark.parametrize("name", [b"\x1b[2J", b"QC\n", b"caf\xe9", b"\xff" * 24])
def test_a_name_that_is_no_text_is_refused(name: bytes) -> None:
    for serial, hardware in ((name, b""), (b"", name)):
        with pytest.raises(QuStreamError, match="no text") as caught:
            info(serial, hardware)
        assert caught.value.code == "E-DEV-READ"


def test_statistics() -> None:
    payload = struct.pack("<QIIIIHf", 1 << 40, 1, 2, 3, 800_000, 4, 0.5)
    assert qcc.decode_statistics(payload) == qcc.Statistics(1 << 40, 1, 2, 3, 800_000)
