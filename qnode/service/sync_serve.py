"""The chain for those who are behind: final blocks with what proves them, and their transactions (`proto/spec/sync.md`, §2).

Whoever asks for blocks that are not there yet waits here, within bounds; everything else is read from the disk, in a thread. Strangers are
answered, too, out of what they may have together (§8): their questions wait as long as nobody known needs the place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import trio

from qnode.net.answers import Quota
from qnode.net.session import Session
from qnode.net.strangers import Kind, Stranger, Strangers
from qnode.net.tags import tag_of
from qnode.service.chain import Chain
from qnode.store.chain import ChainStore
from qustream.aio.admission import Bucket
from qustream.errors import QuStreamError, fault
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import Certificate, ChainHeader, header_digest
from qustream.wire.sync import SYNC_ANSWER_MAX_BYTES, SYNC_ASK_MAX_BYTES, BlocksAnswer, BlocksAsk, BodyAnswer, BodyAsk, SyncAsk

__all__ = ["SYNC_TAGS", "SyncAnswers", "blocks_above"]

SYNC_TAGS = range(103, 107)
BODY_TAG = 105
# At one block a second a follower asks sixty times a minute; one that catches up gets 64 blocks each time.
BLOCKS_MAX, BODIES_MAX, SPAN_MS = 480, 1_200, 60_000
# Beside what each may have: bodies for whoever asks for more, as a new node with a licence that has one peer to ask. Of all together, an
# answer and each 16 KiB of it counted: a tenth of a core, and a quarter of a line of 100 Mbit/s. So many are made at a time: what they
# have is known when they are made, and 16 of the largest are 512 of these.
MORE_MAX, MORE_PER_S, MORE_BYTES, MORE_AT_ONCE_MAX = 2_000, 200, 16_384, 16
# When it makes sense to ask again: if that is spent (a thousand are there then), and if only so many are being made.
MORE_AGAIN_MS, PLACE_AGAIN_MS = 5_000, 1_000
# Questions that wait: of a peer, and in all; each is a task and a place among the eight that a connection has.
WAITS_PEER_MAX, WAITS_MAX = 2, 512
# An answer leaves so long before its asker gives up.
WAY_MS = 2_000
# Of an answer, what is neither ids nor transactions: lengths and tags of all lists.
HEAD_BYTES = 64
# A list's head, and each id's.
LIST_BYTES, ID_BYTES = 5, 34
# A transaction's own length, beside its bytes.
ITEM_BYTES = 5


class SyncAnswers:
    """One node's. `close` it when the node stops: whoever waits is answered."""

    def __init__(self, chain: Chain, strangers: Strangers) -> None:
        self._chain, self._store, self._strangers = chain, chain.store, strangers
        self._blocks, self._bodies = Quota(BLOCKS_MAX, SPAN_MS), Quota(BODIES_MAX, SPAN_MS)
        self._more, self._making = Bucket(MORE_MAX, MORE_PER_S, 0.0), 0
        self._waiting: Counter[bytes] = Counter()
        self._scopes: set[trio.CancelScope] = set()
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Questions that wait for a block."""
        return len(self._scopes)

    def close(self) -> None:
        """Nobody waits any more."""
        self._is_closed = True
        for scope in self._scopes:
            scope.cancel()

    async def answer(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        """Answer a known node. Errors: the refusal."""
        ask = decode(body, SyncAsk, max_bytes=SYNC_ASK_MAX_BYTES)
        if isinstance(ask, BodyAsk):
            if self._is_more(session.peer):
                return await self._one_more(ask)
            return await self._body(ask)
        self._blocks.spend(session.peer)
        if self._must_wait(ask):
            await self._wait_known(session.peer, ask, deadline_ms)
        return await self._blocks_above(ask)

    def _is_more(self, peer: bytes) -> bool:
        """Whether it is out of what all may have beside their own. Errors: `E-PEER-LIMIT`."""
        try:
            self._bodies.spend(peer)
        except QuStreamError as error:
            is_place = self._making < MORE_AT_ONCE_MAX  # there is one again within milliseconds
            if is_place and self._more.take(trio.current_time()):
                return True
            again_ms = MORE_AGAIN_MS if is_place else PLACE_AGAIN_MS
            raise fault(error.code, error.detail, retry_after_ms=min(error.retry_after_ms or 0, again_ms)) from None
        return False

    async def _one_more(self, ask: BodyAsk) -> bytes:
        self._making += 1
        try:
            said = await self._body(ask)
        finally:
            self._making -= 1
        self._more.spend(len(said) // MORE_BYTES, trio.current_time())
        return said

    async def answer_stranger(self, who: Stranger, body: bytes, deadline_ms: int) -> bytes:
        """Answer anybody else. Errors: the refusal."""
        is_body = tag_of(body) == BODY_TAG
        kind = Kind.BODIES if is_body else Kind.BLOCKS
        self._strangers.begin(who, kind)
        ask = decode(body, SyncAsk, max_bytes=SYNC_ASK_MAX_BYTES)
        if isinstance(ask, BlocksAsk) and self._must_wait(ask):
            await self._wait_stranger(who, ask, deadline_ms)
        async with self._strangers.working(kind):
            said = await (self._body(ask) if isinstance(ask, BodyAsk) else self._blocks_above(ask))
        return self._strangers.end(who, kind, said)

    async def _body(self, ask: BodyAsk) -> bytes:
        return encode(await trio.to_thread.run_sync(_body, self._store, ask))

    async def _blocks_above(self, ask: BlocksAsk) -> bytes:
        if not ask.most:
            return encode(BlocksAnswer(self._store.final.height, (), (), None))
        return encode(await trio.to_thread.run_sync(blocks_above, self._store, ask))

    # -- waiting ----------------------------------------------------------------------------------------------------------------

    def _must_wait(self, ask: BlocksAsk) -> bool:
        return self._store.final.height <= ask.above and bool(ask.wait_ms) and not self._is_closed

    async def _wait_known(self, peer: bytes, ask: BlocksAsk, deadline_ms: int) -> None:
        is_full = self.waiting >= WAITS_MAX and not self._strangers.waits.shed()
        if self._waiting[peer] >= WAITS_PEER_MAX or is_full:
            raise fault("E-PEER-LIMIT", "too many questions wait for a block", retry_after_ms=WAY_MS)
        self._waiting[peer] += 1
        try:
            await self._wait(trio.CancelScope(), ask, deadline_ms)
        finally:
            self._waiting[peer] -= 1
            if not self._waiting[peer]:
                del self._waiting[peer]

    async def _wait_stranger(self, who: Stranger, ask: BlocksAsk, deadline_ms: int) -> None:
        waits, scope = self._strangers.waits, trio.CancelScope()
        try:
            if self.waiting >= WAITS_MAX:
                raise fault("E-PEER-LIMIT", "too many questions wait for a block", retry_after_ms=WAY_MS)
            number = waits.enter(who, scope.cancel)
        except QuStreamError:
            self._strangers.count_refused(Kind.BLOCKS)
            raise
        try:
            await self._wait(scope, ask, deadline_ms)
        finally:
            waits.leave(number)

    async def _wait(self, scope: trio.CancelScope, ask: BlocksAsk, deadline_ms: int) -> None:
        """Until there is a block above, the time is over, or the scope is cancelled."""
        scope.deadline = trio.current_time() + min(ask.wait_ms, max(0, deadline_ms - WAY_MS)) / 1000
        self._scopes.add(scope)
        try:
            with scope:
                await self._chain.wait_final_above(ask.above)
        finally:
            self._scopes.discard(scope)


def blocks_above(store: ChainStore, ask: BlocksAsk) -> BlocksAnswer:
    """The blocks above, up to the first that a finalisation is at hand for."""
    nothing = BlocksAnswer(store.final.height, (), (), None)
    found, first = store.finalisation_at(ask.above + 1), store.header_at(ask.above + 1)
    if found is None or first is None:
        return nothing
    height, certificate = found
    headers: list[ChainHeader] = []
    ids: list[tuple[bytes, ...]] = []
    for number in range(ask.above + 1, min(height, ask.above + ask.most) + 1):
        block = store.block_at(number)
        if block is None:
            return nothing  # pruned
        if block.header.rotation != first.rotation:
            break
        headers.append(block.header)
        ids.append(block.ids)
    if certificate.rotation != first.rotation:  # of a later one: the end of theirs is kept, too
        end = store.end_of(first.rotation)
        if end is None:
            return nothing
        certificate = end
    tail = _tail(store, headers[-1], certificate)
    if tail is None or len(headers) + len(tail) > ask.most:
        return nothing
    return _with_ids(BlocksAnswer(store.final.height, (*headers, *tail), (), certificate), ids)


def _tail(store: ChainStore, last: ChainHeader, certificate: Certificate) -> tuple[ChainHeader, ...] | None:
    """What stands between a run's last block and the certificate's; None if that is not known."""
    if header_digest(last) == certificate.digest:
        return ()
    tail = store.tail_of(last.rotation)
    return tail if tail and header_digest(tail[-1]) == certificate.digest and tail[0].parent == header_digest(last) else None


def _with_ids(answer: BlocksAnswer, ids: Sequence[tuple[bytes, ...]]) -> BlocksAnswer:
    """As many as there is room for."""
    room, end = SYNC_ANSWER_MAX_BYTES - HEAD_BYTES - len(encode(answer)), 0
    while end < len(ids) and (room := room - LIST_BYTES - ID_BYTES * len(ids[end])) >= 0:
        end += 1
    return BlocksAnswer(answer.height, answer.headers, tuple(ids[:end]), answer.certificate)


def _body(store: ChainStore, ask: BodyAsk) -> BodyAnswer:
    block = store.block_at(ask.height)
    if block is None:
        raise fault("E-NOT-HELD", "no final block of this height is here")
    if ask.first >= len(block.ids):
        raise fault("E-REQUEST-INVALID", "the block has fewer transactions")
    ids = block.ids if ask.first == 0 else ()
    room = SYNC_ANSWER_MAX_BYTES - HEAD_BYTES - ID_BYTES * len(ids)
    found: list[bytes] = []
    for name in block.ids[ask.first : ask.first + ask.count]:
        raw = store.transaction(name)
        if raw is None or (room := room - ITEM_BYTES - len(raw)) < 0:
            break
        found.append(raw)
    if not found:
        raise fault("E-NOT-HELD", "the transactions of this block are not here")
    return BodyAnswer(ids, tuple(found))
