"""The mempool: by rules, one by one, and as a machine against a model that thinks of everything anew each time."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support.mempool_twins import ACCOUNTS, Twins

from qnode.core.mempool import Mempool, step
from qnode.core.mempool_events import Dropped, Effect, Executed, Kept, Offered, Refused, Waiting, Why
from qnode.core.mempool_limits import BOUNDS, EXPIRY_AHEAD_MAX, EXPIRY_LEAST, QUEUE_MAX, RATE_BITS, Bounds

RICH = 1 << 40
FAR = 1_000


class Pool:
    """A mempool that is spoken to in short."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.core = Mempool(bounds)
        self.made = 0

    def make(self, sender: str, nonce: int, fee: int, *, size: int = 10, cost: int | None = None, expires: int = FAR) -> Waiting:
        self.made += 1
        name = f"{sender}{nonce}#{self.made}".encode()
        return Waiting(name, sender.encode(), nonce, expires, fee, fee if cost is None else cost, size)

    def offer(self, sender: str, nonce: int, fee: int, *, base: int = 0, liquid: int = RICH, **more: int) -> list[Effect]:
        return step(self.core, Offered(self.make(sender, nonce, fee, **more), base, liquid))

    def code(self, sender: str, nonce: int, fee: int, **more: int) -> str:
        answer = self.offer(sender, nonce, fee, **more)[-1]
        return answer.code if isinstance(answer, Refused) else ""

    def order(self, count: int = 1 << 30, size: int = 1 << 30) -> list[str]:
        """What a block that takes everything would get, as sender and nonce."""
        return [name.decode().partition("#")[0] for name in self.core.pick(lambda _: True, size, count)]


def shown(effects: list[Effect]) -> list[str]:
    return [f"{name(effect)}{effect.why if isinstance(effect, Dropped) else ''}" for effect in effects]


def name(effect: Effect) -> str:
    mark = "+" if isinstance(effect, Kept) else "!" if isinstance(effect, Refused) else "-"
    return mark + effect.id.decode().partition("#")[0]


def test_what_has_no_gap_before_it_is_ready():
    pool = Pool()
    ready = [pool.core.is_ready(Offered(pool.make("a", nonce, 10), 3, RICH)) for nonce in (3, 4)]
    assert ready == [True, False]
    for nonce in (3, 4, 6):
        pool.offer("a", nonce, 10, base=3)
    assert [pool.core.is_ready(Offered(pool.make("a", nonce, 10), 3, RICH)) for nonce in (3, 4, 5, 6, 7)] == [True] * 3 + [False] * 2


def test_the_highest_fee_a_byte_comes_first_and_of_one_account_the_nonces_in_order():
    pool = Pool()
    pool.offer("a", 0, 10)
    pool.offer("a", 1, 100)
    pool.offer("b", 0, 50)
    pool.offer("c", 0, 60, size=30)
    assert pool.order() == ["b0", "c0", "a0", "a1"]
    pool.offer("d", 0, 10)
    assert pool.order() == ["b0", "c0", "a0", "a1", "d0"], "of equals whoever came first"


def test_a_block_takes_what_fits_and_nothing_behind_what_it_refuses():
    pool = Pool()
    for nonce in range(3):
        pool.offer("a", nonce, 50 - nonce)
        pool.offer("b", nonce, 40 - nonce, size=20)
    assert pool.order(size=35) == ["a0", "a1", "a2"]
    assert pool.order(count=4) == ["a0", "a1", "a2", "b0"]
    ordered_before = {b"a0#1": None, b"a1#3": False}
    taken = pool.core.pick(lambda name: ordered_before.get(name, True), 1 << 20, 100)
    assert [name[:2] for name in taken] == [b"b0", b"b1", b"b2"]


def test_what_is_behind_a_gap_waits_and_is_offered_when_the_gap_is_closed():
    pool = Pool()
    assert shown(pool.offer("a", 2, 90)) == ["+a2"]
    assert shown(pool.offer("a", 0, 50)) == ["+a0"]
    assert pool.order() == ["a0"]
    pool.offer("a", 1, 10)
    assert pool.order() == ["a0", "a1", "a2"]


