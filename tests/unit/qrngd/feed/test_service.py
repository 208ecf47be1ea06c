"""The feed under a clock that can be turned: slow readers, takeovers, departures. Real connections are in tests/integration."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import pytest
import trio
import trio.testing

from qrngd.cutter import Cutter, Source
from qrngd.feed.batch import Statement
from qrngd.feed.service import FeedService
from qrngd.feed.session import OPEN_TIMEOUT_S, SEND_TIMEOUT_S
from qrngd.pipeline import Measurement, Pipeline
from qrngd.slots import SlotMemory
from qrngd.stock import ReadyUnit, Span, Stock
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Signed
from qustream.model.entropy import Attestation, DeviceDescriptor
from qustream.transport.limits import Channel
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FEED_MAX_BYTES, FeedBatch, FeedCredit, FeedHealth, FeedMessage, FeedOpen, FeedUnit
from qustream.wire.rpc import Request, Response, RpcMessage

DEVICE = DeviceDescriptor("emulator", "test", "", 8, 7000, 0, False, True, "")
KEY = SigningKey(bytes(32))
ALICE, BOB = b"a" * 32, b"b" * 32
LIVE = FeedHealth("live", "", "")
PATIENCE_S = 60.0


class Line:
    """A connection whose other end the test holds. `reads` False: nothing that is sent finds room."""

    def __init__(self, *, reads: bool = True) -> None:
        self.got: list[FeedHealth | FeedBatch | FeedUnit] = []
        self.reads = reads
        self._ask, self._asked = trio.open_memory_channel[Request](100)

    def asks(self, message: FeedOpen | FeedCredit) -> None:
        self._ask.send_nowait(Request(0, 1000, encode(message)))

    async def send(self, channel: Channel, body: bytes) -> bool:
        assert channel is Channel.BULK
        if not self.reads:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.got.append(decode(body, FeedMessage, max_bytes=FEED_MAX_BYTES))
        return True

    async def send_parts(self, channel: Channel, parts: Sequence[bytes | memoryview], on_taken: Callable[[], None]) -> None:
        await self.send(channel, b"".join(parts))
        on_taken()

    async def next_request(self) -> Request:
        return await self._asked.receive()

    async def answer(self, number: int, message: bytes) -> None:
        response = decode(message, RpcMessage, max_bytes=1000)
        assert isinstance(response, Response)
        assert number == response.id
        assert isinstance(decode(response.body, FeedMessage, max_bytes=1000), FeedHealth)
        await trio.lowlevel.checkpoint()

    @property
    def units(self) -> list[FeedUnit]:
        return [message for message in self.got if isinstance(message, FeedUnit)]


class Supply:
    """A device whose worker is the test."""

    def __init__(self, name: str, device: DeviceDescriptor = DEVICE) -> None:
        self.name, self.device = name, device
        self.stock = Stock(SlotMemory.create(700), 600)
        self._given: deque[int] = deque()
        self._windows = 0

    @property
    def units(self) -> int:
        return self.stock.units

    def take(self) -> ReadyUnit:
        return self.stock.take()

    def fill(self, units: int, now_ms: int) -> None:
        self._given.extend(self.stock.due())
        for _ in range(units):
            slot = self._given.popleft()
            before, after = Measurement(windows=self._windows, samples=1), Measurement(windows=self._windows + 1, samples=2)
            self._windows += 1
            self.stock.put(slot, bytes(32), Span(self.device, before, after, now_ms, now_ms))

    def source(self) -> Source:
        pipeline = Pipeline(DEVICE, draw=bytes, reseed=lambda _: None)
        return Source(self.name, self, Statement("chain", KEY.id, pipeline.conditioning_report(), 3_600_000, pipeline.health_report))


class World:
    """A feed, its cutter and stocks that the test fills."""

    def __init__(self, nursery: trio.Nursery, *, units_per_minute: int = 0, supplies: int = 1) -> None:
        self.allowed = {ALICE, BOB}
        self.set_back_ms = 0
        self.ended: dict[Line, str] = {}
        self.feed = FeedService(
            may_have=lambda node: node in self.allowed, health=LIVE, clock_ms=self.now_ms, units_per_minute=units_per_minute
        )
        self.supplies = [Supply(f"card{number}") for number in range(supplies)]
        self.log: list[list[bytes]] = []
        self.log_trouble: QuStreamError | None = None
        self.cutter = Cutter(
            sources=[supply.source() for supply in self.supplies],
            feed=self.feed,
            sign=lambda attestation: KEY.sign_noun("attestation", attestation),
            publish=self._publish,
            probe=self._probe,
            first_number=1000,
        )
        self._nursery = nursery
        nursery.start_soon(self.cutter.run)

    def _probe(self) -> None:
        if self.log_trouble is not None:
            raise self.log_trouble

    def _publish(self, _attestation: Signed, leaves: list[bytes]) -> None:
        if self.log_trouble is not None:
            raise self.log_trouble
        self.log.append(leaves)

    def now_ms(self) -> int:
        """The wall clock, which may be set back."""
        return int(trio.current_time() * 1000) - self.set_back_ms

    def fill(self, units: int, card: int = 0) -> None:
        self.supplies[card].fill(units, self.now_ms())
        self.feed.changed.ring()

    def connect(self, line: Line, node: bytes | None) -> None:
        async def serve() -> None:
            try:
                await self.feed.serve(line, peer=node, transport="unix" if node is None else "tls")
            except QuStreamError as error:
                self.ended[line] = error.code

        self._nursery.start_soon(serve)

    async def until(self, what: str, ready: object) -> None:
        """Wait for worker threads, which the clock of the test does not move. `ready` may move it: it is asked when no thread is at work
        and what the last one did has had its consequences."""
        assert callable(ready)
        threads, give_up_s = trio.to_thread.current_default_thread_limiter(), time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            await trio.testing.wait_all_tasks_blocked()
            if not threads.borrowed_tokens and ready():
                return
            await trio.to_thread.run_sync(lambda: None)
        raise AssertionError(f"never: {what}")


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock()


async def test_who_says_nothing_is_cut_off(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.connect(line, ALICE)
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(OPEN_TIMEOUT_S + 0.1)
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended[line] == "E-DEADLINE"
        nursery.cancel_scope.cancel()


async def test_who_does_not_read_is_dropped_and_the_others_get_theirs(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, slow, quick = World(nursery), Line(reads=False), Line()
        world.connect(slow, ALICE)
        world.connect(quick, BOB)
        slow.asks(FeedOpen(ALICE, 256))
        quick.asks(FeedOpen(BOB, 20))
        world.fill(500)
        await trio.testing.wait_all_tasks_blocked()
        # The slow one's unsent units cost the others patience, a few milliseconds a time, and nothing else.
        await world.until("all units of the quick node", lambda: len(quick.units) == 20 or clock.jump(0.001))
        assert slow not in world.ended
        clock.jump(SEND_TIMEOUT_S + 0.1)
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended == {slow: "E-DEADLINE"}
        assert world.feed.counts.dropped == 1
        assert world.feed.counts.discarded == world.cutter.units_made - 20
        quick.asks(FeedCredit(5))
        await world.until("the feed goes on", lambda: len(quick.units) == 25)
        nursery.cancel_scope.cancel()


async def test_every_change_of_state_is_told_in_order() -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 0))
        await trio.testing.wait_all_tasks_blocked()
        told = [FeedHealth("suspect", "E-DEV-HEALTH", "a window"), LIVE, FeedHealth("failed", "E-DEV-LATCHED", "for good")]
        for health in told:
            world.feed.announce(health)
        await trio.testing.wait_all_tasks_blocked()
        assert line.got == told
        nursery.cancel_scope.cancel()


async def test_what_is_not_released_is_thrown_away_and_the_credit_stays(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 100))
        world.fill(3)  # far less than is wanted: the batch stays open for its two seconds
        await world.until("three units are cut", lambda: world.cutter.units_made == 3)
        await trio.testing.wait_all_tasks_blocked()
        world.cutter.discard("card0")
        assert world.feed.counts.discarded == 3
        clock.jump(3)
        await trio.testing.wait_all_tasks_blocked()
        assert line.units == []
        world.fill(100)
        await world.until("all that was asked for", lambda: len(line.units) == 100 or clock.jump(0.01))
        assert [unit.proof.sequence for unit in line.units] == list(range(1003, 1103))
        nursery.cancel_scope.cancel()


async def test_a_batch_waits_two_seconds_at_most(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 100))
        world.fill(2)
        await world.until("two units are cut", lambda: world.cutter.units_made == 2)
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(1.9)
        await trio.testing.wait_all_tasks_blocked()
        assert line.units == []
        clock.jump(0.2)
        await world.until("the batch is released", lambda: len(line.units) == 2)
        batches = [message for message in line.got if isinstance(message, FeedBatch)]
        assert len(batches) == 1
        assert isinstance(line.got[0], FeedBatch)
        nursery.cancel_scope.cancel()


async def test_a_clock_that_is_set_back_keeps_no_units(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 100))
        world.fill(2)
        await world.until("two units are cut", lambda: world.cutter.units_made == 2)
        world.set_back_ms = 3_600_000
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(2.1)
        await world.until("the batch is released", lambda: len(line.units) == 2)
        nursery.cancel_scope.cancel()


async def test_units_of_a_node_that_left_go_to_nobody(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line, other = World(nursery), Line(), Line()
        world.connect(line, ALICE)
        world.connect(other, BOB)
        line.asks(FeedOpen(ALICE, 100))
        other.asks(FeedOpen(BOB, 100))
        world.fill(10)
        await world.until("ten units are cut", lambda: world.cutter.units_made == 10)
        await trio.testing.wait_all_tasks_blocked()
        world.allowed.discard(ALICE)
        world.feed.recheck()
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended == {line: "E-FEED-REFUSED"}
        clock.jump(2.1)
        await world.until("the other node's units", lambda: len(other.units) == 5)
        assert line.units == []
        assert world.feed.counts.discarded == 5
        nursery.cancel_scope.cancel()


async def test_nothing_leaves_that_is_not_in_the_public_log(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.log_trouble = fault("E-DISK-FULL", "no space")
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 3))
        world.fill(3)
        await world.until("the log was tried", lambda: world.cutter.trouble is not None)
        assert world.feed.counts.discarded == 3
        assert line.units == []
        world.log_trouble = None
        world.fill(3)  # what was not published is never sent later: its number is used up
        await world.until("the next units", lambda: len(line.units) == 3 or clock.jump(0.1))
        assert [unit.proof.sequence for unit in line.units] == [1003, 1004, 1005]
        assert world.cutter.trouble is None
        assert [len(leaves) for leaves in world.log] == [3]
        assert world.log[0][0][:40] == ALICE + (1003).to_bytes(8, "big")
        nursery.cancel_scope.cancel()


async def test_each_device_has_attestations_of_its_own(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery, supplies=2), Line()
        world.supplies[1].device = DeviceDescriptor("emulator", "other", "", 8, 7000, 0, False, True, "")
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 20))
        world.fill(10, card=0)
        world.fill(10, card=1)
        await world.until("all of both", lambda: len(line.units) == 20 or clock.jump(0.01))
        models = {}
        for message in line.got:
            if isinstance(message, FeedBatch):
                attestation = open_signed(message.attestation, Attestation, KEY.public, "attestation")
                models[attestation.root] = attestation.device.model
        assert sorted(models[unit.root] for unit in line.units) == ["other"] * 10 + ["test"] * 10
        nursery.cancel_scope.cancel()


async def test_a_device_that_fails_takes_nothing_of_the_other_with_it(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery, supplies=2), Line()
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 100))
        world.fill(4, card=0)
        world.fill(6, card=1)
        await world.until("ten units are cut", lambda: world.cutter.units_made == 10)
        await trio.testing.wait_all_tasks_blocked()
        world.cutter.discard("card0")
        clock.jump(2.1)
        await world.until("the other's units", lambda: len(line.units) == 6)
        assert world.feed.counts.discarded == 4
        nursery.cancel_scope.cancel()


async def test_every_slot_comes_back(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, slow, quick = World(nursery), Line(reads=False), Line()
        world.connect(slow, ALICE)
        world.connect(quick, BOB)
        slow.asks(FeedOpen(ALICE, 50))
        quick.asks(FeedOpen(BOB, 50))
        world.fill(100)
        await world.until("the quick one has its own", lambda: len(quick.units) == 50 or clock.jump(0.01))
        stock = world.supplies[0].stock
        assert stock.in_flight == 50
        clock.jump(SEND_TIMEOUT_S + 0.1)
        await trio.testing.wait_all_tasks_blocked()
        assert stock.in_flight == 0
        assert world.feed.counts.discarded == 50
        nursery.cancel_scope.cancel()


async def test_a_capped_node_waits_and_keeps_its_credit(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery, units_per_minute=6), Line()
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 20))
        world.fill(100)
        await world.until("a minute's units at once", lambda: len(line.units) == 6)
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(9.9)
        await trio.testing.wait_all_tasks_blocked()
        assert len(line.units) == 6
        clock.jump(0.2)
        await world.until("one more after ten seconds", lambda: len(line.units) == 7 or clock.jump(0.001))
        nursery.cancel_scope.cancel()


async def test_a_local_user_takes_no_feed_away_from_a_node_that_has_proven_itself(clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world, proven, local, second = World(nursery), Line(), Line(), Line()
        world.connect(proven, ALICE)
        proven.asks(FeedOpen(ALICE, 5))
        await trio.testing.wait_all_tasks_blocked()
        for line in (local, second):
            world.connect(line, None)
        local.asks(FeedOpen(ALICE, 5))
        second.asks(FeedOpen(BOB, 5))
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended == {local: "E-FEED-REFUSED"}
        world.connect(again := Line(), BOB)  # who proves it takes over from who has only said so
        again.asks(FeedOpen(BOB, 5))
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended == {local: "E-FEED-REFUSED", second: "E-PEER-CLOSED"}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("code", "mends"), [("E-DISK-FULL", True), ("E-FILE", True), ("E-DATA-CORRUPT", False)])
async def test_a_log_that_can_be_written_again_is_noticed_although_nobody_asks(
    clock: trio.testing.MockClock, code: str, mends: bool
) -> None:
    async with trio.open_nursery() as nursery:
        world, line = World(nursery), Line()
        world.log_trouble = fault(code, "what is wrong")
        world.connect(line, ALICE)
        line.asks(FeedOpen(ALICE, 1))
        world.fill(1)
        await world.until("the log was tried", lambda: world.cutter.trouble is not None)
        world.allowed.clear()
        world.feed.recheck()  # nobody wants anything any more
        for _ in range(3):
            clock.jump(1.1)
            await world.until("it was looked at", lambda: True)
            await trio.testing.wait_all_tasks_blocked()
        assert world.cutter.trouble is not None
        world.log_trouble = None
        if mends:
            await world.until("it is noticed", lambda: world.cutter.trouble is None or clock.jump(1.1))
        else:
            clock.jump(5)
            await trio.testing.wait_all_tasks_blocked()
            assert world.cutter.trouble is not None
        nursery.cancel_scope.cancel()
