"""Bundles: what is gathered goes out together, and what somebody packs to make trouble costs him and nobody else."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.mempool_world import MempoolWorld, mempool

import qnode.service.mempool_bundles as module
from qnode.core.gossip_events import Verdict
from qnode.service.mempool_bundles import Outbox, bundled, turn, unbundled
from qustream.wire.bundle import BUNDLE_MAX_BYTES, BUNDLE_TRANSACTIONS_MAX
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Transfer, transaction_id

PEER = b"p" * 32


def broken(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


async def verdict_of(pool: MempoolWorld, *raws: bytes) -> Verdict:
    verdict = pool.mempool.judge(bundled(raws), PEER)
    return verdict if isinstance(verdict, Verdict) else await verdict


class Publisher:
    """An outbox and what became of it. `is_heard`: whether anybody is there."""

    def __init__(self) -> None:
        self.is_heard = True
        self.published: list[list[bytes]] = []
        self.said: list[tuple[list[bytes], bool]] = []
        self.outbox = Outbox(self.publish, lambda names, was_heard: self.said.append((list(names), was_heard)))

    def publish(self, raws) -> bool:
        self.published.append(list(raws))
        return self.is_heard


def test_a_turn_is_a_bundle_or_as_much_as_lets_all_have_theirs_in_time() -> None:
    assert turn([], 0.1, 0, 0) == []
    small = [b"%04d" % number for number in range(1_000)]
    assert turn(small, 0.01, 1_000, 4_000) == small[:BUNDLE_TRANSACTIONS_MAX]
    assert turn(small, 0.1, 1_000, 4_000) == small[:100], "a tenth: in ten turns all have gone"
    large = [bytes(BUNDLE_MAX_BYTES // 2)] * 5
    assert len(turn(large, 0.01, 5, sum(map(len, large)))) == 1, "two would not fit into one bundle"
    assert len(turn(large[:1] * 40, 0.1, 40, 40 * len(large[0]))) == 4
    assert turn([bytes(BUNDLE_MAX_BYTES)], 0.01, 1, BUNDLE_MAX_BYTES) == [bytes(BUNDLE_MAX_BYTES)], "one goes, however large"


# ------------------------------------------------------------------------------------------------------------ in the making


async def test_what_comes_within_a_moment_goes_together(autojump_clock: trio.testing.MockClock) -> None:
    made = Publisher()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.outbox.run)
        for number in range(3):
            made.outbox.add(b"%d" % number, b"raw %d" % number)
            await trio.sleep(module.GATHER_S / 4)
        assert made.published == []
        await trio.sleep(module.GATHER_S)
        made.outbox.add(b"3", b"raw 3")
        await trio.sleep(2 * module.GATHER_S)
        assert made.published == [[b"raw 0", b"raw 1", b"raw 2"], [b"raw 3"]]
        assert made.said == [([b"0", b"1", b"2"], True), ([b"3"], True)]
        assert len(made.outbox) == 0
        nursery.cancel_scope.cancel()


def test_a_full_bundle_goes_at_once_and_is_never_above_its_bounds() -> None:
    made = Publisher()
    for number in range(40):
        made.outbox.add(b"%d" % number, number.to_bytes(4, "big") * 900)
    made.outbox.add(b"the largest", bytes(TRANSACTION_MAX_BYTES))
    for number in range(40):
        made.outbox.add(b"small %d" % number, b"small %d" % number)
    made.outbox.flush()
    assert [len(raws) for raws in made.published] == [18, 18, 4, 1, BUNDLE_TRANSACTIONS_MAX, 40 - BUNDLE_TRANSACTIONS_MAX]
    for raws in made.published:
        assert len(bundled(raws)) <= BUNDLE_MAX_BYTES
        assert unbundled(bundled(raws)) == tuple(raws)
    assert len(bundled([bytes(TRANSACTION_MAX_BYTES)])) <= BUNDLE_MAX_BYTES


def test_the_same_is_gathered_once_and_nothing_is_said_when_nothing_is_there() -> None:
    made = Publisher()
    made.outbox.flush()
    made.outbox.add(b"name", b"raw")
    made.outbox.add(b"name", b"raw")
    assert b"name" in made.outbox
    made.is_heard = False
    made.outbox.flush()
    made.outbox.flush()
    assert made.published == [[b"raw"]]
    assert made.said == [([b"name"], False)]


# ------------------------------------------------------------------------------------------------------------ judged


async def test_what_is_submitted_together_is_one_bundle_and_good_to_others() -> None:
    async with mempool() as ours, mempool() as theirs:
        bundles: list[bytes] = []
        ours.mempool.outbox._publish = lambda raws: bundles.append(bundled(raws)) or True  # type: ignore[func-returns-value]
        raws = [ours.transfer(person) for person in range(4) for _ in range(2)]
        answers = await ours.mempool.submit_all([*raws, raws[0]])
        assert answers == [*(transaction_id(raw) for raw in raws), transaction_id(raws[0])]
        ours.mempool.outbox.flush()
        [bundle] = bundles
        verdict = theirs.mempool.judge(bundle, PEER)
        assert not isinstance(verdict, Verdict)
        assert await verdict is Verdict.GOOD
        assert len(theirs.mempool) == 8
        assert theirs.verifier.pool.checked == 8
        assert theirs.said == [], "gossip passes the bundle on"


@pytest.mark.parametrize("make", [
    lambda _: b"", lambda _: b"garbage", lambda _: bundled([]), lambda _: bundled([b""]),
    lambda raw: raw, lambda raw: bundled([raw, raw]), lambda raw: bundled([bundled([raw])]), lambda raw: bundled([raw]) + b"!",
    lambda raw: bundled([raw, b"garbage"]), lambda raw: bundled([raw, *(bytes([n]) for n in range(BUNDLE_TRANSACTIONS_MAX))]),
    lambda raw: bundled([raw] + [bytes([n]) * 4096 for n in range(18)]),
])  # fmt: skip
async def test_a_bundle_without_form_is_bad_before_any_signature_is_looked_at(make) -> None:
    async with mempool() as pool:
        assert pool.mempool.judge(make(pool.transfer(0)), PEER) is Verdict.BAD
        assert pool.verifier.pool.starts == 0
        assert len(pool.mempool) == 0
        assert pool.mempool.refused == {"E-LEDGER-FORM": 1}


async def test_one_signature_that_does_not_hold_condemns_the_bundle_and_nothing_of_it_is_kept() -> None:
    async with mempool() as pool:
        good = [pool.transfer(person) for person in range(3)]
        assert await verdict_of(pool, good[0], broken(pool.transfer(3)), *good[1:]) is Verdict.BAD
        assert len(pool.mempool) == 0
        assert await verdict_of(pool, *good) is Verdict.GOOD, "by another way they are as good as any"
        assert pool.verifier.pool.checked == 4, "and known to hold"


async def test_what_waits_already_costs_a_hash() -> None:
    async with mempool() as pool:
        raws = [pool.transfer(person) for person in range(4)]
        assert await verdict_of(pool, *raws) is Verdict.GOOD
        looks, checked = pool.ledger.looks, pool.verifier.pool.checked
        assert pool.mempool.judge(bundled(raws[::-1]), PEER) is Verdict.USELESS
        assert pool.mempool.judge(bundled(raws[1:]), PEER) is Verdict.USELESS
        assert (pool.ledger.looks, pool.verifier.pool.checked) == (looks, checked)


async def test_a_bundle_is_passed_on_if_half_of_it_is_of_use_and_else_what_is_of_use_goes_out_in_ours() -> None:
    async with mempool() as pool:
        old = [pool.transfer(0) for _ in range(4)]
        assert await verdict_of(pool, *old) is Verdict.GOOD
        new = [pool.transfer(1) for _ in range(5)]
        assert await verdict_of(pool, *old, *new[:4]) is Verdict.GOOD
        assert pool.said == []
        assert await verdict_of(pool, *old, new[4]) is Verdict.USELESS
        assert len(pool.mempool) == 9, "it is kept all the same"
        pool.mempool.outbox.flush()
        assert pool.said == [new[4]]
        assert not pool.mempool._own, "but once: nobody asked this node to care for it"


async def test_all_who_are_left_with_the_same_say_the_same_message() -> None:
    """Or who sends each of them something different around the same would have as many messages made of it as there are nodes."""
    made: list[bytes] = []
    async with mempool() as one, mempool() as other:
        new = [one.transfer(0), one.transfer(1)]
        for pool in (one, other):
            pool.mempool.outbox._publish = lambda raws: made.append(bundled(raws)) or True  # type: ignore[func-returns-value]
            await pool.mempool.submit(pool.transfer(2))  # something else is being gathered
            assert await verdict_of(pool, *(pool.transfer(3, nonce=500 + number) for number in range(3)), *new) is Verdict.USELESS
    assert made == [bundled(new)] * 2


async def test_padding_with_what_nobody_keeps_does_not_travel() -> None:
    """One that pays, and beside it what has a fee too low, a nonce too far, and money that is not there."""
    async with mempool() as pool:
        pays = pool.transfer(0)
        padding = [pool.transfer(1, nonce=0, fee=1), pool.transfer(2, nonce=500), pool.transfer(3, 1 << 60, nonce=0)]
        assert await verdict_of(pool, pays, *padding) is Verdict.USELESS
        assert len(pool.mempool) == 1
        assert pool.verifier.pool.checked == 1
        pool.mempool.outbox.flush()
        assert pool.said == [pays]


@pytest.mark.parametrize("given", [{"nonce": 500}, {"nonce": 0, "fee": 1}, {"nonce": 0, "expires": 8}], ids=["nonce", "fee", "expiry"])
async def test_nothing_is_passed_on_whose_signatures_nobody_has_looked_at(given: dict[str, int]) -> None:
    """One that is refused before its signature is looked at: whoever's state lets him look would charge who passed it on."""
    async with mempool() as pool:
        forged = broken(pool.transfer(3, **given))
        assert await verdict_of(pool, pool.transfer(0), pool.transfer(1), forged) is Verdict.BAD
        assert len(pool.mempool) == 0


