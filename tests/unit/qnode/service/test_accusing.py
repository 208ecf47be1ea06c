"""Whoever signs twice is reported, also if several do in one moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import trio
from support.ledger_world import CHAIN, LedgerWorld, key, voter
from support.mempool_world import mempool

from qnode.core.consensus_events import Accuse
from qnode.core.ledger import rotations
from qnode.service.accusing import Accusing
from qustream.wire.consensus import Kind, Statement
from qustream.wire.transactions import DoubleSign


def offence(number: int) -> Accuse:
    """Of a validator's: two notarisations of one view."""
    said = [Statement(CHAIN, 1, 5, Kind.NOTAR, bytes([digest]) * 32) for digest in (1, 2)]
    first, second = ((each, voter(number).sign(each)) for each in said)
    return Accuse(number, first, second)


class _Chain:
    """What `Accusing` asks of a chain."""

    def __init__(self, world: LedgerWorld) -> None:
        self.genesis, self.parameters, self.head, self.state = world.genesis, world.parameters, SimpleNamespace(height=1), world.state

    def rotation(self, number: int) -> Any:
        return rotations.find(self.state(), number)

    def vote_keys(self, _rotation: int) -> list[bytes]:
        return [voter(number).public for number in range(4)]


async def test_of_several_who_sign_twice_in_one_moment_none_hides_behind_another() -> None:
    world = LedgerWorld(validators=4, idle=0, people=4)
    reporter = key("owner", 0)  # whose account has something
    async with mempool(world) as pool, trio.open_nursery() as nursery:
        accusing = Accusing(cast(Any, _Chain(world)), pool.mempool, reporter, nursery.start_soon)
        for number in (1, 2, 3):
            accusing.accuse(cast(Any, SimpleNamespace(rotation=1)), offence(number))
        with trio.fail_after(60):
            while not all(each.state for each in accusing.accusations.values()):
                await trio.sleep(0.01)
        assert [each.state for each in accusing.accusations.values()] == ["sent"] * 3
        assert len(pool.mempool) == 3
        waiting = [pool.mempool._bodies[name][1].body for name in pool.mempool._bodies]
        assert sorted(body.nonce for body in waiting) == [0, 1, 2]
        assert all(isinstance(body.action, DoubleSign) for body in waiting)
