"""From conditioned bytes to released units: cut, assign to a node, put under an attestation, hand to the feed.

A unit is cut only for a node that has credit, so the stock is used up no faster than nodes ask. Hashing and signing run in worker
threads; between two of those everything is decided in one task. `discard` may come at any time (the device failed for good): what is
not released by then never is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from qrngd.datadir import RUN_NUMBERS
from qrngd.feed.batch import Batch, CutUnit, SealedBatch, Statement, material_digest, seal
from qrngd.feed.service import FeedService
from qrngd.feed.session import Session
from qrngd.stock import Span, Stock
from qustream.model.base import Signed
from qustream.model.entropy import Attestation

__all__ = ["Cutter"]

# Units hashed in one trip to a thread: 2 ms of work, so that the first node does not wait for the last. Fewer are cut only when
# fewer than that wait to be sent: a trip for each unit would cost more than its hash.
CUT_UNITS = 16
# How long a small cut or a small batch may wait for company while transports are busy.
PATIENCE_MS = 5


class Cutter:
    """One task (`run`). `first_number`: the first batch number and each node's first sequence number in this run."""

    def __init__(
        self,
        *,
        stock: Stock,
        feed: FeedService,
        statement: Statement,
        sign: Callable[[Attestation], Signed],
        first_number: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self.units_made = 0
        self.attestations = 0
        self._stock, self._feed, self._statement, self._sign, self._clock_ms = stock, feed, statement, sign, clock_ms
        self._first_number = first_number
        self._next_sequence: dict[bytes, int] = {}  # one entry for each node ever fed in this run; the allow-list bounds it
        self._batch: Batch[Session] = Batch()
        self._waiting_since_ms: int | None = None  # since when something small could have been done
        self._generation = 0  # rises when everything that is not released is thrown away

    async def run(self) -> None:
        """Cut and seal for ever. `feed.changed` must ring when the stock has grown, too."""
        while True:
            room, unsent = self._batch.room, self._feed.released_units
            count = min(self._stock.units, self._feed.wanted_units, room, CUT_UNITS)
            patient = self._is_patient(count)
            if count and (count == min(room, CUT_UNITS) or unsent <= CUT_UNITS or not patient):
                self._waiting_since_ms = None
                await self._cut(count)
            elif self._is_due(unsent, patient):
                self._waiting_since_ms = None
                await self._seal()
            else:
                await self._wait(patient)

    def _is_patient(self, count: int) -> bool:
        """Whether something that could be done now may wait for more of its kind, because transports have enough to send."""
        if not count and not self._batch.units:
            self._waiting_since_ms = None
            return True
        if self._waiting_since_ms is None:
            self._waiting_since_ms = self._clock_ms()
        return self._clock_ms() - self._waiting_since_ms < PATIENCE_MS

    def discard(self) -> None:
        """Throw away every unit that has not been released; the nodes keep their credit."""
        self._generation += 1
        for unit in self._batch.units:
            self._feed.take_back(unit)
        self._batch = Batch()

    def _is_due(self, unsent: int, patient: bool) -> bool:
        """Full, two seconds old, or hardly anything more is wanted: then as soon as more waits to be signed than to be sent, for
        what is sent meanwhile makes room for the next batch, or when patience ends, for what is unsent may be a slow reader's."""
        batch = self._batch
        if not batch.units:
            return False
        little_wanted = self._feed.wanted_units < CUT_UNITS and (len(batch.units) >= unsent or not patient)
        return not batch.room or little_wanted or self._clock_ms() >= batch.due_ms

    async def _wait(self, patient: bool) -> None:
        until_ms = self._batch.due_ms if self._batch.units else math.inf
        if patient and self._waiting_since_ms is not None:
            until_ms = min(until_ms, self._waiting_since_ms + PATIENCE_MS)
        with trio.move_on_after(max(0.001, (until_ms - self._clock_ms()) / 1000)):
            await self._feed.changed.wait()

    async def _cut(self, count: int) -> None:
        generation = self._generation
        cut: list[tuple[Session, tuple[memoryview, ...], Span]] = []
        for _ in range(count):
            session = self._feed.next_session()
            assert session is not None, "nobody's turn although units are wanted"
            cut.append((session, *self._stock.cut()))
        digests = await trio.to_thread.run_sync(lambda: [material_digest(pieces) for _, pieces, _ in cut])
        for (session, pieces, span), digest in zip(cut, digests, strict=True):
            unit = CutUnit(session, session.node, self._take_sequence(session.node), pieces, digest, span)
            self.units_made += 1
            if not self._batch.takes(span):
                await self._seal()
            if session.closed or generation != self._generation:
                self._feed.take_back(unit)
            else:
                self._batch.add(unit, self._clock_ms())

    def _take_sequence(self, node: bytes) -> int:
        """The node's next number. A run has enough for 19 years at full rate."""
        number = self._next_sequence.get(node, self._first_number)
        assert number < self._first_number + RUN_NUMBERS
        self._next_sequence[node] = number + 1
        return number

    async def _seal(self) -> None:
        generation, batch, number = self._generation, self._batch, self._first_number + self.attestations
        self._batch = Batch()
        self.attestations += 1
        sealed: SealedBatch[Session] = await trio.to_thread.run_sync(lambda: seal(batch, number, self._statement, self._sign))
        if generation == self._generation:
            self._feed.release(sealed)
            return
        for unit in batch.units:
            self._feed.take_back(unit)
