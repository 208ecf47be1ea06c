"""A block that comes a second time is named, however far it is from the first, up to what is remembered."""

from __future__ import annotations

import pytest

from qrngd.appliance.freshness import BlockMemory
from qustream.errors import OperatorFault


def block(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_new_blocks_pass_and_seen_ones_do_not() -> None:
    memory = BlockMemory(100)
    memory.admit([block(number) for number in range(50)])
    memory.admit([block(number) for number in range(50, 90)])
    for again in (0, 49, 89):
        with pytest.raises(OperatorFault, match="block 2 was delivered before") as caught:
            memory.admit([block(1000 + again), block(2000 + again), block(again)])
        assert caught.value.code == "E-APPLIANCE-ANSWER"


def test_twice_in_one_answer() -> None:
    with pytest.raises(OperatorFault, match="block 3"):
        BlockMemory().admit([block(1), block(2), block(3), block(2)])


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    memory = BlockMemory(3)
    memory.admit([block(number) for number in range(4)])
    memory.admit([block(0)])
    with pytest.raises(OperatorFault):
        memory.admit([block(3)])


def test_no_block_is_kept() -> None:
    memory = BlockMemory()
    memory.admit([b"\xabsecret-entropy-of-thirty-2-bytes"])
    assert b"secret" not in repr(vars(memory)).encode()
