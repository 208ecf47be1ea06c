"""The emulated QCicada without a line: what it answers to each command, and to what is none."""

from __future__ import annotations

import struct

import pytest

from qrngd.devices import qcc_messages as qcc
from qrngd.emulation.maker import Maker
from qrngd.emulation.qcc_device import INPUT_MAX_BYTES, QccDevice
from qrngd.emulation.qcc_faults import QccFaults
from qustream.identity.device_evidence import certificate_message
from qustream.identity.p256 import verify_p256

MAKER = Maker(bytes(32))


def sound() -> QccDevice:
    return device("")


def device(faults: str) -> QccDevice:
    return QccDevice(lambda size: b"\x07" * size, MAKER, faults=QccFaults(faults), serial_number=5, speed=800_000)


def said(emulated: QccDevice, command: bytes, most: int = 1000) -> bytes:
    emulated.receive(command)
    return b"".join(iter(lambda: emulated.output(most), b""))


def test_it_answers_every_command() -> None:
    emulated = sound()
    for request in (qcc.STATUS, qcc.STOP, qcc.CONFIG, qcc.STATISTICS, qcc.RESET, qcc.INFO, qcc.KEY, qcc.CERTIFICATE, qcc.REBOOT):
        answer = said(emulated, request.frame)
        assert (answer[0], len(answer)) == (qcc.RESPONSES[request.code][0], request.answer_bytes)


def test_its_signatures_and_certificate_hold() -> None:
    emulated = sound()
    key = said(emulated, qcc.KEY.frame)[1:]
    info = qcc.decode_info(said(emulated, qcc.INFO.frame)[1:])
    assert info.version
    assert info.serial_number == 5
    assert verify_p256(MAKER.authority.public, certificate_message(info.version, 5, key), said(emulated, qcc.CERTIFICATE.frame)[1:])
    answer = said(emulated, qcc.signed_read(100).frame, most=9)
    assert answer[1:101] == b"\x07" * 100
    assert verify_p256(key, answer[1:101], answer[101:])


def test_settings_are_kept_and_a_reboot_forgets_them() -> None:
    emulated = sound()
    factory = said(emulated, qcc.CONFIG.frame)[1:]
    new = qcc.decode_config(factory).changed(qcc.PostProcess.RAW_SAMPLES)
    assert said(emulated, qcc.set_config(new).frame)[0] == qcc.ACK
    assert said(emulated, qcc.CONFIG.frame)[1:] == new.raw
    assert said(emulated, b"\x08\x03" + bytes(11)) == b"\x12", "no such post-processing"
    said(emulated, qcc.REBOOT.frame)
    assert said(emulated, qcc.CONFIG.frame)[1:] == factory


def test_it_counts_what_it_generates() -> None:
    emulated = sound()
    said(emulated, qcc.one_shot(300).frame)
    statistics = qcc.decode_statistics(said(emulated, qcc.STATISTICS.frame)[1:])
    assert (statistics.generated_bytes, statistics.speed) == (300, 800_000)
    said(emulated, qcc.RESET.frame)
    assert qcc.decode_statistics(said(emulated, qcc.STATISTICS.frame)[1:]).generated_bytes == 0


def test_it_streams_until_it_is_stopped() -> None:
    emulated = sound()
    emulated.receive(qcc.CONTINUOUS.frame)
    assert emulated.output(10)[0] == qcc.ACK
    assert [emulated.output(10) for _ in range(3)] == [b"\x07" * 10] * 3
    answer = said(emulated, qcc.STOP.frame)
    assert (answer[0], len(answer)) == (qcc.ACK, 6)
    assert not emulated.is_streaming


@pytest.mark.parametrize("command", [b"\x02", b"\x04\x02\x01\x00", b"\x04\x01\x00\x00", b"\x51\x00\x00", b"\xf8\xa1\x26"])
def test_what_it_does_not_know_it_refuses(command: bytes) -> None:
    assert said(sound(), command) == b"\x12"


def test_commands_wait_for_each_other_and_for_their_end() -> None:
    emulated = sound()
    assert said(emulated, b"\x51\x03") == b""
    answers = said(emulated, b"\x00" + qcc.STATUS.frame)
    assert len(answers) == 1 + 3 + 64 + 6
    emulated.receive(bytes(2 * INPUT_MAX_BYTES))
    assert len(said(emulated, b"")) == INPUT_MAX_BYTES, "one refusal each for what it could hold"


def test_without_bytes_it_waits() -> None:
    stock = [b"ab", b"", b"c"]
    emulated = QccDevice(lambda size: stock.pop(0), MAKER)
    emulated.receive(qcc.one_shot(3).frame)
    assert [emulated.output(100)[:1], emulated.output(100), emulated.output(100), emulated.output(100)] == [b"\x11", b"ab", b"", b"c"]


def test_a_stop_that_is_said_again_is_the_same_opening() -> None:
    emulated = device("serial@number=9,opens=1")
    for serial_number in (5, 9):
        for _ in range(3):
            said(emulated, qcc.STOP.frame)
        assert qcc.decode_info(said(emulated, qcc.INFO.frame)[1:]).serial_number == serial_number


def test_faults_change_the_answer_they_mean() -> None:
    assert said(device("truncate"), qcc.signed_read(100).frame) == b"\x52" + b"\x07" * 50
    assert len(said(device("truncate"), qcc.INFO.frame)) == 29
    assert said(device("silence@command=1"), qcc.STATUS.frame + qcc.CONFIG.frame)[0] == 0x17
    assert len(said(device("garbage@size=7"), qcc.STATUS.frame)) == 7
    assert struct.unpack("<BBI", said(device("status@bits=65"), qcc.STATUS.frame))[1] == 0x40
    key = MAKER.device.public
    assert not verify_p256(key, b"\x07" * 8, said(device("signature"), qcc.signed_read(8).frame)[9:])
    assert verify_p256(MAKER.stranger.public, certificate_message((1, 1), 5, key), said(device("certificate"), qcc.CERTIFICATE.frame)[1:])
