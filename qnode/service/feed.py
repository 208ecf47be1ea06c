"""One link to one QRNG server: connect, grant credit, check every unit, fill the pool (`proto/spec/entropy-feed.md`, "Feed").

A server is believed only as far as its key in the registry goes: every attestation's signature, chain, device and expiry, and every
unit's leaf, node and sequence are checked before the unit is counted. A server that breaks a rule loses the link; the reason stands
in the status until the next attempt succeeds.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import trio

from qnode.service.pool import Pool, PooledUnit
from qustream.aio.connection import Connection, connect, connect_unix
from qustream.entropy import check_attestation, check_leaf
from qustream.errors import PeerFault, QuStreamError, fault
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, Attestation
from qustream.registry import Registry
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FEED_MAX_BYTES, FeedBatch, FeedCredit, FeedHealth, FeedMessage, FeedOpen, FeedUnit

__all__ = ["FeedLink", "LinkStatus"]

LIVE = "live"
STOPPED = frozenset({"failed", "absent"})  # will not deliver before somebody or something mends the device
CONNECT_TIMEOUT_MS = 10_000  # a handshake takes milliseconds; ten seconds cover a server that is starting
BACKOFF_MIN_S = 0.25  # a restarted server is found again before a user notices
BACKOFF_MAX_S = 30.0  # a server that stays away costs two attempts a minute
HEALTH_MAX_BYTES = 2048  # a state, a code and a sentence of 256 characters
BATCHES_KEPT = 8  # units of one batch come right after it; a few are open when the server makes them small


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What is known of a QRNG server: the link's state, or the device's as the server says; with code and reason when not live."""

    address: str
    server: bytes
    state: str
    code: str
    reason: str
    units: int


class FeedLink:
    """The link to the QRNG server `server` at `address`. Run it with `run()` in a task of its own."""

    def __init__(
        self, address: str, server: bytes, *, pool: Pool, key: SigningKey, hello: Callable[[], LocalHello], registry: Registry,
        clock_ms: Callable[[], int], on_change: Callable[[LinkStatus], None],
    ) -> None:  # fmt: skip
        self.address = address
        self.server = server
        self._pool = pool
        self._key = key
        self._hello = hello
        self._registry = registry
        self._clock_ms = clock_ms
        self._on_change = on_change
        self._units = 0
        self._credit = 0
        self._last_sequence = -1
        self._batches: OrderedDict[bytes, tuple[Signed, Attestation]] = OrderedDict()
        self.status = LinkStatus(address, server, "connecting", "", "", 0)

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        attempt = 0
        while True:
            before = self._units
            try:
                await self._once()
            except QuStreamError as error:
                if error.code == "E-FEED-STOPPED" and self.status.state in STOPPED:
                    continue  # back at once, without credit, to hear when the device is live again
                self._change("unreachable" if not isinstance(error, PeerFault) else "refused", error.code, error.detail)
            finally:
                self._release()
            attempt = 0 if self._units > before else attempt + 1
            await trio.sleep(min(BACKOFF_MAX_S, BACKOFF_MIN_S * math.pow(2, min(attempt, 10))))

    async def _once(self) -> None:
        self._registry.qrng_server(self.server)
        self._batches.clear()
        try:
            async with await self._connect() as connection, trio.open_nursery() as nursery:
                await self._ask(connection, FeedOpen(self._key.id, 0))
                nursery.start_soon(self._grant, connection)
                while True:
                    _, body = await connection.receive()
                    await self._received(decode(body, FeedMessage, max_bytes=FEED_MAX_BYTES))
        except BaseExceptionGroup as group:
            faults, bugs = group.split(QuStreamError)
            if faults is None or bugs is not None:
                raise
            raise _first(faults) from None

    async def _connect(self) -> Connection:
        if self.address.startswith("unix:"):
            return await connect_unix(self.address.removeprefix("unix:"), hello=self._hello(), timeout_ms=CONNECT_TIMEOUT_MS)
        return await connect(
            self.address, key=self._key, hello=self._hello(), expect=self.server, timeout_ms=CONNECT_TIMEOUT_MS
        )  # fmt: skip

    async def _grant(self, connection: Connection) -> None:
        """Turn room in the pool into credit while the server's device is live."""
        while True:
            if self.status.state == LIVE and (more := self._pool.reserve()):
                self._credit += more
                await self._ask(connection, FeedCredit(more))
            else:
                await self._pool.room()

    async def _ask(self, connection: Connection, message: FeedOpen | FeedCredit) -> None:
        """Open the feed or grant credit; the server answers with its device's health."""
        answer = await connection.call(encode(message), deadline_ms=CONNECT_TIMEOUT_MS, max_answer_bytes=HEALTH_MAX_BYTES)
        health = decode(answer, FeedHealth, max_bytes=HEALTH_MAX_BYTES)
        self._heard(health)

    async def _received(self, message: FeedHealth | FeedBatch | FeedUnit | FeedOpen | FeedCredit) -> None:
        match message:
            case FeedHealth():
                self._heard(message)
            case FeedBatch(attestation=signed):
                attestation = await trio.to_thread.run_sync(self._checked, signed)
                self._batches[attestation.root] = (signed, attestation)
                if len(self._batches) > BATCHES_KEPT:
                    self._batches.popitem(last=False)
            case FeedUnit():
                await self._unit(message)
            case _:
                raise fault("E-FRAME-ORDER", "a QRNG server sent what only a node sends")

    def _checked(self, signed: Signed) -> Attestation:
        server = self._registry.qrng_server(self.server)
        attestation = open_signed(signed, Attestation, server.key, "attestation")
        check_attestation(attestation, chain=self._registry.chain, server=server, at_ms=self._clock_ms())
        return attestation

    async def _unit(self, message: FeedUnit) -> None:
        if message.root not in self._batches:
            raise fault("E-ATTESTATION", "a unit without its batch's attestation")
        if self._credit == 0:
            raise fault("E-FRAME-ORDER", "more units than credit was granted for")
        if message.proof.sequence <= self._last_sequence:
            raise fault("E-PROOF", "a sequence number that was used before")
        signed, attestation = self._batches[message.root]
        material, scatter = message.unit[:MATERIAL_BYTES], message.unit[MATERIAL_BYTES:]
        leaf = await trio.to_thread.run_sync(check_leaf, attestation, self._key.id, material, message.proof)
        self._last_sequence = message.proof.sequence
        self._credit -= 1
        self._units += 1
        self._pool.put(PooledUnit(material, scatter, signed, message.proof, leaf, attestation.expires_ms))
        self.status = LinkStatus(self.address, self.server, self.status.state, self.status.code, self.status.reason, self._units)

    def _heard(self, health: FeedHealth) -> None:
        self._change(health.state, health.code, health.reason)
        if health.state == LIVE:
            self._pool.stir()
        elif self._credit and health.state in STOPPED:
            # Only a new connection takes granted credit back, so that another server can have the room.
            raise fault("E-FEED-STOPPED", health.reason)

    def _release(self) -> None:
        self._pool.release(self._credit)
        self._credit = 0

    def _change(self, state: str, code: str, reason: str) -> None:
        before = self.status
        self.status = LinkStatus(self.address, self.server, state, code, reason, self._units)
        if (before.state, before.code) != (state, code):
            self._on_change(self.status)


def _first(group: BaseExceptionGroup[QuStreamError]) -> QuStreamError:
    """The first error in a group: both tasks of a link report the end of the same connection."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
