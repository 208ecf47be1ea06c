"""The mempool service: what comes in, with what code it does not, and what a block gets. Signatures are real."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec
import pytest
import trio
import trio.testing
from support.ledger_world import CHAIN, LedgerWorld, signed
from support.mempool_world import MempoolWorld, mempool

import qnode.service.mempool as module
from qnode.core.gossip_events import Verdict
from qnode.core.ledger.admission import Admission
from qnode.core.mempool_limits import EXPIRY_LEAST
from qnode.service.mempool_bundles import bundled
from qustream.errors import QuStreamError, fault
from qustream.wire.bundle import BUNDLE_TRANSACTIONS_MAX
from qustream.wire.codec import encode
from qustream.wire.transactions import Body, Transaction, Transfer, transaction_id

PEER = b"p" * 32


async def code_of(pool: MempoolWorld, raw: bytes) -> str:
    with pytest.raises(QuStreamError) as caught:
        await pool.mempool.submit(raw)
    return caught.value.code


async def verdict_of(pool: MempoolWorld, *raws: bytes) -> Verdict:
    verdict = pool.mempool.judge(bundled(raws), PEER)
    return verdict if isinstance(verdict, Verdict) else await verdict


def broken(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def elsewhere(pool: MempoolWorld) -> bytes:
    key = pool.world.people[0]
    return signed(key, Body("another-chain", pool.world.account(0), 0, 100, 1 << 30, Transfer(pool.world.account(1), 1)))


def of_another_key(pool: MempoolWorld) -> bytes:
    """It says that it is of the first, and bears the key of the second, and his signature."""
    body = encode(pool.world.body(pool.world.people[0], Transfer(pool.world.account(1), 1)))
    other = pool.world.people[1]
    return encode(Transaction(body, other.public, other.sign("transaction", body)))


async def test_what_is_submitted_waits_and_is_said_to_all_once() -> None:
    async with mempool() as pool:
        raw = pool.transfer(0)
        name = await pool.mempool.submit(raw)
        assert name == transaction_id(raw)
        assert await pool.mempool.submit(raw) == name
        assert pool.said == []
        pool.mempool.outbox.flush()
        pool.mempool.outbox.flush()
        assert pool.said == [raw]
        found = pool.mempool.get(name)
        assert found is not None
        assert found[0] == raw
        assert (found[1].id, found[1].size, found[1].body.nonce) == (name, len(raw), 0)
        assert pool.verifier.pool.checked == 1
        counts = pool.mempool.counts()
        assert (counts.transactions, counts.bytes, counts.refused) == (1, len(raw), {})


async def test_what_comes_by_gossip_waits_and_is_not_said_again_by_us() -> None:
    async with mempool() as pool:
        raw = pool.transfer(0)
        assert await verdict_of(pool, raw) is Verdict.GOOD
        assert await verdict_of(pool, raw) is Verdict.USELESS
        assert pool.said == []
        assert transaction_id(raw) in pool.mempool.core
        await pool.mempool.submit(raw)
        pool.mempool.outbox.flush()
        assert pool.said == [raw], "somebody relies on us for it now"


@pytest.mark.parametrize("make", [lambda _: b"garbage", lambda _: b"", lambda _: bytes(70_000), elsewhere, of_another_key])
async def test_what_can_never_be_valid_is_bad_before_any_signature_is_looked_at(make) -> None:
    async with mempool() as pool:
        raw = make(pool)
        assert pool.mempool.judge(bundled([raw]), PEER) is Verdict.BAD
        assert await code_of(pool, raw) in ("E-LEDGER-FORM", "E-LEDGER-SIGNATURE")
        assert pool.verifier.pool.starts == 0
        assert sum(pool.mempool.refused.values()) == 2


def of_kind(pool: MempoolWorld, kind: int, *rest: object, sign: bool = True) -> bytes:
    """An action that no version knows yet, in a transaction that is as any other."""
    key = pool.world.people[1]
    body = msgspec.msgpack.encode([CHAIN, pool.world.account(1), 0, 100, 1 << 32, [kind, *rest]])
    return encode(Transaction(body, key.public, key.sign("transaction", body) if sign else bytes(3373)))


async def test_a_kind_of_a_later_version_costs_nobody_anything_and_goes_no_further() -> None:
    async with mempool() as pool:
        for raw in (of_kind(pool, 25, b"x", [1]), of_kind(pool, 255), of_kind(pool, 25, sign=False)):
            assert pool.mempool.judge(bundled([raw]), PEER) is Verdict.USELESS
            assert await code_of(pool, raw) == "E-LEDGER-KIND"
        assert (len(pool.mempool), pool.verifier.pool.starts) == (0, 0)
        assert pool.mempool.refused == {"E-LEDGER-KIND": 6}


async def test_what_only_looks_like_a_later_version_is_bad() -> None:
    async with mempool() as pool:
        key = pool.world.people[1]
        bodies = [
            [CHAIN, bytes(19), 0, 100, 1, [25]], [CHAIN, bytes(20), -1, 100, 1, [25]], [CHAIN, bytes(20), 0, 100, 1, ["25"]],
            [CHAIN, bytes(20), 0, 100, 1, []], [CHAIN, bytes(20), 0, 100, 1], [CHAIN, bytes(20), 0, 100, 1, [True]],
            [CHAIN, bytes(20), 0, 100, 1, [256]], [CHAIN, bytes(20), 0, 100, 1, [0]], [CHAIN, bytes(20), 0, 100, 1, [1, b"x"]],
            ["x" * 65, bytes(20), 0, 100, 1, [25]],
        ]  # fmt: skip
        for body in map(msgspec.msgpack.encode, bodies):
            raw = encode(Transaction(body, key.public, bytes(3373)))
            assert pool.mempool.judge(bundled([raw]), PEER) is Verdict.BAD, body
        deep = b"\x91" * 40_000 + b"\xc0"
        raw = encode(Transaction(msgspec.msgpack.encode([CHAIN, bytes(20), 0, 100, 1])[:-1] + b"\x01" + deep, key.public, bytes(3373)))
        assert pool.mempool.judge(bundled([raw]), PEER) is Verdict.BAD


async def test_of_a_bundle_with_a_later_kind_the_rest_is_kept_and_goes_out_in_ours() -> None:
    """Passed on as it is, it would be we who vouch for signatures that nobody here can look at."""
    async with mempool() as pool:
        raws = [pool.transfer(0), pool.transfer(2)]
        assert await verdict_of(pool, *raws, of_kind(pool, 25)) is Verdict.USELESS
        assert len(pool.mempool) == 2
        pool.mempool.outbox.flush()
        assert sorted(pool.said) == sorted(raws)


async def test_a_block_with_a_later_kind_is_not_valid_here() -> None:
    async with mempool() as pool:
        raw = of_kind(pool, 25)
        assert await pool.verifier.transactions([raw], lambda _: None) == ["E-LEDGER-KIND"]


async def test_a_signature_that_does_not_hold_is_bad() -> None:
    async with mempool() as pool:
        raw = broken(pool.transfer(0))
        assert await verdict_of(pool, raw) is Verdict.BAD
        assert await code_of(pool, raw) == "E-LEDGER-SIGNATURE"
        assert len(pool.mempool) == 0


async def test_what_may_be_a_matter_of_time_is_useless_and_costs_no_verification() -> None:
    async with mempool() as pool:
        far = pool.world.progress.height + 1 << 20
        for code, raw in (
            ("E-LEDGER-NONCE", pool.transfer(0, nonce=64)),
            ("E-LEDGER-EXPIRED", pool.transfer(0, nonce=0, expires=pool.world.progress.height + EXPIRY_LEAST - 1)),
            ("E-LEDGER-EXPIRED", pool.transfer(0, nonce=0, expires=far)),
            ("E-LEDGER-FEE", pool.transfer(0, nonce=0, fee=1)),
            ("E-LEDGER-FUNDS", pool.transfer(0, 1 << 60, nonce=0)),
            ("E-LEDGER-KEY", pool.transfer(0, nonce=0, bare=True)),
        ):
            raw = broken(raw)  # nobody gets as far as to see that
            assert pool.mempool.judge(bundled([raw]), PEER) is Verdict.USELESS
            assert await code_of(pool, raw) == code
        assert pool.verifier.pool.starts == 0


async def test_a_key_that_the_chain_knows_need_not_come_along() -> None:
    async with mempool() as pool:
        pool.execute(pool.transfer(0))
        await pool.mempool.submit(pool.transfer(0, bare=True))
        assert len(pool.mempool) == 1


async def test_a_block_takes_them_by_fee_and_what_is_ordered_already_is_left_out() -> None:
    async with mempool() as pool:
        world = pool.world
        cheap, dear = [pool.transfer(0) for _ in range(3)], [pool.transfer(1, nonce=n, fee=50_000_000) for n in range(2)]
        for raw in (*cheap, *dear):
            await pool.mempool.submit(raw)
        admission = Admission(world.state(), [], world.parameters)
        ids = [transaction_id(raw) for raw in (*dear, *cheap)]
        assert [checked.id for checked in pool.mempool.pick(admission, 1, 1 << 20, 100)] == ids
        assert [checked.id for checked in pool.mempool.pick(Admission(world.state(), [], world.parameters), 1, 1 << 20, 3)] == ids[:3]
        found = pool.mempool.get(ids[2])
        assert found is not None
        ordered = Admission(world.state(), [found[1].body], world.parameters)
        assert [checked.id for checked in pool.mempool.pick(ordered, 2, 1 << 20, 100)] == [*ids[:2], *ids[3:]]


async def test_a_block_too_late_for_one_leaves_out_its_account() -> None:
    async with mempool() as pool:
        soon = pool.transfer(0, expires=EXPIRY_LEAST)
        for raw in (soon, pool.transfer(0), pool.transfer(1)):
            await pool.mempool.submit(raw)
        late = pool.mempool.pick(Admission(pool.world.state(), [], pool.world.parameters), EXPIRY_LEAST + 1, 1 << 20, 100)
        assert [checked.body.sender for checked in late] == [pool.world.account(1)]


async def test_what_is_executed_leaves_and_so_does_what_is_not_covered_any_more() -> None:
    async with mempool(LedgerWorld(validators=1, idle=0, people=3, wealth=100_000_000)) as pool:
        first, second, third = pool.transfer(0), pool.transfer(0, 40_000_000), pool.transfer(0)
        for raw in (first, second, third):
            await pool.mempool.submit(raw)
        key = pool.world.people[0]
        instead = signed(key, pool.world.body(key, Transfer(pool.world.account(1), 80_000_000), nonce=0))
        pool.execute(instead)  # by another node, whose mempool had another of this nonce
        assert pool.mempool.dropped == {"executed": 1, "unfunded": 2}
        assert len(pool.mempool) == len(pool.mempool._bodies) == 0


async def test_who_has_received_something_can_spend_it() -> None:
    async with mempool(LedgerWorld(validators=1, idle=0, people=2, wealth=20_000_000)) as pool:
        dear = pool.transfer(1, 15_000_000, nonce=0)
        assert await code_of(pool, dear) == "E-LEDGER-FUNDS"
        pool.execute(pool.transfer(0, 10_000_000))
        await pool.mempool.submit(dear)


async def test_a_state_is_read_once_for_each_account() -> None:
    async with mempool() as pool:
        for _ in range(5):
            await pool.mempool.submit(pool.transfer(0))
        assert pool.ledger.looks == 1
        pool.execute(pool.transfer(0, nonce=0))
        await pool.mempool.submit(pool.transfer(0, nonce=5, bare=True))
        assert pool.ledger.looks == 2, "its key is in the state now"
        pool.execute(pool.transfer(0, nonce=1))
        await pool.mempool.submit(pool.transfer(0, nonce=6, bare=True))
        assert pool.ledger.looks == 2, "what a block changes is told"


async def test_accounts_that_were_looked_up_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(module, "ACCOUNTS_MAX", 3)
    async with mempool() as pool:
        for number in range(20):
            assert pool.mempool.key_of(number.to_bytes(20, "big")) is None
        assert len(pool.mempool._accounts) <= 3


async def test_a_store_that_moves_on_while_it_is_read_is_read_again_and_one_that_is_broken_is_no_peers_fault() -> None:
    async with mempool() as pool:
        pool.ledger.faults += [fault("E-NOT-HELD")]
        assert await verdict_of(pool, pool.transfer(0)) is Verdict.GOOD
        pool.ledger.faults += [fault("E-DATA-CORRUPT")] * 2
        assert pool.mempool.judge(bundled([pool.transfer(1)]), PEER) is Verdict.USELESS
        assert pool.ledger.faults == []
        pool.ledger.faults += [fault("E-DATA-CORRUPT")] * 2
        assert await code_of(pool, pool.transfer(2)) == "E-DATA-CORRUPT"


async def test_of_the_same_nonce_that_come_at_once_one_is_kept() -> None:
    """The state of things is looked at again when the signatures have been verified."""
    async with mempool() as pool:
        raws = [pool.transfer(0, amount, nonce=0) for amount in range(1, 9)]
        verdicts: list[Verdict] = []

        async def judge(raw: bytes) -> None:
            verdicts.append(await verdict_of(pool, raw))

        async with trio.open_nursery() as nursery:
            for raw in raws:
                nursery.start_soon(judge, raw)
        assert verdicts.count(Verdict.GOOD) == 1
        assert len(pool.mempool) == len(pool.mempool._bodies) == 1


async def test_the_same_twice_at_once_is_verified_once() -> None:
    async with mempool() as pool:
        raw = pool.transfer(0)
        judged = [pool.mempool.judge(bundled([raw]), peer) for peer in (PEER, b"q" * 32)]
        verdicts: list[Verdict] = []

        async def wait(verdict: Awaitable[Verdict]) -> None:
            verdicts.append(await verdict)

        async with trio.open_nursery() as nursery:
            for verdict in judged:
                assert not isinstance(verdict, Verdict)
                nursery.start_soon(wait, verdict)
        assert sorted(verdicts) == [Verdict.GOOD, Verdict.USELESS]
        assert pool.verifier.pool.checked == 1


def put(pool: MempoolWorld, raw: bytes) -> None:
    """As if it had been verified: no process lives on the test's clock."""
    opened = module.open_transaction(raw, CHAIN)
    assert not isinstance(opened, str)
    assert pool.mempool._keep(raw, module.Checked(opened.id, opened.size, opened.body, opened.transaction.key)) is None