async def test_what_is_refused_and_holds_travels_with_what_pays() -> None:
    async with mempool() as pool:
        assert await verdict_of(pool, pool.transfer(0), pool.transfer(1), pool.transfer(3, nonce=500)) is Verdict.GOOD
        assert pool.verifier.pool.checked == 3
        assert len(pool.mempool) == 2


async def test_what_cannot_be_looked_at_is_not_passed_on() -> None:
    """Its key neither comes along nor is known here."""
    async with mempool() as pool:
        bare = pool.made(3, Transfer(pool.world.account(0), 5), bare=True)
        pays = [pool.transfer(0), pool.transfer(1)]
        assert await verdict_of(pool, *pays, bare) is Verdict.USELESS
        pool.mempool.outbox.flush()
        assert pool.said == pays, "what is kept goes out by itself"


async def test_one_place_is_not_worth_as_many_verifications_as_travel_together() -> None:
    """Twelve for one nonce; and twelve of somebody who can pay for three."""
    async with mempool() as pool:
        assert await verdict_of(pool, *(pool.transfer(0, number, nonce=0) for number in range(1, 13))) is Verdict.USELESS
        assert (len(pool.mempool), pool.verifier.pool.checked) == (1, 1)
        quarter = pool.world.liquid(pool.world.account(1)) // 4
        assert await verdict_of(pool, *(pool.transfer(1, quarter) for _ in range(12))) is Verdict.USELESS
        assert (len(pool.mempool), pool.verifier.pool.checked) == (4, 4)


async def test_of_a_bundle_of_one_account_all_find_their_place_in_any_order() -> None:
    async with mempool() as pool:
        raws = [pool.transfer(0) for _ in range(12)]
        assert await verdict_of(pool, *raws[::-1]) is Verdict.GOOD
        assert pool.mempool.core.next_nonce(pool.world.account(0)) == 12


async def test_several_that_are_submitted_are_each_answered() -> None:
    async with mempool() as pool:
        raws = [pool.transfer(0), broken(pool.transfer(1)), b"garbage", pool.transfer(2, fee=1), pool.transfer(0)]
        answers = await pool.mempool.submit_all(raws)
        codes = [answer if isinstance(answer, bytes) else answer.code for answer in answers]
        assert codes == [transaction_id(raws[0]), "E-LEDGER-SIGNATURE", "E-LEDGER-FORM", "E-LEDGER-FEE", transaction_id(raws[4])]
        assert len(pool.mempool) == 2
        assert sum(pool.mempool.refused.values()) == 3
