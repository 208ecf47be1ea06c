"""One link to one QRNG server: connect, grant credit, check every unit, fill the pool (`proto/spec/entropy-feed.md`, "Feed").

A server is believed only as far as its key in the registry goes: every attestation's signature, chain, device and expiry, and every
unit's leaf, node and sequence are checked before the unit is counted. A server that breaks a rule loses the link; the reason stands
in the status until a later attempt succeeds.

    connecting ──▶ the device's own state, as the server says it: starting testing live suspect failed absent
        │  ▲
        ▼  │ back-off
    unreachable (nobody answers) · refused (it, or we, will not)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import trio

from qnode.service.pool import EXPIRY_MARGIN_MS, Pool, PooledUnit, Supply
from qustream.aio.connection import Connection, connect
from qustream.entropy import check_attestation, check_leaf
from qustream.errors import CODES, QuStreamError, Unavailable, fault
from qustream.identity.device_evidence import check_evidence
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Signed
from qustream.model.entropy import MATERIAL_BYTES, Attestation
from qustream.registry import Registry
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import decode, encode
from qustream.wire.feed import FeedBatch, FeedCredit, FeedHealth, FeedOpen, ReceivedUnit, decode_feed

__all__ = ["FeedLink", "LinkStatus", "check_leaves"]

LIVE = "live"
DEVICE_STATES = frozenset({"starting", "testing", LIVE, "suspect", "failed", "absent"})
SERVER_CODES = ("E-DEV-", "E-FEED-")
STOPPED = frozenset({"failed", "absent"})  # will not deliver before somebody or something mends the device
CONNECT_TIMEOUT_MS = 10_000  # a handshake takes milliseconds; ten seconds cover a server that is starting
BACKOFF_MIN_S = 0.25  # a restarted server is found again before a user notices
BACKOFF_MAX_S = 30.0  # a server that stays away costs two attempts a minute
HEALTH_MAX_BYTES = 2048  # a state, a code and a sentence of 256 characters
BATCHES_KEPT = 8  # units of one batch come right after it; a few are open when the server makes them small
OVERDUE_S = 10.0  # how long a server may hold more than its share of the credit and send nothing: five times what a batch may wait


class _Unit(NamedTuple):
    """A unit that may come now, and the batch it belongs to."""

    message: ReceivedUnit
    signed: Signed
    attestation: Attestation


def check_leaves(node: bytes, units: Sequence[tuple[Attestation, ReceivedUnit]]) -> tuple[list[bytes], QuStreamError | None]:
    """The leaf hashes of units for `node`, up to the first that is not in its batch, and what is wrong with that one. 0.15 ms a unit."""
    leaves: list[bytes] = []
    for attestation, unit in units:
        try:
            leaves.append(check_leaf(attestation, node, unit.unit[:MATERIAL_BYTES], unit.proof))
        except QuStreamError as error:
            return leaves, error
    return leaves, None


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What is known of a QRNG server: the link's state, or the device's as the server says; with code and reason when not live.
    `since_ms`: of this state; `units`: received and checked since the daemon started."""

    address: str
    server: bytes
    state: str
    code: str
    reason: str
    since_ms: int
    units: int