def test_the_next_nonce_is_that_after_all_that_is_ready():
    pool = Pool()
    assert pool.core.next_nonce(b"a") == 0
    for nonce in (5, 6, 8):
        pool.offer("a", nonce, 50, base=5)
    assert pool.core.next_nonce(b"a") == 7
    pool.offer("a", 7, 50, base=5)
    assert pool.core.next_nonce(b"a") == 9


def test_nonces_that_are_over_or_too_far_ahead_are_refused():
    pool = Pool()
    assert pool.code("a", 4, 10, base=5) == "E-LEDGER-NONCE"
    assert pool.code("a", 5 + QUEUE_MAX, 10, base=5) == "E-LEDGER-NONCE"
    assert pool.code("a", 5 + QUEUE_MAX - 1, 10, base=5) == ""


def test_expiry_has_a_least_and_a_most():
    pool = Pool()
    step(pool.core, Executed(100, ()))
    assert pool.code("a", 0, 10, expires=100 + EXPIRY_LEAST - 1) == "E-LEDGER-EXPIRED"
    assert pool.code("a", 0, 10, expires=100 + EXPIRY_AHEAD_MAX + 1) == "E-LEDGER-EXPIRED"
    assert pool.code("a", 0, 10, expires=100 + EXPIRY_LEAST) == ""
    assert pool.code("b", 0, 10, expires=100 + EXPIRY_AHEAD_MAX) == ""


def test_what_expires_goes_and_leaves_a_gap():
    pool = Pool()
    pool.offer("a", 0, 10, expires=20)
    pool.offer("a", 1, 10)
    assert step(pool.core, Executed(19, ())) == []
    assert shown(step(pool.core, Executed(20, ()))) == ["-a0expired"]
    assert pool.order() == []
    assert len(pool.core) == 1


def test_replacing_takes_a_tenth_more_in_all_and_a_byte():
    pool = Pool()
    pool.offer("a", 0, 100)
    assert pool.code("a", 0, 109) == "E-LEDGER-FEE"
    assert pool.code("a", 0, 119, size=11) == "E-LEDGER-FEE"
    assert pool.code("a", 0, 109, size=5) == "E-LEDGER-FEE"
    assert shown(pool.offer("a", 0, 121, size=11)) == ["-a0replaced", "+a0"]
    assert (len(pool.core), pool.core.bytes) == (1, 11)


def test_the_same_again_is_known():
    pool = Pool()
    offered = Offered(pool.make("a", 0, 100), 0, RICH)
    assert shown(step(pool.core, offered)) == ["+a0"]
    assert step(pool.core, offered) == [Refused(b"a0#1", "E-LEDGER-KNOWN", "it waits already")]


def test_nobody_spends_more_than_he_has():
    pool = Pool()
    assert pool.code("a", 0, 10, cost=60, liquid=100) == ""
    assert pool.code("a", 1, 10, cost=41, liquid=100) == "E-LEDGER-FUNDS"
    assert pool.code("a", 1, 10, cost=40, liquid=100) == ""
    assert pool.code("a", 2, 1, liquid=100) == "E-LEDGER-FUNDS"
    assert pool.code("a", 0, 20, cost=61, liquid=100) == "E-LEDGER-FUNDS"
    assert pool.code("a", 0, 20, cost=30, liquid=100) == "", "what it replaces costs nothing any more"
    assert pool.code("a", 2, 30, liquid=100) == ""


def test_what_is_executed_goes_and_so_does_what_the_account_cannot_pay_any_more():
    pool = Pool()
    for nonce in range(5):
        pool.offer("a", nonce, 10, cost=20, liquid=100)
        pool.offer("b", nonce, 10, cost=20, liquid=100)
    assert shown(step(pool.core, Executed(1, ((b"a", 2, 45), (b"c", 9, 0))))) == [
        "-a0executed", "-a1executed", "-a4unfunded",
    ]  # fmt: skip
    assert pool.order() == ["b0", "b1", "a2", "b2", "a3", "b3", "b4"]
    assert shown(step(pool.core, Executed(2, ((b"a", 2, 0),)))) == ["-a3unfunded", "-a2unfunded"]
    assert pool.order() == ["b0", "b1", "b2", "b3", "b4"]


