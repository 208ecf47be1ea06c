"""Whether signatures hold: codes, what is remembered, and that nothing is checked twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_world import CHAIN, key, signed

import qnode.service.verify as module
from qnode.core.ledger.block import Checked
from qnode.core.ledger.signatures import claims
from qnode.service.verify import UNTOLD, Opened, Verifier, open_transaction
from qustream.identity.voting import VoteKey
from qustream.model.ids import account_id
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, Kind, Statement
from qustream.wire.transactions import AddDevice, AnyAction, Body, DeviceStatement, Transaction, Transfer, transaction_id

ALICE, MASTER = key("person", 0), key("person", 1)
ACCOUNT = account_id(ALICE.id)
VOTER = VoteKey(b"v" * 32)


@asynccontextmanager
async def verifying() -> AsyncIterator[Verifier]:
    verifier = Verifier(CHAIN, workers=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(verifier.run)
        yield verifier
        nursery.cancel_scope.cancel()


def made(nonce: int = 0, *, action: AnyAction | None = None, bare: bool = False, chain: str = CHAIN) -> bytes:
    return signed(ALICE, Body(chain, ACCOUNT, nonce, 100, 1 << 24, action or Transfer(bytes(20), 5)), bare=bare)


def add_device(*, by=MASTER) -> AddDevice:
    statement = DeviceStatement(CHAIN, MASTER.id, b"d" * 32, 1, False)
    return AddDevice(MASTER.public, b"d" * 32, 1, by.sign("user-consent", encode(statement)))


VALID = [made(), made(bare=True), made(action=add_device())]


def nobody(_account: bytes) -> None:
    return None


def statement(view: int) -> Statement:
    return Statement(CHAIN, 3, view, Kind.SKIP, NO_DIGEST)


async def test_what_became_of_each_in_order() -> None:
    async with verifying() as verifier:
        good, bare, other = made(), made(1, bare=True), made(2, chain="other")
        bad = good[:-1] + bytes([good[-1] ^ 1])
        found = await verifier.transactions([good, b"garbage", bad, bare, other, good + b"!"], nobody)
        form = "E-LEDGER-FORM"
        assert isinstance(found[0], Checked)
        assert found[1:] == [form, "E-LEDGER-SIGNATURE", "E-LEDGER-KEY", form, form]
        assert (found[0].id, found[0].size, found[0].key) == (transaction_id(good), len(good), ALICE.public)
        [checked] = await verifier.transactions([bare], lambda account: ALICE.public if account == ACCOUNT else None)
        assert isinstance(checked, Checked)
        assert checked.key is None, "it did not come along"


async def test_every_signature_in_a_transaction_counts() -> None:
    async with verifying() as verifier:
        found = await verifier.transactions([made(action=add_device()), made(action=add_device(by=ALICE))], nobody)
        assert isinstance(found[0], Checked)
        assert found[1] == "E-LEDGER-SIGNATURE"


def test_a_key_that_is_not_the_senders_is_seen_at_once() -> None:
    body = encode(Body(CHAIN, ACCOUNT, 0, 100, 1, Transfer(bytes(20), 5)))
    raw = encode(Transaction(body, MASTER.public, MASTER.sign("transaction", body)))
    assert open_transaction(raw, CHAIN) == "E-LEDGER-SIGNATURE"
    assert isinstance(open_transaction(made(), CHAIN), Opened)
    assert open_transaction(made() + bytes(1 << 16), CHAIN) == "E-LEDGER-FORM"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.tuples(st.integers(0, 5600), st.integers(0, 255)), st.integers(0, 2))
def test_whatever_comes_is_a_code_or_can_be_looked_into(change, which):
    raw = VALID[which]
    if isinstance(change, tuple):
        place, byte = change[0] % len(raw), change[1]
        change = raw[:place] + bytes([byte]) + raw[place + 1 :]
    opened = open_transaction(change, CHAIN)
    if isinstance(opened, str):
        assert opened in ("E-LEDGER-FORM", "E-LEDGER-KIND", "E-LEDGER-SIGNATURE")
    else:
        assert len(claims(opened.transaction, opened.body, ALICE.public)) == 1 + (which == 2)


async def test_nothing_that_holds_is_checked_twice() -> None:
    async with verifying() as verifier:
        raws = [made(nonce) for nonce in range(3)]
        found = await verifier.transactions([*raws, *raws], nobody)
        assert found[:3] == found[3:]
        assert verifier.pool.checked == 3
        assert await verifier.transactions(raws, nobody) == found[:3]
        assert verifier.pool.checked == 3
        assert verifier._under_way == {}


async def test_what_comes_while_it_is_checked_waits_for_the_same() -> None:
    async with verifying() as verifier:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(verifier.transactions, [made(7)] * 2, nobody)  # each signed anew: five ids
            raw = made(8)
            for _ in range(5):
                nursery.start_soon(verifier.transactions, [raw], nobody)
        assert verifier.pool.checked == 6


async def test_what_does_not_hold_is_not_remembered() -> None:
    async with verifying() as verifier:
        bad = made()[:-1] + b"\x00"
        for _ in range(2):
            assert await verifier.transactions([bad], nobody) == ["E-LEDGER-SIGNATURE"]
        assert verifier.pool.checked == 2
        assert not verifier._held._names


async def test_what_is_remembered_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(module, "TRANSACTIONS_KNOWN_MAX", 2)
    async with verifying() as verifier:
        raws = [made(nonce) for nonce in range(4)]
        await verifier.transactions(raws, nobody)
        assert list(verifier._held._names) == [transaction_id(raw) for raw in raws[2:]]


async def test_statements_hold_or_not_and_are_remembered() -> None:
    async with verifying() as verifier:
        votes = [(VOTER.public, statement(view), VOTER.sign(statement(view))) for view in range(4)]
        wrong = [(VOTER.public, statement(9), votes[0][2]), (bytes(1312), statement(0), votes[0][2]), (b"", statement(0), b"")]
        assert await verifier.statements([*votes, *wrong]) == [True] * 4 + [False] * 3
        assert verifier.pool.checked == 7
        assert await verifier.statements(votes[1:3]) == [True, True]
        assert verifier.pool.checked == 7
        assert await verifier.statements([]) == []


async def test_what_nobody_can_tell_is_neither() -> None:
    verifier = Verifier(CHAIN)

    async def settle() -> None:
        with trio.fail_after(60):
            while len(verifier.pool) < 4:
                await trio.sleep(0.001)
        for job in (*verifier.pool._others, *verifier.pool._urgent):
            job.settle(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle)
        async with trio.open_nursery() as asking:

            async def transactions() -> None:
                assert await verifier.transactions([made()], nobody) == [UNTOLD]

            async def statements() -> None:
                votes = [(VOTER.public, statement(view), VOTER.sign(statement(view))) for view in range(3)]
                assert await verifier.statements(votes) == [False] * 3

            asking.start_soon(transactions)
            asking.start_soon(statements)
    assert verifier._under_way == {}


@pytest.mark.parametrize("place", ["full", "free"])
async def test_who_stops_waiting_leaves_nothing_behind(monkeypatch, place) -> None:
    monkeypatch.setattr("qnode.service.verify_pool.WAITING_MAX_BYTES", 1 if place == "full" else 1 << 20)
    async with verifying() as verifier:
        with trio.move_on_after(0) as scope:
            await verifier.transactions([made(nonce) for nonce in range(3)], nobody)
        assert scope.cancelled_caught
        with trio.fail_after(60):
            while verifier._under_way:
                await trio.sleep(0.01)
        found = await verifier.transactions([made(9)], nobody)
        assert isinstance(found[0], Checked)


async def test_a_vote_alone_is_checked_here_and_what_is_above_that_goes_to_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HERE_PER_S", 4)
    async with verifying() as verifier:
        monkeypatch.setattr(verifier._here, "_rate_per_s", 0)  # nothing comes back, however long the process takes to start
        stated = [(VOTER.public, statement(view), VOTER.sign(statement(view))) for view in range(12)]
        wrong = (VOTER.public, statement(99), stated[0][2])
        assert await verifier.statements([stated[0], wrong]) == [True, False]
        assert await verifier.statements([stated[1]]) == [True]
        assert await verifier.statements(stated[2:3]) == [True]
        assert (verifier.pool.starts, verifier.pool.checked) == (0, 4)
        assert await verifier.statements([stated[0]]) == [True], "it is known to hold"
        assert await verifier.statements(stated[3:5]) == [True, True]
        assert verifier.pool.starts == 1, "four were its part of the event loop"
    async with verifying() as verifier:
        assert await verifier.statements(stated) == [True] * 12
        assert verifier.pool.starts == 1, "so many at once never are"