class FeedLink:
    """The link to the QRNG server `server` at `address`. Run it with `run()` in a task of its own."""

    def __init__(
        self, address: str, server: bytes, *, pool: Pool, key: SigningKey, hello: Callable[[], LocalHello], registry: Registry,
        clock_ms: Callable[[], int], on_change: Callable[[], None],
    ) -> None:  # fmt: skip
        self.address = address
        self.server = server
        self.status = LinkStatus(address, server, "connecting", "", "", clock_ms(), 0)
        self._pool = pool
        self._supply: Supply = pool.supply()
        self._key = key
        self._hello = hello
        self._registry = registry
        self._clock_ms = clock_ms
        self._on_change = on_change
        self._last_sequence = -1
        self._batches: OrderedDict[bytes, tuple[Signed, Attestation]] = OrderedDict()
        self._batches_since_unit = 0
        self._attempt = 0
        self._retry = trio.Event()
        # Nodes that lost the same server do not come back in the same instant: 0.75 to 1.25, each its own.
        self._spread = 0.75 + (key.id[0] ^ server[0]) / 510

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        while True:
            before = self.status.units
            try:
                await self._once()
            except QuStreamError as error:
                if error.code != "E-FEED-STOPPED":  # there the state is the device's, as the server told it
                    self._change("unreachable" if isinstance(error, Unavailable) else "refused", error.code, error.detail)
            finally:
                self._supply.release()
            self._attempt = 0 if self.status.units > before or self.status.state in DEVICE_STATES else self._attempt + 1
            self._retry = trio.Event()
            with trio.move_on_after(min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** max(0, min(self._attempt, 10) - 1)) * self._spread):
                await self._retry.wait()

    def retry(self) -> None:
        """Something has changed that may help: try at once, and often again for a while, as the server may learn of it later."""
        self._attempt = 0
        self._retry.set()

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _once(self) -> None:
        """Connect and take units until something ends it, which is raised."""
        if not self._registry.qrng_server(self.server).active:
            raise fault("E-ATTESTATION", "the network no longer lists this QRNG server as active")
        self._batches.clear()
        self._batches_since_unit = 0
        connection = await connect(
            self.address, key=self._key, hello=self._hello(), expect=self.server, timeout_ms=CONNECT_TIMEOUT_MS
        )  # fmt: skip
        async with connection:
            try:
                self._heard(await self._ask(connection, FeedOpen(self._key.id, 0)))
                raise await _first_trouble(connection, self._receive, self._grant, self._watch)
            except QuStreamError as error:
                connection.close_soon(error.code, error.detail)  # tells the server why, if it is still there
                raise

    async def _grant(self, connection: Connection) -> None:
        """Turn room in the pool into credit while the server's device is live."""
        while True:
            if more := self._supply.reserve():
                await self._ask(connection, FeedCredit(more))
            else:
                await self._pool.changed()

    async def _watch(self, _connection: Connection) -> None:
        """Only a new connection takes granted credit back: leave a server that keeps others waiting and sends nothing."""
        while True:
            before = self.status.units
            await trio.sleep(OVERDUE_S)
            if self.status.units == before and self._supply.is_over_share:
                raise fault("E-FEED-STOPPED", f"nothing came for {OVERDUE_S:.0f} s while other QRNG servers are live")

    async def _ask(self, connection: Connection, message: FeedOpen | FeedCredit) -> FeedHealth:
        """Open the feed or grant credit; the server answers with its device's health.

        After the opening every change is pushed, on a channel of its own: an answer can overtake a push or come after it. So the
        pushes alone, which keep their order, say what is newest.
        """
        answer = await connection.call(encode(message), deadline_ms=CONNECT_TIMEOUT_MS, max_answer_bytes=HEALTH_MAX_BYTES)
        return decode(answer, FeedHealth, max_bytes=HEALTH_MAX_BYTES)

    async def _receive(self, connection: Connection) -> None:
        """Take message by message; what came together and are units are checked in one trip to a thread."""
        while True:
            units: list[_Unit] = []
            try:
                for channel, body in await connection.receive_many():
                    if channel is not Channel.BULK:
                        raise fault("E-FRAME-ORDER", "a QRNG server sends on the bulk channel alone")
                    message = decode_feed(body)
                    if isinstance(message, ReceivedUnit):
                        units.append(self._expected(message, units))
                    else:
                        whole, units = units, []
                        await self._keep(whole)
                        await self._take(message)
            except QuStreamError:
                await self._keep(units)  # what came before the fault is good
                raise
            await self._keep(units)

    async def _take(self, message: FeedHealth | FeedBatch | FeedOpen | FeedCredit) -> None:
        match message:
            case FeedHealth() as health:
                self._heard(health)
            case FeedBatch(attestation=signed):
                await self._batch(signed)
            case _:
                raise fault("E-FRAME-ORDER", "a QRNG server sent what only a node sends")

    # -- what the server says ------------------------------------------------------------------------------------------

    def _heard(self, health: FeedHealth) -> None:
        if health.state not in DEVICE_STATES:
            raise fault("E-WIRE-MALFORMED", "a device state this version does not know")
        # Both go to displays and metrics: a code that speaks of a device or a feed, so that no server sends this node's operator
        # looking for a full disk, and nothing a terminal would obey.
        is_known = health.code in CODES and health.code.startswith(SERVER_CODES)
        code = health.code if is_known else "E-FEED-STOPPED" if health.code else ""
        reason = "".join(c if c.isprintable() else "?" for c in health.reason)
        self._change(health.state, "" if health.state == LIVE else code, reason)
        self._supply.set_live(health.state == LIVE)
        if health.state in STOPPED and self._supply.reserved_units:
            # Only a new connection takes granted credit back, so that another server can have the room.
            raise fault("E-FEED-STOPPED", reason)

    async def _batch(self, signed: Signed) -> None:
        self._batches_since_unit += 1
        if self._batches_since_unit > BATCHES_KEPT:
            raise fault("E-FRAME-ORDER", "one attestation after the other and no units")
        attestation = await trio.to_thread.run_sync(self._checked, signed)
        self._batches[attestation.root] = (signed, attestation)
        if len(self._batches) > BATCHES_KEPT:
            self._batches.popitem(last=False)

    def _checked(self, signed: Signed) -> Attestation:
        record, now_ms = self._registry.qrng_server(self.server), self._clock_ms()
        attestation = open_signed(signed, Attestation, record.key, "attestation")
        check_attestation(attestation, chain=self._registry.chain, server=record, at_ms=now_ms)
        check_evidence(attestation.device, record.device_authorities)
        if attestation.expires_ms - EXPIRY_MARGIN_MS <= now_ms:
            raise fault("E-ATTESTATION-STALE", f"it is good for less than the {EXPIRY_MARGIN_MS // 1000} s a user needs to check it")
        return attestation

    def _expected(self, message: ReceivedUnit, before: Sequence[_Unit]) -> _Unit:
        """The unit with its batch; `before`: those that came with it and are not counted yet."""
        if message.root not in self._batches:
            raise fault("E-ATTESTATION", "a unit without its batch's attestation")
        if self._supply.reserved_units <= len(before):
            raise fault("E-FRAME-ORDER", "more units than credit was granted for")
        if message.proof.sequence <= (before[-1].message.proof.sequence if before else self._last_sequence):
            raise fault("E-PROOF", "a sequence number that was used before")
        return _Unit(message, *self._batches[message.root])

    async def _keep(self, units: Sequence[_Unit]) -> None:
        """Check the units' leaves and store them, up to the first that is bad."""
        if not units:
            return
        leaves, trouble = await trio.to_thread.run_sync(check_leaves, self._key.id, [(unit.attestation, unit.message) for unit in units])
        for (message, signed, attestation), leaf in zip(units, leaves, strict=False):
            self._last_sequence = message.proof.sequence
            material, scatter = message.unit[:MATERIAL_BYTES], bytes(message.unit[MATERIAL_BYTES:])
            self._supply.put(PooledUnit(material, scatter, signed, message.proof, leaf, attestation.expires_ms, self.server))
        if leaves:
            self._batches_since_unit = 0
            self.status = replace(self.status, units=self.status.units + len(leaves))
        if trouble is not None:
            raise trouble

    def _change(self, state: str, code: str, reason: str) -> None:
        before = self.status
        if (before.state, before.code, before.reason) == (state, code, reason):
            return
        since_ms = before.since_ms if before.state == state else self._clock_ms()
        self.status = replace(before, state=state, code=code, reason=reason, since_ms=since_ms)
        self._on_change()


async def _first_trouble(connection: Connection, *tasks: Callable[[Connection], Awaitable[None]]) -> QuStreamError:
    """Run tasks that never end of themselves until one raises a coded error; return it."""
    troubles: list[QuStreamError] = []

    async def guarded(task: Callable[[Connection], Awaitable[None]]) -> None:
        try:
            await task(connection)
        except QuStreamError as error:
            troubles.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(guarded, task)
    return troubles[0]
