"""Refusals from a peer become exceptions we know."""

from __future__ import annotations

import pytest

from qustream.errors import CODES, OperatorFault, PeerFault, QuStreamError, Unavailable
from qustream.wire.rpc import Refusal, refusal_error

TOLD = [code for code, row in CODES.items() if row.family != "operator" or code == "E-REGISTRY-UNKNOWN"]


@pytest.mark.parametrize("code", TOLD)
def test_a_known_code_becomes_its_exception(code):
    error = refusal_error(Refusal(1, code, "why", 250))
    assert isinstance(error, QuStreamError)
    assert (error.code, error.detail, error.retry_after_ms) == (code, "why", 250)
    assert isinstance(error, {"peer": PeerFault, "operator": OperatorFault, "unavailable": Unavailable}[CODES[code].family])


@pytest.mark.parametrize("code", sorted(CODES.keys() - set(TOLD)))
def test_a_peer_cannot_send_our_operator_to_work(code):
    error = refusal_error(Refusal(1, code, "call this number to unlock your words", 0))
    assert isinstance(error, PeerFault)
    assert error.code == "E-ANSWER-INVALID"
    assert "number" not in str(error)


def test_no_hint_is_none():
    assert refusal_error(Refusal(1, "E-DEADLINE", "", 0)).retry_after_ms is None


def test_an_unknown_code_is_the_peers_fault():
    error = refusal_error(Refusal(1, "E-INVENTED", "\x1b[31m", 0))
    assert error.code == "E-ANSWER-INVALID"
    assert "INVENTED" not in str(error)


def test_a_hostile_detail_reaches_no_terminal():
    error = refusal_error(Refusal(1, "E-GRANT-SPENT", "a\x1b[31mb\nc\u202ed", 0))
    assert error.detail == "a?[31mb?c?d"
    assert str(error).isprintable()