def test_an_offer_brings_the_news_of_its_account():
    pool = Pool()
    pool.offer("a", 0, 10)
    pool.offer("a", 1, 10)
    assert shown(pool.offer("a", 3, 10, base=1)) == ["-a0executed", "+a3"]


SMALL = Bounds(transactions=4, bytes=100, parked=2, parked_bytes=30)


def test_when_it_is_full_the_lowest_fee_a_byte_gives_way_to_a_tenth_more():
    pool = Pool(SMALL)
    for number, sender in enumerate("abcd"):
        pool.offer(sender, 0, 100 + number)
    assert pool.code("e", 0, 109) == "E-MEMPOOL-FULL"
    assert shown(pool.offer("e", 0, 110)) == ["-a0evicted", "+e0"]
    assert pool.code("f", 0, 110) == "E-MEMPOOL-FULL"


def test_of_one_account_the_last_goes_first_whatever_it_pays():
    """It is not taken before those ahead of it, so its place is worth no more than theirs."""
    pool = Pool(SMALL)
    pool.offer("a", 0, 100)
    pool.offer("a", 1, 900)
    pool.offer("b", 0, 300)
    pool.offer("c", 0, 300)
    assert shown(pool.offer("d", 0, 200)) == ["-a1evicted", "+d0"]
    assert shown(pool.offer("e", 0, 200)) == ["-a0evicted", "+e0"]


def test_a_large_one_takes_the_place_of_several_or_of_none():
    pool = Pool(SMALL)
    pool.offer("a", 0, 300, size=30)
    pool.offer("b", 0, 600, size=30)
    pool.offer("c", 0, 900, size=30)
    assert pool.code("d", 0, 2200, size=100) == "E-MEMPOOL-FULL"
    assert (len(pool.core), pool.core.bytes) == (3, 90), "nobody went for one that did not come in"
    assert shown(pool.offer("d", 0, 1550, size=70)) == ["-a0evicted", "-b0evicted", "+d0"]
    assert pool.code("e", 0, 1 << 30, size=101) == "E-MEMPOOL-FULL"
    assert len(pool.core) == 2


def test_a_flood_of_one_account_ends_at_its_queue():
    pool = Pool()
    codes = [pool.code("a", nonce, 1000) for nonce in range(QUEUE_MAX + 10)]
    assert codes == [""] * QUEUE_MAX + ["E-LEDGER-NONCE"] * 10


def test_many_poor_accounts_cannot_push_out_who_pays():
    """A hundred accounts with enough for one cheap transaction each, and for a dear one that they never send the first of."""
    pool = Pool(Bounds(transactions=10, bytes=1000, parked=3, parked_bytes=100))
    for number in range(10):
        assert pool.code(f"p{number}", 0, 500) == ""
    for number in range(100):
        assert pool.code(f"x{number}", 0, 500, liquid=500) == "E-MEMPOOL-FULL"
        assert pool.code(f"x{number}", 0, 5000, liquid=500) == "E-LEDGER-FUNDS"
        assert pool.code(f"x{number}", 1, 5000, liquid=5000) == "E-MEMPOOL-FULL", "behind a gap nobody pays"
    assert pool.order() == [f"p{number}0" for number in range(10)]


def test_what_is_parked_is_bounded_and_goes_first():
    pool = Pool(SMALL)
    assert pool.code("a", 1, 900) == ""
    assert pool.code("a", 2, 900) == ""
    assert pool.code("b", 1, 900) == "E-MEMPOOL-FULL"
    assert shown(pool.offer("b", 1, 990)) == ["-a2evicted", "+b1"]
    assert pool.code("c", 1, 9900, size=31) == "E-MEMPOOL-FULL", "more bytes than may be parked at all"
    pool.offer("d", 0, 1)
    pool.offer("e", 0, 1)
    assert shown(pool.offer("f", 0, 1)) == ["-a1evicted", "+f0"]
    assert shown(pool.offer("b", 0, 1)) == ["-b1evicted", "+b0"], "even if it is just the one that it waited for"


def test_a_gap_is_closed_beside_others_that_are_parked():
    pool = Pool(SMALL)
    pool.offer("a", 1, 900)
    pool.offer("b", 1, 900)
    assert shown(pool.offer("a", 0, 1)) == ["+a0"]
    assert shown(pool.offer("c", 1, 1)) == ["+c1"], "that of a is parked no more"
    assert shown(pool.offer("d", 0, 1)) == ["-c1evicted", "+d0"]


