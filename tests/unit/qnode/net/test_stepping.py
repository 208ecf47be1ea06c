"""Events one at a time."""

from __future__ import annotations

import pytest

from qnode.net.stepping import Stepping


def test_what_comes_of_an_effect_waits_for_the_other_effects_of_its_event() -> None:
    done: list[str] = []

    def perform(effect: str) -> None:
        done.append(effect)
        if effect == "a1":
            stepping("b")
            stepping("c")

    stepping: Stepping[str, str] = Stepping(lambda event: [event + "1", event + "2"], perform)
    stepping("a")
    assert done == ["a1", "a2", "b1", "b2", "c1", "c2"]
    stepping("d")
    assert done[-2:] == ["d1", "d2"]


def test_an_error_does_not_keep_it_from_the_next_event() -> None:
    done: list[int] = []

    def perform(effect: int) -> None:
        done.append(10 // effect)

    stepping: Stepping[int, int] = Stepping(lambda event: [event], perform)
    with pytest.raises(ZeroDivisionError):
        stepping(0)
    stepping(5)
    assert done == [2]
