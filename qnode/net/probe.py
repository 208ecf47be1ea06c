"""How fast the line between two nodes is, both ways (`proto/spec/bulk.md`, §6): the end that answers, and the end that asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakKeyDictionary

import trio

from qnode.core import bulk_limits as limits
from qnode.core.bulk_meter import Meter
from qnode.core.bulk_serve import BulkTurns
from qnode.net.session import Session
from qustream.aio.connection import Connection
from qustream.errors import QuStreamError, fault
from qustream.transport.limits import Channel
from qustream.wire.bulk import (
    BULK_ASK_MAX_BYTES,
    BULK_MESSAGE_MAX_BYTES,
    PIECE_BYTES,
    PROBE_MAX_BYTES,
    ProbeAsk,
    ProbeData,
    ProbeTold,
    ProbeWay,
)
from qustream.wire.codec import decode, encode

__all__ = ["PROBE_TAGS", "Probes", "probe_down", "probe_up"]

PROBE_TAGS = range(87, 90)
# A probe, its answer on a line that carries nothing else, and the way around the world.
CALL_MS = 15_000
# Below this there is nothing to measure: less than what the systems at both ends hold without a line.
MEASURED_MIN_BYTES = 64 * 1024


def _now_us() -> int:
    return int(trio.current_time() * 1_000_000)


class Probes:
    """The end that answers. `charge`: a session's peer sends what it may not; `operator`: whose a node is."""

    def __init__(
        self, turns: BulkTurns, *, charge: Callable[[Session, str], None], clock_ms: Callable[[], int], operator: Callable[[bytes], str]
    ) -> None:  # fmt: skip
        self._turns, self._charge, self._clock_ms, self._operator = turns, charge, clock_ms, operator
        self._up: tuple[Session, Meter] | None = None
        self._came = trio.lowlevel.ParkingLot()
        self._allowed: WeakKeyDictionary[Session, int] = WeakKeyDictionary()  # bytes announced that have not come yet

    async def answer(self, session: Session, body: bytes, _deadline_ms: int) -> bytes:
        """Answer a `ProbeAsk`. Errors: the refusal."""
        ask = decode(body, ProbeAsk, max_bytes=BULK_ASK_MAX_BYTES)
        if ask.way is ProbeWay.HEARD:
            return encode(await self._heard(session, ask.size))
        wait_ms = self._turns.begin_probe(session.peer, self._clock_ms(), self._operator(session.peer))
        if wait_ms:
            raise fault("E-PEER-LIMIT", "no probe now", retry_after_ms=wait_ms)
        if ask.way is ProbeWay.DOWN:
            try:
                return encode(ProbeTold(await send_data(session.connection, ask.size), 0, 0))
            finally:
                self._turns.end_probe(session.peer)
        self._up = (session, Meter(_now_us()))
        self._allowed[session] = ask.size
        return encode(ProbeTold(0, 0, 0))

    async def _heard(self, session: Session, size: int) -> ProbeTold:
        if self._up is None or self._up[0] is not session or not self._turns.is_probing(session.peer, self._clock_ms()):
            raise fault("E-REQUEST-INVALID", "no probe of this connection is under way")
        meter = self._up[1]
        with trio.move_on_after(limits.PROBE_OVER_MS / 1000):
            while meter.size < size and self._turns.is_probing(session.peer, self._clock_ms()):
                with trio.move_on_after(limits.PROBE_MS / 1000):
                    await self._came.park()
        self._turns.end_probe(session.peer)
        if self._up is not None and self._up[0] is session:
            self._up = None
        return ProbeTold(meter.size, *meter.late())

    def take(self, session: Session, data: ProbeData) -> None:
        """Take what came on the bulk channel. Errors: `E-FRAME-ORDER`; the session ends."""
        left = self._allowed.get(session, 0) - len(data.data)
        if left < 0:
            self._charge(session, "E-FRAME-ORDER")
            raise fault("E-FRAME-ORDER", "more than was announced")
        self._allowed[session] = left
        if self._up is not None and self._up[0] is session:  # else it came too late
            self._up[1].took(len(data.data), _now_us())
            self._came.unpark_all()


async def send_data(connection: Connection, size: int) -> int:
    """Send up to `size` bytes for `PROBE_MS`; how many there were."""
    data, sent = os.urandom(min(size, PIECE_BYTES)), 0
    with trio.move_on_after(limits.PROBE_MS / 1000):
        while sent < size:
            part = data[: size - sent]
            await connection.send(Channel.BULK, encode(ProbeData(part)))
            sent += len(part)
    return sent


async def _ask(connection: Connection, way: ProbeWay, size: int) -> ProbeTold:
    answer = await connection.call(encode(ProbeAsk(way, size)), deadline_ms=CALL_MS, max_answer_bytes=BULK_ASK_MAX_BYTES)
    return decode(answer, ProbeTold, max_bytes=BULK_ASK_MAX_BYTES)


async def _take(connection: Connection, meter: Meter, came: trio.lowlevel.ParkingLot) -> None:
    try:
        while True:
            for channel, body in await connection.receive_many():
                if channel is Channel.BULK:
                    meter.took(len(decode(body, ProbeData, max_bytes=BULK_MESSAGE_MAX_BYTES).data), _now_us())
            came.unpark_all()
    except QuStreamError:
        return  # who waits for an answer hears of it, and what is no probe data measures nothing


async def probe_down(connection: Connection, size: int = PROBE_MAX_BYTES) -> float:
    """Mbit/s from the peer to here, measured here. Nobody else may receive on the connection.

    Errors: the refusal; `E-DEADLINE`; `E-ANSWER-INVALID` if nothing came that could be measured; what ended the connection."""
    meter, came = Meter(_now_us()), trio.lowlevel.ParkingLot()
    trouble: QuStreamError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_take, connection, meter, came)
        try:
            told = await _ask(connection, ProbeWay.DOWN, size)
            with trio.move_on_after(limits.PROBE_OVER_MS / 1000):
                while meter.size < told.size:
                    await came.park()
        except QuStreamError as error:
            trouble = error
        nursery.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    return _mbps(meter.size, *meter.late())


async def probe_up(connection: Connection, size: int = PROBE_MAX_BYTES) -> float:
    """Mbit/s from here to the peer, as the peer counts it. Errors: as `probe_down`."""
    await _ask(connection, ProbeWay.UP, size)
    sent = await send_data(connection, size)
    told = await _ask(connection, ProbeWay.HEARD, max(1, sent))
    return _mbps(min(told.size, sent), min(told.late_bytes, sent), told.late_us)


def _mbps(size: int, late_bytes: int, late_us: int) -> float:
    if size < MEASURED_MIN_BYTES or not late_us:
        raise fault("E-ANSWER-INVALID", "too little came to measure a rate")
    return 8 * late_bytes / late_us
