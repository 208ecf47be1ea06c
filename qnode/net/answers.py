"""Who answers a request: decided by the tag of its message, in one place; and the answers that nodes give each other as peers
(`proto/spec/peers.md`, §6).

What only known nodes may ask is refused to everybody else before it is decoded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

import trio

from qnode.core.peers_events import prefix_of_unknown
from qnode.net.dialer import Dialer, is_local
from qnode.net.session import Answer, Session
from qnode.net.strangers import Stranger
from qnode.net.tags import tag_of
from qustream.errors import OperatorFault, QuStreamError, fault
from qustream.model.base import Signed
from qustream.rules.peering import prefix
from qustream.transport.greeting import Peer
from qustream.wire.codec import decode, encode
from qustream.wire.peers import (
    PEER_ASK_MAX_BYTES,
    AddressAnswer,
    AddressAsk,
    DialBackAnswer,
    DialBackAsk,
    DialResult,
    HeightHeard,
    HeightTold,
    LinkAccepted,
    LinkOpen,
    PeerAsk,
)

__all__ = ["PEER_TAGS", "Desk", "Host", "PeerAnswers", "Quota"]

PEER_TAGS = range(70, 80)
# What nodes alone may ask of each other, whether this version of a node answers it or not.
NODE_TAGS = frozenset((*range(70, 90), *range(101, 109), *range(123, 127)))
# All records of the largest network are 74 pages; whoever asks twice an hour and is cut off in between still gets them.
PAGES_MAX, PAGES_MS = 128, 3_600_000
# Dialling back costs a handshake for each of eight addresses.
DIAL_BACKS_MAX, DIAL_BACKS_MS = 1, 60_000
# Whoever leads us to somebody else's door: or one node could send all others to knock at a victim's, eight times a minute each.
ASTRAY_MAX, ASTRAY_MS = 1, 3_600_000
# Of all peers together: at most sixteen handshakes that others have asked for.
DIAL_BACKS_AT_ONCE_MAX = 2
# Peers whose quotas are remembered: more than the network has nodes (`proto/spec/peers.md`, §10).
QUOTAS_MAX = 8192

# Answers a request of somebody who need not be a node.
AnyoneAnswer: TypeAlias = Callable[[Peer, bytes, int], Awaitable[bytes]]
OpenAnswer: TypeAlias = Callable[[bytes], Awaitable[bytes]]
# Answers what nodes ask, to somebody who is none: within what strangers may have (`qnode.net.strangers`).
StrangerAnswer: TypeAlias = Callable[[Stranger, bytes, int], Awaitable[bytes]]


class Desk:
    """Every request of every connection comes here. `anyone`: answers what no route is for."""

    def __init__(self, anyone: AnyoneAnswer) -> None:
        self.is_closed = False  # the node is stopping: nothing new is begun
        self._anyone = anyone
        self._routes: list[tuple[range, Answer]] = []
        self._open: list[tuple[range, OpenAnswer]] = []
        self._strangers: list[tuple[range, StrangerAnswer]] = []

    def route_open(self, tags: range, answer: OpenAnswer) -> None:
        """Requests with these tags are answered to anybody, who stays unknown."""
        self._open.append((tags, answer))

    def route_strangers(self, tags: range, answer: StrangerAnswer) -> None:
        """Requests with these tags are for known nodes, and have an answer for others, too, who get little of it."""
        self._strangers.append((tags, answer))

    def route(self, tags: range, answer: Answer) -> None:
        """Requests with these tags are for known nodes, and answered by `answer`."""
        self._routes.append((tags, answer))

    async def answer(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        """Answer a known node. Errors: the refusal."""
        self._check_open()
        tag = tag_of(body)
        for tags, answer in self._routes:
            if tag in tags:
                try:
                    return await answer(session, body, deadline_ms)
                except OperatorFault as error:  # which names files, and is nobody else's business
                    raise fault(error.code) from None
        return await self._answer_anybody(session.connection.peer, body, deadline_ms)

    async def answer_stranger(self, peer: Peer, body: bytes, deadline_ms: int, *, remote: str = "") -> bytes:
        """Answer anybody else, who comes from `remote`. Errors: the refusal."""
        self._check_open()
        tag = tag_of(body)
        for tags, answer in self._strangers:
            if tag in tags:
                try:
                    return await answer(Stranger(peer.id, prefix(remote) or prefix_of_unknown(peer.id)), body, deadline_ms)
                except OperatorFault as error:  # as above
                    raise fault(error.code) from None
        if tag in NODE_TAGS:
            raise fault("E-PEER-UNLICENSED", "this is answered to active nodes of the network alone")
        return await self._answer_anybody(peer, body, deadline_ms)

    async def _answer_anybody(self, peer: Peer, body: bytes, deadline_ms: int) -> bytes:
        tag = tag_of(body)
        for tags, answer in self._open:
            if tag in tags:
                try:
                    return await answer(body)
                except OperatorFault as error:  # as above
                    raise fault(error.code) from None
        return await self._anyone(peer, body, deadline_ms)

    def _check_open(self) -> None:
        if self.is_closed:
            raise fault("E-PEER-CLOSED", "this node is stopping")


class Quota:
    """So many within so long, for each peer. The peer longest not seen is forgotten first."""

    def __init__(self, most: int, span_ms: int) -> None:
        self._most, self._span_s = most, span_ms / 1000
        self._since: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def check(self, peer: bytes) -> tuple[float, int]:
        """Since when, and how many it has had. Errors: `E-PEER-LIMIT`, with the time until there is one again."""
        now_s = trio.current_time()
        since_s, count = self._since.get(peer, (now_s, 0))
        if now_s - since_s >= self._span_s:
            return now_s, 0
        if count >= self._most:
            left_ms = int((since_s + self._span_s - now_s) * 1000) + 1
            raise fault("E-PEER-LIMIT", "asked too often", retry_after_ms=left_ms)
        return since_s, count

    def spend(self, peer: bytes) -> None:
        """One more. Errors: as `check`."""
        since_s, count = self.check(peer)
        self._since[peer] = (since_s, count + 1)
        self._since.move_to_end(peer)
        if len(self._since) > QUOTAS_MAX:
            self._since.popitem(last=False)


class Host(Protocol):
    """What the answers are about: this node, as its peers may know it."""

    def link_asked(self, session: Session, ask: LinkOpen) -> None:
        """Let the connection be a link. Errors: the refusal."""
        ...

    async def records_after(self, node: bytes, within_s: int) -> Sequence[Signed]:
        """The newest address records of the next nodes in order of id; of those alone that were taken in the last so many seconds, if that
        is not 0."""
        ...

    def addresses_of(self, node: bytes) -> Sequence[str]:
        """Where the network says that this node is: its record's, else the registry's."""
        ...

    def height_told(self, session: Session, height: int) -> int:
        """A peer's view has this height; ours."""
        ...


