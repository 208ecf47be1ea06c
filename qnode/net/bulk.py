"""Objects in pieces between sessions: what is served, and what is fetched (`proto/spec/bulk.md`).

Serving: an ask for pieces is worked on until its last piece is queued on the bulk channel, which waits for room there, behind gossip and
answers. Fetching: a pure core decides (`qnode.core.bulk`), each ask is a task of its own, and no piece is in memory longer than it takes to
reach the disk.

Every session has an account of the pieces it owes us. A piece on an empty account was never asked for, and is charged; one that came too
late for its fetch is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

import trio

from qnode.core.bulk import Fetch, Stage, step
from qnode.core.bulk_events import (
    AskManifest,
    AskPieces,
    Begin,
    Charge,
    Done,
    Effect,
    Event,
    Failed,
    Held,
    HolderFound,
    HolderLost,
    Keep,
    Kept,
    ManifestTold,
    PieceCame,
    Refused,
    Ticked,
)
from qnode.core.bulk_serve import BulkTurns
from qnode.net.session import Session
from qnode.net.stepping import Stepping
from qustream.errors import QuStreamError, fault
from qustream.transport.limits import Channel
from qustream.wire.bulk import (
    BULK_ASK_MAX_BYTES,
    BULK_MESSAGE_MAX_BYTES,
    MANIFEST_MAX_BYTES,
    OBJECT_MAX_BYTES,
    BulkAsk,
    BulkMessage,
    BulkPiece,
    BulkSent,
    Manifest,
    ManifestAsk,
    ProbeData,
)
from qustream.wire.codec import decode, encode

__all__ = ["BULK_TAGS", "Bulk", "BulkCount", "Keeper", "Source"]

BULK_TAGS = range(80, 85)
TICK_S = 0.25
# Four pieces, behind eight others of the same window, at 400 kbit/s.
ASK_MS = 60_000
MANIFEST_ASK_MS = 15_000
# Objects that may be served at a time: a node offers the file in use and the one before it; room for a snapshot of the chain.
OFFERS_MAX = 16
# Threads that read and write pieces: they hold the disk, not the processor.
DISK_THREADS_MAX = 2

Charged = Callable[[Session, str], None]
_T = TypeVar("_T")


class Source(Protocol):
    """An object that can be served."""

    manifest: Manifest
    id: bytes

    def read(self, first: int, count: int) -> list[bytes]:
        """These pieces, in a thread. Errors: `E-NOT-HELD`."""
        ...


class Keeper(Protocol):
    """Where pieces are kept until the object is whole; every method in a thread. Errors: `E-DISK-FULL`, `E-FILE`, `E-DATA-CORRUPT`."""

    def manifest(self, name: bytes) -> Manifest | None: ...
    def begin(self, name: bytes, manifest: Manifest) -> frozenset[int]: ...
    def write(self, name: bytes, index: int, data: bytes) -> None: ...
    def finish(self, name: bytes) -> Path: ...
    def leave(self, name: bytes) -> None: ...


@dataclass
class BulkCount:
    """Asks and fetches that came to a good end, fetches that did not, and bytes of pieces."""

    served: int = 0
    fetched: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Bulk:
    """One node's. `charge`: a session's peer has sent what is not true; `stands`: whether a session is still of use; `clock_ms`: steady."""

    def __init__(self, *, charge: Charged, stands: Callable[[Session], bool], clock_ms: Callable[[], int]) -> None:
        self.count = BulkCount()
        self.turns = BulkTurns()
        self.take_probe: Callable[[Session, ProbeData], None] | None = None
        self._charge, self._stands, self._clock_ms = charge, stands, clock_ms
        self._offers: dict[bytes, Source] = {}
        self._fetches: dict[bytes, _Fetching] = {}
        self._owed: WeakKeyDictionary[Session, int] = WeakKeyDictionary()
        self._disk = trio.CapacityLimiter(DISK_THREADS_MAX)

    # -- serving ----------------------------------------------------------------------------------------------------------

    def offer(self, source: Source) -> None:
        """Serve this object from now on; the one offered longest ago goes if there are too many."""
        self._offers.pop(source.id, None)
        self._offers[source.id] = source
        if len(self._offers) > OFFERS_MAX:
            del self._offers[next(iter(self._offers))]

    def withdraw(self, name: bytes) -> None:
        """Serve it no more. Harmless when repeated."""
        self._offers.pop(name, None)

    async def answer(self, session: Session, body: bytes, _deadline_ms: int) -> bytes:
        """Answer an ask for a manifest or for pieces. Errors: the refusal."""
        ask = decode(body, ManifestAsk | BulkAsk, max_bytes=BULK_ASK_MAX_BYTES)
        source = self._offers.get(ask.object)
        if source is None:
            raise fault("E-NOT-HELD", "this node does not have the object")
        if isinstance(ask, ManifestAsk):
            _wait(self.turns.manifest(session.peer, self._clock_ms()))
            return encode(source.manifest)
        return await self._send(session, source, ask)

    async def _send(self, session: Session, source: Source, ask: BulkAsk) -> bytes:
        if ask.first + ask.count > len(source.manifest.pieces):
            raise fault("E-REQUEST-INVALID", "the object has no such piece")
        _wait(self.turns.begin(session.peer, ask.count, self._clock_ms(), is_link=session.is_link))
        try:
            pieces = await trio.to_thread.run_sync(source.read, ask.first, ask.count, limiter=self._disk)
            for index, data in enumerate(pieces, ask.first):
                await session.connection.send(Channel.BULK, encode(BulkPiece(ask.object, index, data)))
                self.count.bytes_out += len(data)
        finally:
            self.turns.end(session.peer)
        self.count.served += 1
        return encode(BulkSent(ask.count))

    # -- what comes on the bulk channel -----------------------------------------------------------------------------------

    async def take(self, session: Session, bodies: Iterable[bytes | bytearray]) -> None:
        """Take what came together. Errors: `E-WIRE-…`, `E-FRAME-ORDER`; the session ends."""
        for body in bodies:
            message = decode(body, BulkMessage, max_bytes=BULK_MESSAGE_MAX_BYTES)
            if isinstance(message, BulkPiece):
                self._take_piece(session, message)
            elif self.take_probe is not None:
                self.take_probe(session, message)
            else:
                raise fault("E-FRAME-ORDER", "no probe is under way")

    def _take_piece(self, session: Session, piece: BulkPiece) -> None:
        owed = self._owed.get(session, 0)
        if not owed:
            self._charge(session, "E-FRAME-ORDER")
            raise fault("E-FRAME-ORDER", "a piece that was not asked for")
        self._owed[session] = owed - 1
        self.count.bytes_in += len(piece.data)
        fetching = self._fetches.get(piece.object)
        if fetching is not None:
            fetching.piece_came(session, piece)

    # -- fetching ---------------------------------------------------------------------------------------------------------

    async def fetch(self, name: bytes, keeper: Keeper, holders: Sequence[Session], *, most_bytes: int = OBJECT_MAX_BYTES) -> Path:
        """Get the object from these and from whoever `join`s meanwhile, however long that takes; cancelled, what came stays for the next
        attempt. Returns where it is. Errors: why it cannot be had, and the keeper's."""
        assert name not in self._fetches, "an object is fetched once at a time"
        known = await trio.to_thread.run_sync(keeper.manifest, name, limiter=self._disk)
        if known is not None and known.size > most_bytes:
            raise fault("E-WIRE-OVERSIZE", "the object is larger than it may be")
        fetching = _Fetching(self, name, keeper, Fetch(name, self._clock_ms(), manifest=known, most_bytes=most_bytes))
        self._fetches[name] = fetching
        try:
            path = await fetching.run(holders)
        except BaseException:
            self.count.failed += 1
            raise
        finally:
            del self._fetches[name]
        self.count.fetched += 1
        return path

    def join(self, name: bytes, session: Session) -> None:
        """This session's peer has the object too. Nothing, if it is not being fetched."""
        fetching = self._fetches.get(name)
        if fetching is not None:
            fetching.join(session)


