"""Which idle connections are kept."""

from __future__ import annotations

import pytest

from qustream.client.idle import IDLE_MAX, IDLE_MAX_MS, Idle, at_address
from qustream.errors import fault

A, B = b"a" * 32, b"b" * 32


def test_what_was_put_is_taken_once() -> None:
    idle: Idle[str] = Idle()
    assert idle.take(A, 0) == (None, None)
    assert idle.put(A, "one", 0) is None
    assert idle.take(B, 1) == (None, None)
    assert idle.take(A, 1) == ("one", None)
    assert idle.take(A, 1) == (None, None)


def test_a_second_connection_to_a_node_is_not_kept() -> None:
    idle: Idle[str] = Idle()
    idle.put(A, "one", 0)
    assert idle.put(A, "two", 0) == "two"
    assert idle.take(A, 0) == ("one", None)


@pytest.mark.parametrize(("idle_ms", "taken"), [(IDLE_MAX_MS, ("one", None)), (IDLE_MAX_MS + 1, (None, "one"))])
def test_what_was_idle_for_too_long_is_closed(idle_ms: int, taken: tuple[str | None, str | None]) -> None:
    idle: Idle[str] = Idle()
    idle.put(A, "one", 0)
    assert idle.take(A, idle_ms / 1000) == taken


def test_the_longest_unused_gives_way() -> None:
    idle: Idle[int] = Idle()
    for number in range(IDLE_MAX):
        assert idle.put(bytes([number]), number, 0) is None
    idle.put(bytes([0]), idle.take(bytes([0]), 1)[0] or 0, 1)
    assert idle.put(A, 99, 2) == 1
    assert idle.put(B, 100, 2) == 2


def test_closed_keeps_nothing() -> None:
    idle: Idle[str] = Idle()
    idle.put(A, "one", 0)
    idle.put(B, "two", 0)
    assert idle.close() == ["one", "two"]
    assert idle.close() == []
    assert idle.put(A, "three", 0) == "three"


def test_an_error_names_its_address() -> None:
    error = at_address("127.0.0.1:1", fault("E-PEER-LIMIT", retry_after_ms=7))
    assert (error.code, error.retry_after_ms) == ("E-PEER-LIMIT", 7)
    assert error.detail.startswith("127.0.0.1:1: too many")