async def test_our_own_are_said_again_as_long_as_they_wait(autojump_clock: trio.testing.MockClock) -> None:
    pool = MempoolWorld(LedgerWorld(validators=1, idle=0, people=2), module.Verifier(CHAIN))
    raw, other = pool.transfer(0), pool.transfer(1)
    put(pool, raw)
    put(pool, other)
    await pool.mempool.submit(raw)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.mempool.run)
        await trio.sleep(module.AGAIN_S - 1)
        assert pool.said == [raw]
        await trio.sleep(2 * module.LOOK_S)
        assert pool.said == [raw] * 2
        await trio.sleep(module.AGAIN_S + module.LOOK_S)
        assert pool.said == [raw] * 3
        pool.execute(raw)
        await trio.sleep(2 * module.AGAIN_S)
        assert pool.said == [raw] * 3
        nursery.cancel_scope.cancel()


async def test_what_is_said_again_goes_a_bundle_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    people = 60
    pool = MempoolWorld(LedgerWorld(validators=1, idle=0, people=people), module.Verifier(CHAIN))
    raws = [pool.transfer(person) for person in range(people)]
    for raw in raws:
        put(pool, raw)
        await pool.mempool.submit(raw)
    told: list[tuple[float, int]] = []
    publish = pool.publish

    def listen(bundle: Sequence[bytes]) -> bool:
        told.append((trio.current_time(), len(bundle)))
        return publish(bundle)

    pool.mempool.outbox._publish = listen
    start_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.mempool.run)
        await trio.sleep(module.AGAIN_S - 1)
        said = len(pool.said)
        assert said == people
        told.clear()
        await trio.sleep(2 * module.LOOK_S)
        assert 0 < len(pool.said) - said <= 2 * BUNDLE_TRANSACTIONS_MAX, "not all at once"
        await trio.sleep(10 * module.LOOK_S)
        assert sorted(pool.said[said:]) == sorted(raws), "all of them, and each once"
        looks = [int((at_s - start_s) / module.LOOK_S) for at_s, _ in told]
        assert max(looks.count(look) for look in looks) <= 2, "a bundle, and what did not fit into it"
        nursery.cancel_scope.cancel()


async def test_what_nobody_was_there_to_hear_is_said_when_somebody_is(autojump_clock: trio.testing.MockClock) -> None:
    pool = MempoolWorld(LedgerWorld(validators=1, idle=0, people=2), module.Verifier(CHAIN))
    raw = pool.transfer(0)
    put(pool, raw)
    pool.is_alone = True
    await pool.mempool.submit(raw)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.mempool.run)
        await trio.sleep(10 * module.LOOK_S)
        pool.is_alone = False
        await trio.sleep(2 * module.LOOK_S)
        assert pool.said == [raw]
        nursery.cancel_scope.cancel()


async def test_who_waits_for_a_change_hears_of_what_comes_and_of_blocks_and_of_nothing_else() -> None:
    async with mempool() as pool:
        change = pool.mempool.change()
        assert pool.mempool.change() is change
        assert await code_of(pool, b"garbage") == "E-LEDGER-FORM"
        assert not change.is_set()
        await pool.mempool.submit(pool.transfer(0))
        assert change.is_set()
        change = pool.mempool.change()
        assert not change.is_set()
        pool.execute()
        assert change.is_set()
