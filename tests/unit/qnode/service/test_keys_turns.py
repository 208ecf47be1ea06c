"""Turns: one at a time for one index, others undisturbed, nothing left behind."""

import pytest
import trio

from qnode.service.keys_turns import Turns


async def test_one_at_a_time_in_order_of_arrival():
    turns, log = Turns(), []

    async def visit(name):
        async with turns.of(b"index"):
            log.append(f"{name} in")
            await trio.testing.wait_all_tasks_blocked()
            log.append(f"{name} out")

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(visit, name)
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]
    assert len(turns) == 0


async def test_another_index_does_not_wait():
    turns = Turns()
    async with turns.of(b"one"):
        with trio.fail_after(60):
            async with turns.of(b"two"):
                assert len(turns) == 2


async def test_who_is_cancelled_or_fails_gives_up_his_turn():
    turns = Turns()
    async with turns.of(b"index"):
        with trio.move_on_after(0) as scope:
            async with turns.of(b"index"):
                raise AssertionError("two at once")
        assert scope.cancelled_caught
        assert len(turns) == 1
    with pytest.raises(ValueError, match="inside"):
        async with turns.of(b"index"):
            raise ValueError("inside")
    assert len(turns) == 0
    with trio.fail_after(60):
        async with turns.of(b"index"):
            pass
