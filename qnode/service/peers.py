"""Runs the peers core: tells it what happens, performs what it orders, and holds the sessions (`proto/spec/peers.md`).

How it fits together. A connection of a known node, whoever opened it, is a `Session` (`qnode.net.session`), and the `Hub` has all of them.
It becomes a *link* when the core admits it, and gossip hears of it then.

    registry, clock ─▶ KnownNodes ─▶ core.peers: whom to dial, admit, hang up ─▶ Dialer ─▶ Session ◀─ the listener (`talk`)
    Session, channel gossip ─▶ GossipService ─▶ core.gossip ─▶ judges of topics; to other sessions by the hub; `Expel` ─▶ core.peers
    Session, channel request ─▶ Desk, by tag: links and records (PeerAnswers), bulk, network file, probe; all else: keys
    Session, channel bulk ─▶ Bulk ─▶ core.bulk ─▶ PieceStore

The cores decide and wait for nothing; the services here and in `qnode.net` tell them what happens and do what they order, each event to its
end before the next. What becomes of a dial, and of a link, is told to the core once. `peers_view` and `peers_status` show it to operators.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import trio

from qnode.core.peers import Peers, step
from qnode.core.peers_events import (
    AddressesLearnt,
    Admit,
    AskDialBack,
    Dial,
    DialBackTold,
    DialFailed,
    Effect,
    Event,
    Expelled,
    HangUp,
    KeepAnchors,
    LinkAsked,
    LinkLost,
    LinkMade,
    Purpose,
    Refuse,
    Ticked,
    prefix_of_unknown,
)
from qnode.net.answers import PEER_TAGS, Desk, PeerAnswers
from qnode.net.dialer import Dialer, Reached
from qnode.net.hub import Hub
from qnode.net.session import NODE_CHANNELS, BulkTaker, ConsensusTaker, Session
from qnode.net.stepping import Stepping
from qnode.service.gossip import GossipService, Judge
from qnode.service.peers_known import KnownNodes
from qnode.service.peers_missed import Missed
from qnode.service.peers_records import RecordKeeper, Records
from qnode.service.peers_view import LinkView, Network
from qnode.service.steady import SteadyClock
from qnode.service.within import Within
from qustream.aio.connection import Connection
from qustream.aio.logs import logger
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.base import Signed
from qustream.model.ids import IdKind, to_text
from qustream.registry import Registry
from qustream.rules.peering import prefix
from qustream.transport.greeting import LocalHello, Peer
from qustream.transport.limits import UNKNOWN_PEER_CHANNELS, Channel
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import Topic
from qustream.wire.peers import DialBackAnswer, DialBackAsk, DialResult, HeightHeard, HeightTold, LinkAccepted, LinkOpen, LinkReason

__all__ = ["LinkView", "Network", "PeerKeeper", "PeerService"]

TICK_S = 1.0  # the core's second
MEASURE_S = 30.0  # how often it is asked how far peers are; proto/spec/gossip.md §4
DRAW_BITS = 64
# An acceptor decides at once; the rest is the way, a satellite's many times.
OPEN_MS = 5_000
# The peer tries each address for five seconds, all at once.
DIAL_BACK_MS = 20_000
TELL_MS = 10_000
# The largest answers: eight addresses of 256 characters of four bytes, and their codes.
ANSWER_MAX_BYTES = 16_384
# Where peers see us: a few are the same in different words, more are noise.
SEEN_MAX = 8
REASONS = {
    Purpose.ASSIGNED: LinkReason.ASSIGNED,
    Purpose.CHOSEN: LinkReason.CHOSEN,
    Purpose.MESHED: LinkReason.MESHED,
}


class PeerKeeper(RecordKeeper, Protocol):
    """What of peers is on the disk."""

    def anchors(self) -> tuple[bytes, ...]: ...
    def keep_anchors(self, anchors: Sequence[bytes]) -> None: ...


class PeerService:
    """One node's place among the others. `run` it before the listener hands it connections (`talk`)."""

    def __init__(
        self, key: SigningKey, registry: Registry, desk: Desk, keeper: PeerKeeper, *, hello: Callable[[], LocalHello],
        clock_ms: Callable[[], int], addresses: Sequence[str] = (), judges: Mapping[Topic, Judge] | None = None,
        vouched: Mapping[bytes, Collection[str]] | None = None,
    ) -> None:  # fmt: skip
        """`vouched`: as `Within`."""
        self.hub, self.network = Hub(), Network(self)
        self.known = KnownNodes(registry, key.id)
        self.within = Within(self.hub, self.known, addresses, vouched)
        self.steady_ms = SteadyClock(clock_ms)
        self.core = Peers(key.id, keeper.anchors())
        self.records = Records(
            key, self.known, keeper, addresses, chain=registry.chain, clock_ms=clock_ms, learnt=self._learnt
        )  # fmt: skip
        self.gossip = GossipService(
            say=self.hub.say, expel=self._expel, judges={Topic.ADDRESS: self.records.judge} | dict(judges or {}), clock_ms=self.steady_ms
        )  # fmt: skip
        self.missed = Missed(self.known, self.hub, self.records, self.gossip)
        self.take_bulk: BulkTaker | None = None
        self.height_heard: Callable[[Session, int], None] | None = None
        self.take_consensus: ConsensusTaker | None = None
        self._voters: frozenset[bytes] | None = frozenset()
        self.ended: Counter[str] = Counter()
        self.seen: dict[bytes, str] = {}
        self.dialled_back: tuple[DialResult, ...] = ()
        self.clock_ms = clock_ms
        self._registry, self._desk, self._keeper = registry, desk, keeper
        self._log = logger("peers")
        self._dialer = Dialer(key, hello)
        # With a dialer of its own: whoever asks to be dialled back at names that no resolver answers holds no lookup of ours.
        desk.route(PEER_TAGS, PeerAnswers(self, Dialer(key, hello)).answer)
        self._nursery: trio.Nursery | None = None
        self._step: Stepping[Event, Effect] = Stepping(lambda event: step(self.core, event, self.steady_ms()), self._perform)
        self._has_begun = False
        self._refused: dict[int, Refuse] = {}

    # -- for the listener -------------------------------------------------------------------------------------------------

    def permit(self, peer: Peer) -> Collection[Channel]:
        """What a proven peer may use."""
        if peer.id not in self.known:
            return UNKNOWN_PEER_CHANNELS
        return NODE_CHANNELS | {Channel.CONSENSUS} if self._voters is None or peer.id in self._voters else NODE_CHANNELS

    async def talk(self, connection: Connection) -> None:
        """Serve an entered connection that a known node opened, until it is over."""
        await self._serve(Session(self.hub.number(), connection, ours=False, prefix=_prefix(connection)))

    # -- for other services -----------------------------------------------------------------------------------------------

    async def call(self, peer: bytes, body: bytes, deadline_ms: int, *, max_answer_bytes: int = ANSWER_MAX_BYTES) -> bytes:
        """Ask a linked peer. Errors: `E-PEER-UNREACHABLE` if it is none, and as `Connection.call`."""
        link = self.hub.link_to(peer)
        if link is None:
            raise fault("E-PEER-UNREACHABLE", "no link to this node")
        return await link.call(body, deadline_ms, max_answer_bytes=max_answer_bytes)

    def mesh(self, nodes: frozenset[bytes], voters: frozenset[bytes] | None) -> None:
        """`nodes` are the validators: all linked to each other, if this node is one of them. `voters`: who may use the consensus channel
        here, those of a moment ago too; None if this node is no validator as far as it knows: what is said to it there is dropped."""
        self.known.meshed, self._voters = nodes, voters
        for session in self.hub:
            self._join_consensus(session)
        self.network_changed()

    def _join_consensus(self, session: Session) -> None:
        if self._voters is None:
            session.ignore_consensus()
            return
        take = self.take_consensus if session.peer in self._voters else None
        if take is not None or session.hears_consensus:
            session.join_consensus(take)

    def network_changed(self) -> None:
        """The registry is another; it would be noticed within a second without this."""
        if self._nursery is not None:
            self._look()

    # -- running ----------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links until cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                await self._nursery.start(self.gossip.run)
                self._look()
                self._nursery.start_soon(self.records.run, self.gossip, self.hub)
                self._nursery.start_soon(self._measure)
                task_status.started()
                while True:
                    await trio.sleep(TICK_S)
                    self._look()
                    if self._has_begun:
                        self._step(Ticked(secrets.randbits(DRAW_BITS)))
                    for link in list(self.hub.links):
                        if link.is_clogged:  # what becomes of a link that breaks becomes of it
                            link.connection.close_soon("E-PEER-LIMIT", "the peer does not take gossip")
            finally:  # at once: whoever else is ending may still tell us something, and nobody is there any more to do it
                self._nursery = None

    def _look(self) -> None:
        """See what the registry and the clock say. Whoever is not known any more is cut off; a new height is told to the links."""
        height = self.known.height
        changed = self.known.look(self.clock_ms())
        if changed is None:
            return
        is_first, self._has_begun = not self._has_begun, True
        self._step(changed)
        for session in self.hub:
            if session.peer not in self.known:
                self.hub.hang_up(session, "E-PEER-UNLICENSED", "the network does not list this node as active any more")
        if is_first:
            self.records.begin()
        if self._nursery is not None and self.known.height != height:
            self.missed.forget_others()
            self._nursery.start_soon(self.records.forget_others)
            for link in self.hub.links:
                self._nursery.start_soon(self._tell_height, link)

    async def _measure(self) -> None:
        while True:
            await trio.sleep(MEASURE_S)
            for link in list(self.hub.links):
                self._measure_one(link)

    def _measure_one(self, link: Session) -> None:
        round_trip_ms = link.connection.round_trip_ms()
        if round_trip_ms >= 0:
            self.gossip.measured(link.peer, round_trip_ms // 2)

    # -- the core ---------------------------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Dial():
                if self._nursery is not None:
                    self._nursery.start_soon(self._dial, effect)
            case Admit():
                self._admit(effect)
            case Refuse():
                self._refused[effect.link] = effect
            case HangUp():
                self._hang_up(effect)
            case KeepAnchors():
                if self._nursery is not None:
                    self._nursery.start_soon(self._keep_anchors, effect.anchors)
            case AskDialBack():
                if self._nursery is not None:
                    self._nursery.start_soon(self._ask_dial_back, effect.peer)

    def _admit(self, effect: Admit) -> None:
        session = self.hub.get(effect.link)
        if session is None:  # it ended while its acceptance was on its way
            self._step(LinkLost(effect.link, "E-PEER-CLOSED"))
            return
        self._log.debug("linked", peer=to_text(IdKind.NODE, session.peer), ours=effect.ours, address=session.address)
        self.hub.make_link(session, self.gossip.heard)
        self.gossip.opened(effect.peer, operator=effect.operator, ours=effect.ours, assigned=effect.assigned)
        self._measure_one(session)
        self._hear_height(session, session.height)
        session.release_early()
        if self._nursery is not None and self.missed.is_due(session.peer):
            self._nursery.start_soon(self.missed.ask, session.peer)

    def _hang_up(self, effect: HangUp) -> None:
        session = self.hub.get(effect.link)
        if session is None:
            return
        was_link = session.is_link
        self.hub.hang_up(session, effect.code)
        if was_link:
            self._unlinked(session.peer)

    def _unlinked(self, peer: bytes) -> None:
        self.gossip.closed(peer)
        self.missed.ended(peer)

    async def _keep_anchors(self, anchors: tuple[bytes, ...]) -> None:
        try:
            await trio.to_thread.run_sync(self._keeper.keep_anchors, anchors)
        except QuStreamError:
            return  # the store says so, as a condition; the anchors on the disk are those of before

    def _expel(self, peer: bytes, until_ms: int) -> None:
        self._step(Expelled(peer, until_ms))

    def _learnt(self, node: bytes, issued_ms: int, addresses: tuple[str, ...]) -> None:
        if self._has_begun:
            self._step(AddressesLearnt(node, issued_ms, addresses))

    # -- sessions ---------------------------------------------------------------------------------------------------------

    async def _serve(self, session: Session) -> None:
        self.hub.join(session)
        self._join_consensus(session)
        try:
            await session.run(self._desk.answer, self.take_bulk)
        finally:
            was_link = session.is_link
            if self.hub.leave(session):
                code = session.connection.end_code
                self.ended[code] += 1
                self._log.debug("connection ended", peer=to_text(IdKind.NODE, session.peer), link=was_link, code=code)
                if was_link:
                    self._unlinked(session.peer)
                    self._step(LinkLost(session.number, code or "E-PEER-CLOSED"))

    async def _dial(self, dial: Dial) -> None:
        """Exactly one of `LinkMade` and `DialFailed` comes of it."""
        try:
            reached = await self._dialer.reach(dial.peer, dial.addresses, local=self.within.local(dial.peer))
        except QuStreamError as error:
            self._step(DialFailed(dial.peer, dial.purpose, error.code))
            return
        async with reached.connection:
            if dial.purpose is Purpose.FEELER:
                self._step(LinkMade(self.hub.number(), dial.peer, dial.purpose, _prefix(reached.connection)))
            else:
                await self._open(reached, dial)

    async def _open(self, reached: Reached, dial: Dial) -> None:
        session = Session(self.hub.number(), reached.connection, ours=True, prefix=_prefix(reached.connection))
        session.address = reached.address
        session.await_acceptance()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, session)
            try:
                answer = await session.call(
                    encode(LinkOpen(REASONS[dial.purpose], max(0, self.known.epoch))), OPEN_MS, max_answer_bytes=ANSWER_MAX_BYTES
                )  # fmt: skip
                accepted = decode(answer, LinkAccepted, max_bytes=ANSWER_MAX_BYTES)
            except QuStreamError as error:
                self.hub.hang_up(session)
                self._step(DialFailed(dial.peer, dial.purpose, error.code, error.retry_after_ms or 0))
            else:
                self._see(session.peer, accepted.seen)
                self._step(LinkMade(session.number, dial.peer, dial.purpose, session.prefix))

    # -- what linked nodes ask and tell each other --------------------------------------------------------------------------

    def link_asked(self, session: Session, ask: LinkOpen) -> None:
        """As `Host.link_asked`."""
        if session.ours:
            raise fault("E-FRAME-ORDER", "who connects asks for the link")
        if session.is_link:
            return
        if not self._has_begun:
            raise fault("E-PEER-LIMIT", "this node does not know the network yet", retry_after_ms=OPEN_MS)
        self._step(LinkAsked(session.number, session.peer, ask.reason, session.prefix))
        refused = self._refused.pop(session.number, None)
        if refused is not None:
            raise fault(refused.code, "", retry_after_ms=refused.retry_after_ms or None)
        if not session.is_link:
            raise fault("E-PEER-LIMIT", "others were first")

    async def records_after(self, node: bytes, within_s: int) -> Sequence[Signed]:
        """As `Host.records_after`."""
        return await self.records.after(node, within_s)

    def addresses_of(self, node: bytes) -> Sequence[str]:
        """As `Host.addresses_of`."""
        return self.records.addresses(node)

    def height_told(self, session: Session, height: int) -> int:
        """As `Host.height_told`."""
        self._hear_height(session, height)
        return self._registry.height

    def _hear_height(self, session: Session, height: int) -> None:
        session.height = height
        if self.height_heard is not None and session.is_link:
            self.height_heard(session, height)

    async def _tell_height(self, link: Session) -> None:
        try:
            answer = await link.call(encode(HeightTold(self._registry.height)), TELL_MS, max_answer_bytes=ANSWER_MAX_BYTES)
            self._hear_height(link, decode(answer, HeightHeard, max_bytes=ANSWER_MAX_BYTES).height)
        except QuStreamError:
            return  # it will hear of it from others, or in a Hello

    async def _ask_dial_back(self, peer: bytes) -> None:
        reached = None
        try:
            answer = decode(await self.call(peer, encode(DialBackAsk()), DIAL_BACK_MS), DialBackAnswer, max_bytes=ANSWER_MAX_BYTES)
            self.dialled_back = answer.results
            reached = any(not result.code for result in answer.results)
        except QuStreamError:
            pass  # it did not answer
        self._step(DialBackTold(peer, reached))

    def _see(self, peer: bytes, address: str) -> None:
        """Where a peer says that it sees us."""
        self.seen[peer] = address
        if len(self.seen) > SEEN_MAX:
            del self.seen[next(iter(self.seen))]


def _prefix(connection: Connection) -> str:
    return prefix(connection.remote) or prefix_of_unknown(connection.peer.id)