def test_asking_before_changes_nothing():
    pool = Pool(SMALL)
    for number, sender in enumerate("abcd"):
        pool.offer(sender, 0, 100 + number)
    before = pool.order()
    assert pool.core.refusal(Offered(pool.make("e", 0, 109), 0, RICH)) is not None
    assert pool.core.refusal(Offered(pool.make("e", 0, 500), 0, RICH)) is None
    assert pool.order() == before


def test_old_entries_of_the_heaps_are_thrown_out():
    pool = Pool(Bounds(1, 1 << 20, 1, 1 << 20))
    fee = 100
    pool.offer("a", 0, fee)
    assert pool.core._lasts is None, "nobody has looked for who would have to go"
    pool.offer("b", 0, 1)
    for _ in range(300):
        fee += fee // 10 + 1
        pool.offer("a", 0, fee)
    assert pool.core._lasts is not None
    assert len(pool.core._lasts) < 200
    assert len(pool.core._expiries) < 200
    assert len(pool.core) == 1


@pytest.mark.parametrize("fee", [0, 1])
def test_equals_do_not_take_each_others_places(fee):
    pool = Pool(SMALL)
    for sender in "abcd":
        pool.offer(sender, 0, fee, size=25)
    assert pool.code("e", 0, fee, size=25) == "E-MEMPOOL-FULL"
    assert pool.code("a", 0, fee, size=25) == "E-LEDGER-FEE"


# -------------------------------------------------------------------------------------------------- against a naive model


class MempoolMachine(RuleBasedStateMachine):
    """What hypothesis thinks of, and makes short if it finds something."""

    @initialize(liquid=st.lists(st.integers(0, 400), min_size=4, max_size=4))
    def begin(self, liquid):
        self.twins = Twins(liquid)

    @rule(
        account=st.sampled_from(ACCOUNTS), ahead=st.integers(-1, 4) | st.integers(60, 66), fee=st.integers(0, 40), extra=st.integers(0, 30),
        size=st.integers(5, 20), life=st.integers(15, 30),
    )  # fmt: skip
    def offer(self, account, ahead, fee, extra, size, life):
        self.twins.offer(account, ahead, fee, extra, size, life)

    @rule(which=st.integers(0, 1 << 16))
    def offer_again(self, which):
        if self.twins.offered:
            self.twins.say(self.twins.offered[which % len(self.twins.offered)])

    @rule(more=st.integers(1, 8), steps=st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(0, 3), st.integers(0, 120)), max_size=3))
    def execute(self, more, steps):
        self.twins.execute(more, steps)

    @rule(account=st.sampled_from(ACCOUNTS), amount=st.integers(0, 200))
    def receive(self, account, amount):
        self.twins.receive(account, amount)


TestMempoolMachine = MempoolMachine.TestCase
TestMempoolMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_a_long_life(seed):
    """Full most of the time, which a machine that begins anew each time seldom is."""
    draw = random.Random(seed)
    twins = Twins([300] * 4)
    for _ in range(1500):
        kind = draw.random()
        if kind < 0.85:
            ahead = draw.choice([0, 0, 1, 1, 2, 3, 4, 4, 64, -1])
            twins.offer(draw.choice(ACCOUNTS), ahead, draw.randrange(60), draw.randrange(10), draw.randint(5, 20), draw.randint(15, 40))
        elif kind < 0.9:
            twins.say(draw.choice(twins.offered or [Waiting(b"", b"a", 0, 99, 5, 5, 5)]))
        elif kind < 0.95:
            twins.receive(draw.choice(ACCOUNTS), draw.randrange(300))
        else:
            steps = [(draw.choice(ACCOUNTS), draw.randrange(3), draw.randrange(400)) for _ in range(draw.randrange(3))]
            twins.execute(draw.randrange(1, 6), steps)


def test_the_rate_is_a_whole_number_of_small_units():
    assert Waiting(b"", b"", 0, 0, 3, 3, 2).rate == 3 << RATE_BITS >> 1
    assert Dropped(b"x", Why.EVICTED).why == "evicted"
