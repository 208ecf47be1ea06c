"""Whatever a device sends, in whatever pieces: an answer, more to come, or E-DEV-READ. Never more in memory than one answer."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from qrngd.devices import qcc_messages as qcc
from qrngd.devices.qcc import QccHost, State
from qrngd.emulation.maker import Maker
from qrngd.emulation.qcc_device import INPUT_MAX_BYTES, QccDevice
from qustream.errors import QuStreamError

PLAIN = (qcc.STATUS, qcc.CONFIG, qcc.STATISTICS, qcc.RESET, qcc.INFO, qcc.KEY, qcc.CERTIFICATE, qcc.CONTINUOUS, qcc.STOP, qcc.REBOOT)
requests = st.one_of(st.sampled_from(PLAIN), st.builds(qcc.one_shot, st.integers(1, 300)), st.builds(qcc.signed_read, st.integers(1, 300)))
CODES = (qcc.ACK, qcc.NACK, 0x17, 0x19, 0x1B, 0x52, 0xF9, 0xFB)
# Bytes that go a little further than any would.
likely = st.builds(lambda code, rest: bytes([code]) + rest, st.sampled_from(CODES), st.binary(max_size=80))
chunks = st.one_of(st.binary(max_size=80), likely)
MAKER = Maker(bytes(32))


def decoded(answer_payload: bytes, code: qcc.Code) -> None:
    decoders = {
        qcc.Code.CONFIG: qcc.decode_config,
        qcc.Code.STATISTICS: qcc.decode_statistics,
        qcc.Code.INFO: qcc.decode_info,
        qcc.Code.STATUS: qcc.decode_status,
    }
    with contextlib.suppress(QuStreamError):
        decoders.get(code, bytes)(answer_payload)


def converse(host: QccHost, conversation: list[tuple[qcc.Request, list[bytes]]]) -> None:
    for request, heard in conversation:
        if host.state in (State.STREAMING, State.ASKED) and request is not qcc.STOP:
            continue
        if host.state is State.STOPPING and host.quiet() is None:
            continue
        host.ask(request)
        for data in heard:
            for answer in host.receive(data):
                if not answer.refused:
                    decoded(answer.payload, answer.request.code)
            assert len(host._buffer) <= qcc.ANSWER_MAX_BYTES


@given(st.lists(st.tuples(requests, st.lists(chunks, max_size=6)), max_size=6))
def test_any_bytes_give_answers_or_one_coded_error(conversation: list[tuple[qcc.Request, list[bytes]]]) -> None:
    host = QccHost()
    refusal = None
    try:
        converse(host, conversation)
    except QuStreamError as error:
        refusal = error
    assert (refusal is None) == (host.state is not State.BROKEN)
    assert refusal is None or refusal.code == "E-DEV-READ"


@given(st.lists(st.tuples(requests, st.integers(1, 400)), max_size=12))
def test_host_and_emulated_device_understand_each_other_in_any_cut(conversation: list[tuple[qcc.Request, int]]) -> None:
    host, device = QccHost(), QccDevice(lambda size: b"\x07" * size, MAKER)
    for request, cut in conversation:
        if host.state is State.STREAMING:
            host.receive(device.output(cut))
            device.receive(host.ask(qcc.STOP))
            while chunk := device.output(cut):
                host.receive(chunk)
            assert host.quiet() is not None
        device.receive(host.ask(request))
        answers = []
        while host.state is State.ASKED and (chunk := device.output(cut)):
            answers += host.receive(chunk)
        if request is qcc.STOP:
            while chunk := device.output(cut):
                host.receive(chunk)
            assert host.quiet() is not None
        else:
            assert len(answers) >= 1
            assert not answers[0].refused
            assert len(answers[0].material or b"") == request.material_bytes
    assert host.state in (State.IDLE, State.STREAMING)


@given(st.lists(st.binary(max_size=64), max_size=12), st.integers(1, 300))
def test_the_emulated_device_takes_any_commands(commands: list[bytes], most: int) -> None:
    device = QccDevice(lambda size: b"\x07" * size, MAKER)
    for command in commands:
        device.receive(command)
        assert len(device.output(most)) <= most
        assert len(device._input) <= INPUT_MAX_BYTES