class _Fetching:
    """One fetch: performs what the core orders. Holders are sessions, one of each peer."""

    def __init__(self, bulk: Bulk, name: bytes, keeper: Keeper, core: Fetch) -> None:
        self._bulk, self._name, self._keeper, self._core = bulk, name, keeper, core
        self._sessions: dict[bytes, Session] = {}
        self._step: Stepping[Event, Effect] = Stepping(self._follows, self._perform)
        self._nursery: trio.Nursery | None = None
        self._over = trio.Event()
        self._trouble: QuStreamError | None = None

    async def run(self, holders: Sequence[Session]) -> Path:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._until_over(holders)
                finally:
                    self._nursery = None  # before it takes no more tasks: pieces may come until the last moment
                    nursery.cancel_scope.cancel()
            if self._trouble is not None:
                raise self._trouble
            return await self._in_thread(partial(self._keeper.finish, self._name))
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(partial(self._keeper.leave, self._name))

    async def _until_over(self, holders: Sequence[Session]) -> None:
        assert self._nursery is not None
        if self._core.manifest is not None:
            await self._look_at_disk(self._core.manifest)
        for session in holders:
            self.join(session)
        self._nursery.start_soon(self._tick)
        await self._over.wait()

    def join(self, session: Session) -> None:
        present = self._sessions.get(session.peer)
        if present is session:
            return
        if present is not None:
            self._step(HolderLost(session.peer))
        self._sessions[session.peer] = session
        self._step(HolderFound(session.peer))

    def piece_came(self, session: Session, piece: BulkPiece) -> None:
        if self._sessions.get(session.peer) is session:
            self._step(PieceCame(session.peer, piece.index, piece.data))

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            for peer, session in list(self._sessions.items()):
                if not self._bulk._stands(session):
                    self._lose(peer, session)
            self._step(Ticked())

    def _lose(self, peer: bytes, session: Session) -> None:
        if self._sessions.get(peer) is session:
            del self._sessions[peer]
            self._step(HolderLost(peer))

    # -- the core ---------------------------------------------------------------------------------------------------------

    def _follows(self, event: Event) -> list[Effect]:
        return step(self._core, event, self._bulk._clock_ms()) if self._nursery is not None else []

    def _perform(self, effect: Effect) -> None:
        assert self._nursery is not None
        match effect:
            case AskManifest():
                self._nursery.start_soon(self._ask_manifest, self._sessions[effect.holder], effect)
            case AskPieces():
                self._nursery.start_soon(self._ask_pieces, self._sessions[effect.holder], effect)
            case Begin():
                self._nursery.start_soon(self._look_at_disk, effect.manifest)
            case Keep():
                self._nursery.start_soon(self._keep, effect)
            case Charge():
                self._bulk._charge(self._sessions[effect.holder], effect.code)
            case Done():
                self._over.set()
            case Failed():
                self._fail(fault(effect.code, "nobody has it, or nobody gives it"))

    def _fail(self, error: QuStreamError) -> None:
        self._trouble = self._trouble or error
        self._over.set()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(work, limiter=self._bulk._disk)

    # -- effects that take time -------------------------------------------------------------------------------------------

    async def _ask_manifest(self, session: Session, ask: AskManifest) -> None:
        try:
            answer = await session.call(encode(ManifestAsk(self._name)), MANIFEST_ASK_MS, max_answer_bytes=MANIFEST_MAX_BYTES)
        except QuStreamError as error:
            self._refused(session, ask.ask, error)
        else:
            self._step(ManifestTold(session.peer, ask.ask, answer))

    async def _ask_pieces(self, session: Session, ask: AskPieces) -> None:
        owed = self._bulk._owed
        owed[session] = owed.get(session, 0) + ask.count
        try:
            body = encode(BulkAsk(self._name, ask.first, ask.count))
            answer = await session.call(body, ASK_MS, max_answer_bytes=BULK_ASK_MAX_BYTES)
            decode(answer, BulkSent, max_bytes=BULK_ASK_MAX_BYTES)
        except QuStreamError as error:
            if error.code == "E-PEER-LIMIT":
                owed[session] = max(0, owed.get(session, 0) - ask.count)  # it sent nothing of it
            self._refused(session, ask.ask, error)

    def _refused(self, session: Session, ask: int, error: QuStreamError) -> None:
        if not self._bulk._stands(session):
            self._lose(session.peer, session)
        elif self._sessions.get(session.peer) is session:
            self._step(Refused(session.peer, ask, error.code, error.retry_after_ms or 0))

    async def _look_at_disk(self, manifest: Manifest) -> None:
        try:
            good = await self._in_thread(partial(self._keeper.begin, self._name, manifest))
        except QuStreamError as error:
            self._fail(error)
        else:
            self._step(Held(good))

    async def _keep(self, effect: Keep) -> None:
        try:
            await self._in_thread(partial(self._keeper.write, self._name, effect.index, effect.data))
        except QuStreamError as error:
            self._fail(error)
        else:
            if self._core.stage is not Stage.OVER:
                self._step(Kept(effect.index))


def _wait(for_ms: int) -> None:
    if for_ms:
        raise fault("E-PEER-LIMIT", "not now", retry_after_ms=for_ms)
