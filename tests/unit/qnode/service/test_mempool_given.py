"""Transactions that come from strangers, and those that are given to others by a node that nobody is linked to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from support.mempool_world import mempool
from support.session_pair import facing

from qnode.net.strangers import LIMITS, Kind, Stranger, Strangers
from qnode.service import mempool_given as module
from qnode.service.mempool_given import Giver, Taker
from qustream.errors import QuStreamError, fault
from qustream.wire.codec import decode, encode
from qustream.wire.mempool import TransactionGiven, TransactionTaken
from qustream.wire.transactions import transaction_id

WHO, OTHER = Stranger(b"s" * 32, "10.1.0.0/16"), Stranger(b"o" * 32, "10.2.0.0/16")


async def test_a_strangers_transaction_is_taken_in_as_if_it_had_been_submitted_and_paid_for() -> None:
    async with mempool() as world:
        strangers = Strangers()
        taker, raw = Taker(world.mempool, strangers), world.transfer(0)
        for _ in range(2):  # one that waits already is no error
            said = decode(await taker.answer_stranger(WHO, encode(TransactionGiven(raw)), 9_000), TransactionTaken, max_bytes=99)
            assert said.id == transaction_id(raw)
        assert world.mempool.get(said.id) is not None
        assert strangers.answered[Kind.TRANSACTIONS] == 2
        with pytest.raises(QuStreamError, match="E-LEDGER-FORM"):
            await taker.answer_stranger(WHO, encode(TransactionGiven(b"rubbish")), 9_000)
        with pytest.raises(QuStreamError, match="E-WIRE"):
            await taker.answer_stranger(WHO, b"\x92\x7d\xc0", 9_000)
        assert strangers.refused[Kind.TRANSACTIONS] == 1
        left = LIMITS[Kind.TRANSACTIONS].key.most - 4
        for _ in range(left):
            strangers.begin(WHO, Kind.TRANSACTIONS)
        before, other = world.verifier.pool.checked, world.transfer(1)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await taker.answer_stranger(WHO, encode(TransactionGiven(other)), 9_000)
        assert world.verifier.pool.checked == before, "nothing is verified for whom nothing is left"
        await taker.answer_stranger(OTHER, encode(TransactionGiven(other)), 9_000)


async def test_a_strangers_transaction_behind_a_gap_is_refused_until_the_gap_is_closed() -> None:
    async with mempool() as world:
        taker = Taker(world.mempool, Strangers())
        first, second, third = (world.transfer(0, nonce=nonce) for nonce in range(3))
        with pytest.raises(QuStreamError, match="E-LEDGER-NONCE"):
            await taker.answer_stranger(WHO, encode(TransactionGiven(second)), 9_000)
        assert (world.verifier.pool.checked, len(world.mempool)) == (0, 0), "nothing is verified, and nothing waits"
        await world.mempool.submit(third)  # this node's own operator may park what he likes
        with pytest.raises(QuStreamError, match="E-LEDGER-NONCE"):  # and so may gossip; it is not said for a stranger
            await taker.answer_stranger(WHO, encode(TransactionGiven(third)), 9_000)
        for raw in (first, second, third):
            await taker.answer_stranger(WHO, encode(TransactionGiven(raw)), 9_000)
        assert len(world.mempool) == 3


async def test_they_are_given_in_order_so_that_none_comes_before_its_gap_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    taken: list[bytes] = []

    async def call(_: bytes, body: bytes) -> bytes:
        raw = decode(body, TransactionGiven, max_bytes=99_999).transaction
        await trio.sleep(1 if raw == b"first" else 0)
        taken.append(raw)
        return encode(TransactionTaken(transaction_id(raw)))

    giver = Giver(peers=lambda: [b"a"], call=call, waits=lambda _: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(giver.run)
        await trio.testing.wait_all_tasks_blocked()
        for raw in (b"first", b"second", b"third"):
            assert giver.give(raw)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(5)
        assert taken == [b"first", b"second", b"third"]
        nursery.cancel_scope.cancel()


async def test_a_known_node_without_a_link_gives_one_too() -> None:
    async with mempool() as world, facing() as (alice, _):
        taker, raw = Taker(world.mempool, Strangers()), world.transfer(0)
        await taker.answer(alice.sessions[0], encode(TransactionGiven(raw)), 9_000)
        assert world.mempool.get(transaction_id(raw)) is not None


class Others:
    """Nodes by their ids, and what each says. `asked`: who was, in order."""

    def __init__(self, **says: str) -> None:
        self.says, self.asked = {name.encode(): code for name, code in says.items()}, list[bytes]()
        self.waiting: set[bytes] = set()

    async def call(self, node: bytes, body: bytes) -> bytes:
        self.asked.append(node)
        await trio.lowlevel.checkpoint()
        code = self.says[node]
        if code.startswith("E-"):
            raise fault(code)
        raw = decode(body, TransactionGiven, max_bytes=99_999).transaction
        return encode(TransactionTaken(transaction_id(raw))) if not code else encode(TransactionTaken(bytes(32)))

    @asynccontextmanager
    async def giver(self) -> AsyncIterator[Giver]:
        made = Giver(peers=lambda: list(self.says), call=self.call, waits=lambda name: name in self.waiting)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.testing.wait_all_tasks_blocked()
            yield made
            nursery.cancel_scope.cancel()


async def test_two_others_have_it_and_who_refuses_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    others = Others(a="E-PEER-LIMIT", b="", c="another's id", d="", e="")
    async with others.giver() as giver:
        assert giver.give(b"raw")
        assert giver.give(b"raw"), "it is on its way"
        await trio.sleep(1)
        assert others.asked == [b"a", b"b", b"c", b"d"]
        assert (giver.given, giver.refused) == (1, "")


async def test_it_is_given_again_until_somebody_has_it_or_it_waits_no_longer(autojump_clock: trio.testing.MockClock) -> None:
    others = Others(a="E-PEER-LIMIT")
    others.waiting = {transaction_id(b"one")}
    async with others.giver() as giver:
        assert giver.give(b"one")
        assert giver.give(b"two")
        await trio.sleep(3.5 * module.AGAIN_S)
        assert len(others.asked) == 4 + 1, "the second waits no longer"
        assert (giver.given, giver.refused) == (0, "E-PEER-LIMIT")
        others.says[b"a"] = ""
        await trio.sleep(module.AGAIN_S)
        assert (giver.given, giver.refused, len(giver._under_way)) == (1, "", 0)


async def test_nothing_is_promised_where_nobody_can_be_asked_or_too_much_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNDER_WAY_MAX", 3)
    alone = Giver(peers=lambda: [b"a"], call=Others().call, waits=lambda _: True)
    assert not alone.give(b"before it runs")
    async with Others().giver() as giver:
        assert not giver.give(b"nobody")
    others = Others(a="E-PEER-LIMIT")
    async with others.giver() as giver:
        assert not giver.give(bytes(module.SIZE_MAX + 1)), "a stranger's message may not be so long"
        assert [giver.give(bytes([number])) for number in range(5)] == [True, True, True, False, False]
