"""The table of open calls."""

from __future__ import annotations

import pytest

from qustream.errors import PeerFault, QuStreamError, fault
from qustream.transport.calls import Answer, CallTable, again, checked, read_rpc
from qustream.transport.limits import ABANDONED_MAX, CALLS_MAX, DEADLINE_MAX_MS
from qustream.wire.codec import encode
from qustream.wire.rpc import BODY_MAX_BYTES, Refusal, Request, Response


def code_of(error: pytest.ExceptionInfo[QuStreamError]) -> str:
    return error.value.code


def test_an_answer_goes_to_whoever_asked() -> None:
    calls, first, second = CallTable(), list[Answer](), list[Answer]()
    one, request = calls.open(b"one", 10, first.append)
    two, _ = calls.open(b"two", DEADLINE_MAX_MS + 1, second.append)
    assert read_rpc(request) == Request(one, 10, b"one")
    calls.settle(Response(two, b"2"))
    calls.settle(Refusal(one, "E-NODE-FULL", "no room", 7))
    assert second == [b"2"]
    assert isinstance(first[0], QuStreamError)
    assert (first[0].code, first[0].detail, first[0].retry_after_ms) == ("E-NODE-FULL", "no room", 7)
    assert len(calls) == 0


def test_the_deadline_sent_is_bounded() -> None:
    request = read_rpc(CallTable().open(b"x", 10**12, list[Answer]().append)[1])
    assert isinstance(request, Request)
    assert request.deadline_ms == DEADLINE_MAX_MS


def test_an_answer_nobody_asked_for_is_a_fault() -> None:
    with pytest.raises(PeerFault) as caught:
        CallTable().settle(Response(0, b"x"))
    assert code_of(caught) == "E-FRAME-ORDER"


def test_a_second_answer_is_a_fault() -> None:
    calls = CallTable()
    number, _ = calls.open(b"x", 10, list[Answer]().append)
    calls.settle(Response(number, b"1"))
    with pytest.raises(PeerFault):
        calls.settle(Response(number, b"1"))


def test_a_late_answer_is_dropped_once() -> None:
    calls, answers = CallTable(), list[Answer]()
    number, _ = calls.open(b"x", 10, answers.append)
    calls.abandon(number)
    calls.abandon(number)
    calls.settle(Response(number, b"late"))
    assert answers == []
    with pytest.raises(PeerFault):
        calls.settle(Response(number, b"late"))


def test_open_calls_are_bounded() -> None:
    calls = CallTable()
    for _ in range(CALLS_MAX):
        calls.open(b"x", 10, list[Answer]().append)
    with pytest.raises(QuStreamError) as caught:
        calls.open(b"x", 10, list[Answer]().append)
    assert code_of(caught) == "E-PEER-LIMIT"


def test_a_peer_that_never_answers_is_given_up() -> None:
    calls = CallTable()
    for _ in range(ABANDONED_MAX):
        calls.abandon(calls.open(b"x", 10, list[Answer]().append)[0])
    with pytest.raises(QuStreamError) as caught:
        calls.open(b"x", 10, list[Answer]().append)
    assert code_of(caught) == "E-PEER-CLOSED"


def test_a_long_request_and_a_spent_deadline_are_refused_here() -> None:
    for body, deadline_ms, code in ((bytes(BODY_MAX_BYTES + 1), 10, "E-WIRE-OVERSIZE"), (b"x", 0, "E-DEADLINE")):
        with pytest.raises(QuStreamError) as caught:
            CallTable().open(body, deadline_ms, list[Answer]().append)
        assert code_of(caught) == code


def test_the_end_of_the_connection_reaches_everybody() -> None:
    calls, answers = CallTable(), list[Answer]()
    for _ in range(3):
        calls.open(b"x", 10, answers.append)
    calls.fail_all(fault("E-PEER-CLOSED", "gone"))
    assert [isinstance(answer, QuStreamError) for answer in answers] == [True] * 3


def test_checked_raises_anew_and_refuses_long_answers() -> None:
    error = fault("E-NODE-FULL", "no room", retry_after_ms=5)
    with pytest.raises(QuStreamError) as caught:
        checked(error, 10)
    assert caught.value is not error
    assert caught.value.retry_after_ms == 5
    assert checked(b"12345", 5) == b"12345"
    with pytest.raises(QuStreamError) as caught:
        checked(b"123456", 5)
    assert code_of(caught) == "E-WIRE-OVERSIZE"
    assert again(error).args == error.args


def test_what_is_no_rpc_message_is_refused() -> None:
    for bad in (b"", b"\xc0", encode(Request(1, 1, b"x"))[:-1], encode(Request(1, 1, b"x")) + b"\0"):
        with pytest.raises(QuStreamError) as caught:
            read_rpc(bad)
        assert code_of(caught) == "E-WIRE-MALFORMED"
    long_form = encode(Response(1, b"x")).replace(b"\x0b\x01", b"\x0b\xcc\x01")
    with pytest.raises(QuStreamError) as caught:
        read_rpc(long_form)
    assert code_of(caught) == "E-WIRE-NONCANONICAL"
