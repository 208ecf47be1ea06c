"""The network file travels: fetched from whoever tells of a newer one, checked, kept, used, offered to others (`proto/spec/bulk.md`, §5).

A peer's word costs it something only if it is not true: an offered file whose signature does not hold, or that is not of the height
offered, is charged, and its object never fetched again. Whatever else goes wrong lets that peer wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from qnode.net.answers import Quota
from qnode.net.bulk import Bulk
from qnode.net.session import Session
from qnode.service.watch import NetworkWatch
from qnode.store.pieces import FileObject, PieceStore
from qustream.aio.logs import logger
from qustream.errors import QuStreamError, fault
from qustream.registry import NetworkFileRegistry
from qustream.registry.signed_file import FILE_MAX_BYTES
from qustream.wire.bulk import BULK_ASK_MAX_BYTES, NetworkFileAsk, NetworkFileOffer
from qustream.wire.codec import decode, encode

__all__ = ["NETWORK_FILE_ROOM_BYTES", "NETWORK_FILE_TAGS", "NetworkFiles"]

NETWORK_FILE_TAGS = range(85, 87)
# Objects fetched at a time: a teller of something else, that never comes to an end, must not keep the true file from us.
FETCHES_MAX = 4
NETWORK_FILE_ROOM_BYTES = FETCHES_MAX * FILE_MAX_BYTES
ASK_MS = 10_000  # a few bytes each way; the answerer may have to hash 64 MiB first
# A fetch gets half a minute, and as long as its size takes at 1 Mbit/s.
FETCH_S, FETCH_BYTES_PER_S = 30.0, 125_000
LOOK_S = 1.0
# A file that is not the one in use is read no sooner again, whoever asks: it may have 64 MiB, and the operator may mean it to stay.
REPLACED_S = 10.0
# How long a peer waits that told of a file and had none to give: its file may be changing. Doubled each time, begun anew after a while.
REST_S, REST_MAX_S, REST_FORGOTTEN_S = 2.0, 3600.0, 600.0
# And one that has come when as many were being fetched as may be, which is not its fault: sooner than who has to give way for it.
BUSY_REST_S = 1.0
# Peers that wait, and objects not to be fetched again: more than a node has links, and than a keeper signs files while a node runs.
RESTS_MAX, REFUSED_MAX = 1024, 256
# Offers a peer may ask for in an hour: one for every new file, and its links say so once.
OFFERS_MAX, OFFERS_MS = 256, 3_600_000
# Whose file it is not: the signature, the network. A format we do not know may be of a later version of this program.
UNTRUE = frozenset({"E-REGISTRY-SIGNATURE", "E-REGISTRY-CHAIN"})


@dataclass
class _Fetch:
    """A file on its way. `offered_by`: who vouches for it, and of what height each says it is. `gave_way`: to another, for it took long."""

    offer: NetworkFileOffer
    scope: trio.CancelScope
    began_s: float
    offered_by: list[tuple[Session, int]] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)
    gave_way: bool = False


class NetworkFiles:
    """One node's. `stands`: whether a session is a link now; `charge`: its peer has told what is not true."""

    def __init__(
        self, bulk: Bulk, watch: NetworkWatch, registry: NetworkFileRegistry, store: Callable[[], PieceStore], *,
        stands: Callable[[Session], bool], charge: Callable[[Session, str], None],
    ) -> None:  # fmt: skip
        self._bulk, self._watch, self._registry, self._make_store = bulk, watch, registry, store
        self._stands, self._charge = stands, charge
        self._told: dict[bytes, tuple[Session, int]] = {}
        self._asking: set[bytes] = set()
        self._fetches: dict[bytes, _Fetch] = {}
        self._rests: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # until when, how long the next time
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._offers = Quota(OFFERS_MAX, OFFERS_MS)
        self._served: list[FileObject] = []  # the file in use last, the one before it first
        self._serving, self._replaced_until_s = trio.Lock(), 0.0
        self._judging = trio.Lock()  # one at a time: each is read whole
        self._news = trio.Event()
        self._log = logger("network-file")

    # -- serving ----------------------------------------------------------------------------------------------------------

    async def answer(self, session: Session, body: bytes, _deadline_ms: int) -> bytes:
        """Answer a `NetworkFileAsk`. Errors: the refusal."""
        ask = decode(body, NetworkFileAsk, max_bytes=BULK_ASK_MAX_BYTES)
        self._offers.spend(session.peer)
        if self._registry.height <= ask.above:
            raise fault("E-NOT-HELD", "no network file above that height")
        height, thing = await self._in_use()
        return encode(NetworkFileOffer(height, thing.id, thing.manifest.size))

    async def _in_use(self) -> tuple[int, FileObject]:
        """The height of the file in use, and the file as an object that is served from now on."""
        async with self._serving:
            used = self._registry.file_in_use
            if not self._served or self._served[-1].digest != used.digest:
                if trio.current_time() < self._replaced_until_s:
                    raise fault("E-NOT-HELD", "the file is being replaced")
                thing = await trio.to_thread.run_sync(FileObject.open, used.path, FILE_MAX_BYTES)
                if thing.digest != used.digest:
                    self._replaced_until_s = trio.current_time() + REPLACED_S
                    raise fault("E-NOT-HELD", "the file is being replaced")
                self._bulk.offer(thing)
                self._served.append(thing)
                for old in self._served[:-2]:
                    self._bulk.withdraw(old.id)
                del self._served[:-2]
            return used.height, self._served[-1]

    # -- following --------------------------------------------------------------------------------------------------------

    def height_heard(self, session: Session, height: int) -> None:
        """A linked peer's view has this height, as it says."""
        if height > self._height():
            self._told[session.peer] = (session, height)
            self._news.set()
        else:
            self._told.pop(session.peer, None)

    def _height(self) -> int:
        try:
            return self._registry.height
        except QuStreamError:
            return 0

    async def run(self) -> None:
        """Fetch what is newer, until cancelled. A disk that takes no pieces leaves the node with the operator's file."""
        try:
            store = await trio.to_thread.run_sync(self._make_store)
        except QuStreamError as error:
            self._log.error("network files of peers cannot be kept", code=error.code, detail=error.detail)
            return
        async with trio.open_nursery() as nursery:
            while True:
                self._look(store, nursery)
                with trio.move_on_after(LOOK_S):
                    await self._news.wait()
                self._news = trio.Event()

    def _look(self, store: PieceStore, nursery: trio.Nursery) -> None:
        """Ask whoever tells of a newer file; end what is not newer any more."""
        now_s, height = trio.current_time(), self._height()
        for fetch in self._fetches.values():
            if fetch.offer.height <= height:
                fetch.scope.cancel()
        for peer, (session, told) in list(self._told.items()):
            if told <= height or not self._stands(session):
                del self._told[peer]
            elif peer not in self._asking and now_s >= self._rests.get(peer, (0.0, 0.0))[0]:
                self._asking.add(peer)
                nursery.start_soon(self._ask, session, store)

    async def _ask(self, session: Session, store: PieceStore) -> None:
        try:
            body = encode(NetworkFileAsk(self._height()))
            answer = await session.call(body, ASK_MS, max_answer_bytes=BULK_ASK_MAX_BYTES)
            offer = decode(answer, NetworkFileOffer, max_bytes=BULK_ASK_MAX_BYTES)
            await self._take_up(session, offer, store)
        except QuStreamError as error:
            self._log.debug("no network file from a peer", code=error.code, detail=error.detail)
            self._rest(session.peer)
        finally:
            self._asking.discard(session.peer)

    async def _take_up(self, session: Session, offer: NetworkFileOffer, store: PieceStore) -> None:
        """Fetch what is offered, or help a fetch of it that is under way. Errors: why that peer has to wait."""
        if offer.height <= self._height():
            if self._told.get(session.peer, (session, 0))[1] > self._height():
                raise fault("E-ANSWER-INVALID", "a peer told of a height, and has no file of it")
            return
        if offer.object in self._refused or offer.size > FILE_MAX_BYTES:
            raise fault("E-ANSWER-INVALID", "a file that is none of this network's, or too large")
        fetch = self._fetches.get(offer.object)
        if fetch is not None:
            fetch.offered_by.append((session, offer.height))
            self._bulk.join(offer.object, session)
            await fetch.over.wait()
            return
        if len(self._fetches) >= FETCHES_MAX:
            self._make_room()
            self._come_again(session.peer, BUSY_REST_S)
            return
        fetch = _Fetch(offer, trio.CancelScope(), trio.current_time(), [(session, offer.height)])
        with fetch.scope:
            self._fetches[offer.object] = fetch
            try:
                await self._fetch(fetch, store)
            finally:
                del self._fetches[offer.object]
                fetch.over.set()
        if fetch.scope.cancelled_caught and not fetch.gave_way:  # it is not the newest any more
            await trio.to_thread.run_sync(store.drop, offer.object)

    def _make_room(self) -> None:
        """End the fetch that the fewest vouch for, of these the oldest, if it has had its time: or four that never come to an end would
        keep the true file from us. What has come of it stays on the disk."""
        least = min(self._fetches.values(), key=lambda fetch: (len(fetch.offered_by), fetch.began_s))
        if trio.current_time() - least.began_s >= FETCH_S and not least.gave_way:
            least.gave_way = True
            least.scope.cancel()
            for session, _ in least.offered_by:
                self._rest(session.peer)

    async def _fetch(self, fetch: _Fetch, store: PieceStore) -> None:
        offer = fetch.offer
        with trio.move_on_after(FETCH_S + offer.size / FETCH_BYTES_PER_S) as limit:
            holders = [session for session, _ in fetch.offered_by]
            path = await self._bulk.fetch(offer.object, store, holders, most_bytes=FILE_MAX_BYTES)
        if limit.cancelled_caught:
            raise fault("E-DEADLINE", "the file did not come in time")
        try:
            async with self._judging:
                await self._use(fetch, await trio.to_thread.run_sync(path.read_bytes))
            tidy = partial(store.clean, keep=frozenset(self._fetches) - {offer.object})  # what is older than this is of no use
        except OSError as error:
            tidy = partial(store.drop, offer.object)
            raise fault("E-FILE", f"{path}: {error.strerror}") from None
        except BaseException:
            tidy = partial(store.drop, offer.object)  # this alone: what has come of others, before a restart too, may be the true one's
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(tidy)

    async def _use(self, fetch: _Fetch, data: bytes) -> None:
        """Take the file over. Errors: why not; whoever offered it is charged if it is not what he said it was."""
        with trio.CancelScope(shield=True):  # it is judged, kept and used, or nothing of it
            try:
                await self._watch.follow(data)
            except QuStreamError as error:
                if error.code.startswith("E-REGISTRY-"):
                    self._refuse(fetch, error)
                raise
        self._news.set()
        for session, height in fetch.offered_by:
            self._rests.pop(session.peer, None)
            if self._registry.height < height:
                self._charge(session, "E-ANSWER-INVALID")

    def _refuse(self, fetch: _Fetch, error: QuStreamError) -> None:
        is_old = error.code == "E-REGISTRY-VERSION"
        # Whose word was true is only late: another peer's came first.
        untrue = [session for session, height in fetch.offered_by if not is_old or height > self._height()]
        if not untrue:
            return
        self._refused[fetch.offer.object] = None
        if len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)
        for session in untrue:
            self._rest(session.peer)
            if error.code in UNTRUE or is_old:
                self._charge(session, "E-ANSWER-INVALID")

    def _rest(self, peer: bytes) -> None:
        now_s = trio.current_time()
        until_s, span_s = self._rests.get(peer, (now_s, REST_S))
        if now_s - until_s > REST_FORGOTTEN_S:
            span_s = REST_S
        self._come_again(peer, span_s, min(REST_MAX_S, 2 * span_s))

    def _come_again(self, peer: bytes, after_s: float, next_s: float | None = None) -> None:
        """`next_s`: how long it waits the next time that it is its fault; None: as long as before."""
        _, span_s = self._rests.pop(peer, (0.0, REST_S))
        self._rests[peer] = (trio.current_time() + after_s, span_s if next_s is None else next_s)
        if len(self._rests) > RESTS_MAX:
            self._rests.popitem(last=False)