class PeerAnswers:
    """Answers `PEER_TAGS`."""

    def __init__(self, host: Host, dialer: Dialer) -> None:
        self._host, self._dialer = host, dialer
        self._pages = Quota(PAGES_MAX, PAGES_MS)
        self._dial_backs = Quota(DIAL_BACKS_MAX, DIAL_BACKS_MS)
        self._astray = Quota(ASTRAY_MAX, ASTRAY_MS)
        self._dialling_back = 0

    async def answer(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        """Errors: the refusal."""
        ask = decode(body, PeerAsk, max_bytes=PEER_ASK_MAX_BYTES)
        match ask:
            case LinkOpen():
                self._host.link_asked(session, ask)
                return encode(LinkAccepted(session.connection.remote))
            case AddressAsk():
                self._pages.spend(session.peer)
                return encode(AddressAnswer(tuple(await self._host.records_after(ask.after, ask.within_s))))
            case DialBackAsk():
                return encode(DialBackAnswer(await self._dial_back(session)))
            case HeightTold():
                return encode(HeightHeard(self._host.height_told(session, ask.height)))
        raise AssertionError("every ask has its case")

    async def _dial_back(self, session: Session) -> tuple[DialResult, ...]:
        if self._dialling_back >= DIAL_BACKS_AT_ONCE_MAX:
            raise fault("E-PEER-LIMIT", "others are being dialled back", retry_after_ms=DIAL_BACKS_MS)
        peer = session.peer
        self._astray.check(peer)
        self._dial_backs.spend(peer)
        addresses = tuple(dict.fromkeys(self._host.addresses_of(peer)))
        # Or who asks from outside would learn what listens where only we can reach it.
        local = None if _is_from_local(session.connection.remote) else ()
        codes = ["E-DEADLINE"] * len(addresses)

        async def knock(place: int) -> None:
            try:
                reached = await self._dialer.reach(peer, addresses[place : place + 1], local=local)
                async with reached.connection:
                    codes[place] = ""
            except QuStreamError as error:
                codes[place] = error.code

        self._dialling_back += 1
        try:
            async with trio.open_nursery() as nursery:
                for place in range(len(addresses)):
                    nursery.start_soon(knock, place)
        finally:
            self._dialling_back -= 1
        if any(_is_somebody_else(code) for code in codes):
            self._astray.spend(peer)
        return tuple(DialResult(address, code) for address, code in zip(addresses, codes, strict=True))


def _is_somebody_else(code: str) -> bool:
    """Whether a dial that ended so has found somebody, and not who was looked for."""
    return code.startswith("E-TLS-") or code in ("E-PEER-IDENTITY", "E-PEER-CHAIN", "E-PEER-VERSION")


def _is_from_local(remote: str) -> bool:
    """Whether a connection comes out of a local network; one whose other end is not known does not."""
    return bool(remote) and is_local(remote)
