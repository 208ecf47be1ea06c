"""The host's conversation with a QCicada: every state, every cut, and what breaks it."""

from __future__ import annotations

import pytest

from qrngd.devices import qcc_messages as qcc
from qrngd.devices.qcc import Answer, QccHost, State
from qustream.errors import QuStreamError

ACKED = b"\x11\x01\x00\x10\x00\x00"


def asked(request: qcc.Request) -> QccHost:
    host = QccHost()
    assert host.ask(request) == request.frame
    return host


def breach(host: QccHost, data: bytes) -> str:
    with pytest.raises(QuStreamError, match="breaks its protocol") as caught:
        host.receive(data)
    assert caught.value.code == "E-DEV-READ"
    assert host.state is State.BROKEN
    return caught.value.detail


@pytest.mark.parametrize("cut", range(1, 8))
def test_an_answer_may_come_in_any_pieces(cut: int) -> None:
    whole = b"\x11\x01\x00\x10\x00\x00light"
    host = asked(qcc.one_shot(5))
    answers: list[Answer] = []
    for at in range(0, len(whole), cut):
        assert host.state is State.ASKED
        answers += host.receive(whole[at : at + cut])
    assert host.state is State.IDLE
    assert [(each.payload, each.material, each.refused) for each in answers] == [(ACKED[1:], bytearray(b"light"), False)]


def test_a_signed_read_ends_with_the_signature() -> None:
    host = asked(qcc.signed_read(3))
    assert host.receive(b"\x52abc" + bytes(63)) == []
    (answer,) = host.receive(b"\x01")
    assert (answer.material, answer.signature, answer.payload) == (bytearray(b"abc"), bytes(63) + b"\x01", b"")


def test_a_refusal_is_one_byte() -> None:
    host = asked(qcc.KEY)
    (answer,) = host.receive(b"\x12")
    assert answer.refused
    assert answer.request is qcc.KEY
    assert host.state is State.IDLE
    host.ask(qcc.STATUS)
    assert host.receive(ACKED)[0].payload == ACKED[1:]


def test_another_code_than_the_expected_breaks_it() -> None:
    assert "0x17 to command 0x01" in breach(asked(qcc.STATUS), b"\x17")
    assert "0x0" in breach(asked(qcc.signed_read(10)), bytes(10))


def test_bytes_nobody_asked_for_break_it() -> None:
    assert "1 bytes" in breach(QccHost(), b"x")
    assert "3 bytes" in breach(asked(qcc.STATUS), ACKED + b"xyz")
    assert "2 bytes" in breach(asked(qcc.KEY), b"\x12xy")


def test_a_stream_runs_until_it_is_stopped() -> None:
    host = asked(qcc.CONTINUOUS)
    answers = host.receive(ACKED + b"abc") + host.receive(b"de")
    assert [each.material for each in answers] == [bytearray(), bytearray(b"abc"), bytearray(b"de")]
    assert host.state is State.STREAMING
    host.ask(qcc.STOP)
    assert host.receive(b"\x11 on the way \x12" * 100) == []
    assert host.receive(ACKED[:2]) == host.receive(ACKED[2:]) == []
    answer = host.quiet()
    assert answer
    assert answer.payload == ACKED[1:]
    assert host.state is State.IDLE


def test_a_stream_that_is_refused_does_not_start() -> None:
    host = asked(qcc.CONTINUOUS)
    assert host.receive(b"\x12")[0].refused
    assert host.state is State.IDLE


def test_a_stop_may_be_said_at_any_time_and_forgets_what_was_awaited() -> None:
    host = asked(qcc.signed_read(1000))
    host.receive(b"\x52" + bytes(500))
    host.ask(qcc.STOP)
    host.ask(qcc.STOP)
    host.receive(bytes(564) + ACKED)
    answer = host.quiet()
    assert answer
    assert answer.request is qcc.STOP
    host.ask(qcc.STATUS)
    assert len(host.receive(ACKED)) == 1


def test_a_refused_stop() -> None:
    host = asked(qcc.STOP)
    host.receive(b"\x12")
    answer = host.quiet()
    assert answer
    assert answer.refused


@pytest.mark.parametrize("rest", [b"", b"\x11", ACKED[1:], ACKED + b"x", b"\x12\x12", bytes(1000)])
def test_a_stop_that_is_not_confirmed_is_said_again(rest: bytes) -> None:
    host = asked(qcc.STOP)
    host.receive(rest)
    assert host.quiet() is None
    assert host.state is State.STOPPING
    host.ask(qcc.STOP)
    host.receive(ACKED)
    assert host.quiet() is not None


def test_two_commands_at_once_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="an answer is awaited"):
        asked(qcc.STATUS).ask(qcc.INFO)
    broken = QccHost()
    breach(broken, b"x")
    with pytest.raises(AssertionError, match="broke the protocol"):
        broken.ask(qcc.STATUS)


def test_answers_do_not_show_what_was_read() -> None:
    host = asked(qcc.one_shot(6))
    assert "secret" not in repr(host.receive(ACKED + b"secret"))
