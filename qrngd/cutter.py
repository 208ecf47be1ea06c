"""From units to released units: assign to a node, put under an attestation, publish, hand to the feed.

A unit is taken from a device's stock only for a node that has credit, so the stock is used up no faster than nodes ask. Each device has a
batch of its own: an attestation speaks of one. Signing and the leaf log run in a worker thread; between two of those everything is
decided in one task. `discard` may come at any time (a device failed for good): what is not released by then never is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from qrngd.datadir import RUN_NUMBERS
from qrngd.feed.batch import Batch, CutUnit, SealedBatch, Statement, seal
from qrngd.feed.service import FeedService
from qrngd.feed.session import Session
from qrngd.stock import ReadyUnit
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.model.base import Signed
from qustream.model.entropy import Attestation

__all__ = ["Cutter", "Source", "UnitSupply"]

# With fewer units than this still wanted a batch is not worth holding open.
LITTLE_UNITS = 16
# How long a small batch may wait for company while transports are busy.
PATIENCE_MS = 5
# A leaf log that cannot be written is tried again after this; until then nothing leaves.
RETRY_S = 1.0
PASSING = ("E-DISK-FULL", "E-FILE")  # may mend while the server runs; a damaged log does not


def _now_ms() -> int:
    """How long a batch waits is no matter of the wall clock: set back by an hour, that would keep units for an hour."""
    return int(trio.current_time() * 1000)


class UnitSupply(Protocol):
    """A device's stock as the cutter sees it."""

    @property
    def units(self) -> int: ...
    def take(self) -> ReadyUnit: ...


@dataclass(slots=True)
class Source:
    """A device, what is said of it, and the batch that is open for it. `generation` rises when all that is not released is thrown away."""

    name: str
    supply: UnitSupply
    statement: Statement
    batch: Batch[Session] = field(default_factory=Batch)
    generation: int = 0


class Cutter:
    """One task (`run`). `first_number`: the first batch number and each node's first sequence number in this run.

    `publish`: puts a signed attestation and its leaves (72 bytes each) into the public log, durably; runs in a thread; what it raises
    stops that batch. `on_trouble` is called when that begins to fail and when it works again. `probe` raises as long as nothing could be
    published: nodes that are told so ask for nothing, so it would never be noticed otherwise.
    """

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        feed: FeedService,
        sign: Callable[[Attestation], Signed],
        publish: Callable[[Signed, list[bytes]], None],
        probe: Callable[[], None],
        first_number: int,
        on_trouble: Callable[[], None] = lambda: None,
    ) -> None:
        self.units_made = 0
        self.attestations = 0
        self.trouble: QuStreamError | None = None  # why the last batch could not be published
        self._sources, self._feed, self._sign, self._publish = list(sources), feed, sign, publish
        self._on_trouble, self._probe = on_trouble, probe
        self._first_number = first_number
        self._next_sequence: dict[bytes, int] = {}  # one entry for each node ever fed in this run; the allow-list bounds it
        self._turn = 0

    async def run(self) -> None:
        """Cut and seal for ever. `feed.changed` must ring when a stock has grown, too."""
        while True:
            self._cut()
            now_ms = _now_ms()
            due = next((source for source in self._sources if self._is_due(source.batch, now_ms)), None)
            if due is not None:
                await self._seal(due)
            elif self.trouble is not None:
                await self._look_again(self.trouble)
            else:
                await self._wait(now_ms)

    def discard(self, name: str) -> None:
        """Throw away every unit of a device that has not been released; the nodes keep their credit."""
        for source in self._sources:
            if source.name == name:
                source.generation += 1
                units, source.batch = source.batch.units, Batch()
                for unit in units:
                    self._feed.take_back(unit)

    def _cut(self) -> None:
        """Give every unit there is to the node whose turn it is, one device after the other."""
        idle = 0
        while idle < len(self._sources):
            source = self._sources[self._turn]
            self._turn = (self._turn + 1) % len(self._sources)
            idle = 0 if self._cut_one(source) else idle + 1

    def _cut_one(self, source: Source) -> bool:
        if not source.supply.units or not source.batch.room:
            return False
        session = self._feed.next_session()
        if session is None:
            return False
        unit = CutUnit(session, session.node, self._take_sequence(session.node), source.supply.take())
        self.units_made += 1
        if source.batch.takes(unit.span):
            source.batch.add(unit, _now_ms())
        else:  # the device was opened anew and says another thing of itself: these few units are not worth an attestation of their own
            self._feed.take_back(unit)
            source.batch.close()
        return True

    def _take_sequence(self, node: bytes) -> int:
        """The node's next number. A run has enough for 19 years at full rate."""
        number = self._next_sequence.get(node, self._first_number)
        assert number < self._first_number + RUN_NUMBERS
        self._next_sequence[node] = number + 1
        return number

    def _is_due(self, batch: Batch[Session], now_ms: int) -> bool:
        """Full, two seconds old, or hardly anything more is wanted: then as soon as more waits to be signed than to be sent, for
        what is sent meanwhile makes room for the next batch, or when patience ends, for what is unsent may be a slow reader's."""
        if not batch.units:
            return False
        if not batch.room or now_ms >= batch.due_ms:
            return True
        if self._feed.wanted_units >= LITTLE_UNITS:
            return False
        return len(batch.units) >= self._feed.released_units or now_ms >= batch.last_ms + PATIENCE_MS

    async def _wait(self, now_ms: int) -> None:
        until_ms = float(min((source.batch.due_ms for source in self._sources if source.batch.units), default=math.inf))
        if self._feed.wanted_units < LITTLE_UNITS:
            patient = (source.batch.last_ms + PATIENCE_MS for source in self._sources if source.batch.units)
            until_ms = min(until_ms, min(patient, default=math.inf))
        until_ms = min(until_ms, now_ms + self._feed.allowance_in_ms)
        with trio.move_on_after(max(0.001, (until_ms - now_ms) / 1000)):
            await self._feed.changed.wait()

    async def _seal(self, source: Source) -> None:
        generation, batch, number = source.generation, source.batch, self._first_number + self.attestations
        source.batch = Batch()
        self.attestations += 1
        try:
            sealed = await trio.to_thread.run_sync(self._sealed, batch, number, source.statement)
        except QuStreamError as error:
            self._not_published(error, batch)
            await trio.sleep(RETRY_S)
            return
        self._set_trouble(None)
        if generation == source.generation:
            self._feed.release(sealed)
            return
        for unit in batch.units:
            self._feed.take_back(unit)

    def _sealed(self, batch: Batch[Session], number: int, statement: Statement) -> SealedBatch[Session]:
        """In a worker thread: nothing of a batch leaves before its leaves are public."""
        sealed = seal(batch, number, statement, self._sign)
        self._publish(sealed.attestation, sealed.leaves)
        return sealed

    def _not_published(self, error: QuStreamError, batch: Batch[Session]) -> None:
        if self.trouble is None:
            logger("qrngd").error("leaf log not written", code=error.code, detail=error.detail)
        self._set_trouble(error)
        for unit in batch.units:
            self._feed.take_back(unit)

    async def _look_again(self, trouble: QuStreamError) -> None:
        await trio.sleep(RETRY_S)
        if trouble.code in PASSING:
            with contextlib.suppress(QuStreamError):
                await trio.to_thread.run_sync(self._probe)
                self._set_trouble(None)

    def _set_trouble(self, trouble: QuStreamError | None) -> None:
        is_news = (self.trouble is None) != (trouble is None)
        self.trouble = trouble
        if is_news:
            self._on_trouble()
