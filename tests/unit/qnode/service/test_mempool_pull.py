"""Transactions of a block that are not here: asked of peers over real connections, and answered within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from support.ledger_world import LedgerWorld
from support.mempool_world import MempoolWorld, mempool
from support.session_pair import BOB, facing

import qnode.service.mempool_pull as module
from qnode.net.session import Session
from qustream.errors import QuStreamError, fault
from qustream.wire.codec import decode, encode
from qustream.wire.mempool import TRANSACTIONS_ANSWER_MAX_BYTES, TRANSACTIONS_ASKED_MAX, TransactionsAnswer, TransactionsAsk
from qustream.wire.transactions import transaction_id

Answer = Callable[[Session, bytes, int], Awaitable[bytes]]


@asynccontextmanager
async def asking(answer: Answer | None = None, count: int = 1) -> AsyncIterator[tuple[MempoolWorld, MempoolWorld, list[Session]]]:
    """Whoever asks, whoever is asked, and the first's sessions to the second."""
    async with mempool() as ours, mempool() as theirs, facing(count) as (alice, bob):
        bob.answer = answer or theirs.mempool.answer  # type: ignore[method-assign]
        yield ours, theirs, alice.sessions


def saying(*raws: bytes) -> Answer:
    async def answer(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
        return encode(TransactionsAnswer(raws))

    return answer


def ids(raws: Sequence[bytes]) -> list[bytes]:
    return [transaction_id(raw) for raw in raws]


async def test_from_here_from_the_disk_and_from_a_peer() -> None:
    async with asking() as (ours, theirs, sessions):
        raws = [ours.transfer(0) for _ in range(4)]
        await ours.mempool.submit(raws[0])
        ours.disk[transaction_id(raws[1])] = raws[1]
        theirs.disk[transaction_id(raws[2])] = raws[2]
        await theirs.mempool.submit(raws[3])
        found = await ours.mempool.obtain([*ids(raws), b"x" * 32, transaction_id(raws[0])], sessions)
        assert {name: raw for name, (raw, _) in found.found.items()} == dict(zip(ids(raws), raws, strict=True))
        assert all(name == checked.id for name, (_, checked) in found.found.items())
        assert (found.bad, found.missing) == ({}, (b"x" * 32,))
        assert len(ours.mempool) == 1, "what is asked for a block is not the mempool's"


async def test_nobody_is_asked_for_what_is_here() -> None:
    async def answer(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
        raise AssertionError

    async with asking(answer) as (ours, _, sessions):
        raw = ours.transfer(0)
        await ours.mempool.submit(raw)
        assert list((await ours.mempool.obtain(ids([raw]), sessions)).found) == ids([raw])
        assert (await ours.mempool.obtain([], sessions)).missing == ()


async def test_what_does_not_hold_is_bad_and_its_bringer_is_not_charged() -> None:
    """A block may name it; whoever hands it on shows that the block is not valid."""
    async with asking() as (ours, theirs, sessions):
        raw = ours.transfer(0)[:-1] + b"\x00"
        theirs.disk[transaction_id(raw)] = raw
        theirs.disk[transaction_id(b"garbage")] = b"garbage"
        found = await ours.mempool.obtain([transaction_id(raw), transaction_id(b"garbage")], sessions)
        assert found.bad == {transaction_id(raw): "E-LEDGER-SIGNATURE", transaction_id(b"garbage"): "E-LEDGER-FORM"}
        assert (found.found, found.missing, ours.misled_by) == ({}, (), [])


async def test_whose_key_is_not_known_yet_is_missing() -> None:
    async with asking() as (ours, theirs, sessions):
        raw = ours.transfer(0, bare=True)
        theirs.disk[transaction_id(raw)] = raw
        found = await ours.mempool.obtain(ids([raw]), sessions)
        assert (found.bad, found.missing) == ({}, (transaction_id(raw),))


@pytest.mark.parametrize("what", ["another", "twice", "garbage"])
async def test_who_answers_what_was_not_asked_is_charged_and_the_next_is_asked(what) -> None:
    async with asking() as (ours, theirs, sessions):
        raw, other = ours.transfer(0), ours.transfer(1)
        lies = {"another": saying(raw, other), "twice": saying(raw, raw)}
        async with facing() as (alice, bob):
            bob.answer = lies.get(what) or _garbage  # type: ignore[method-assign]
            theirs.disk[transaction_id(raw)] = raw
            found = await ours.mempool.obtain(ids([raw]), [*alice.sessions, *sessions])
        assert list(found.found) == ids([raw])
        assert ours.misled_by == [BOB.id]


async def _garbage(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
    return b"\xc1"


async def test_who_refuses_or_has_nothing_is_asked_once() -> None:
    asked: list[int] = []

    async def refuse(_session: Session, body: bytes, _deadline_ms: int) -> bytes:
        asked.append(len(decode(body, TransactionsAsk, max_bytes=1 << 16).ids))
        if len(asked) == 1:
            raise fault("E-PEER-LIMIT", "asked too often")
        return encode(TransactionsAnswer(()))

    async with asking(refuse, 2) as (ours, _, sessions):
        wanted = [number.to_bytes(32, "big") for number in range(300)]
        found = await ours.mempool.obtain(wanted, sessions)
        assert found.missing == tuple(wanted)
        assert asked == [TRANSACTIONS_ASKED_MAX] * 2
        assert ours.misled_by == []


async def test_who_is_silent_is_not_waited_for_long(monkeypatch) -> None:
    monkeypatch.setattr(module, "ASK_MS", 50)

    async def sleep(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async with asking(sleep) as (ours, _, sessions):
        assert (await ours.mempool.obtain([b"x" * 32], sessions)).missing == (b"x" * 32,)


async def test_a_whole_block_comes_in_several_answers() -> None:
    async with asking() as (ours, theirs, sessions):
        raws = [ours.transfer(number % 4) for number in range(200)]
        theirs.disk |= dict(zip(ids(raws), raws, strict=True))
        found = await ours.mempool.obtain(ids(raws), sessions)
        assert len(found.found) == 200
        assert sum(map(len, raws)) > 2 * TRANSACTIONS_ANSWER_MAX_BYTES


async def test_an_answer_is_bounded_and_in_order() -> None:
    async with mempool(LedgerWorld(validators=1, idle=0, people=1)) as pool, facing() as (alice, _):
        session = alice.sessions[0]
        for number in range(20):
            pool.disk[number.to_bytes(32, "big")] = bytes([number]) * 65_000
        waits = pool.transfer(0)
        await pool.mempool.submit(waits)
        asked = tuple(number.to_bytes(32, "big") for number in reversed(range(20)))
        body = await pool.mempool.answer(session, encode(TransactionsAsk((*asked, transaction_id(waits)))), 1000)
        assert len(body) <= TRANSACTIONS_ANSWER_MAX_BYTES
        answer = decode(body, TransactionsAnswer, max_bytes=TRANSACTIONS_ANSWER_MAX_BYTES)
        assert [raw[0] for raw in answer.transactions[:-1]] == list(range(19, 12, -1))
        assert answer.transactions[-1] in (waits, pool.disk[asked[7]])


async def test_asks_are_counted_and_garbage_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(module, "ASKS_MAX", 3)
    async with mempool() as pool, facing() as (alice, _):
        session = alice.sessions[0]
        ask = encode(TransactionsAsk((b"x" * 32,) * 2))
        for _ in range(3):
            assert await pool.mempool.answer(session, ask, 1000) == encode(TransactionsAnswer(()))
        for body, code in ((ask, "E-PEER-LIMIT"), (b"\x92\x65\x90", "E-WIRE-MALFORMED"), (bytes(6000), "E-WIRE-OVERSIZE")):
            with pytest.raises(QuStreamError) as caught:
                await pool.mempool.answer(session, body, 1000)
            assert caught.value.code == code
