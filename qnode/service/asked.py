"""Whom this node can ask about the chain: those it is linked to; and as long as it is no link of anybody, nodes that it asks as a stranger
(`proto/spec/sync.md`, §8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Self

import trio

from qnode.net.dialer import Dialer
from qnode.service.outside import Outside, Vouched
from qnode.service.peers import PeerService
from qustream.identity.signing import SigningKey
from qustream.model.genesis import Genesis
from qustream.registry import Registry
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import UNKNOWN_PEER_CHANNELS

__all__ = ["LINK", "SOURCES", "STRANGER", "Asked", "addresses_of", "vouched"]

# How a node is asked; labels of metrics.
LINK, STRANGER = "link", "stranger"
SOURCES = (LINK, STRANGER)
# A licensed node has its first links within seconds of its start, and new ones as fast when all are gone.
LONELY_S = 15.0


def addresses_of(genesis: Genesis) -> dict[bytes, tuple[str, ...]]:
    """Where the nodes are that the chain began with."""
    return {each.node.key.id: each.node.addresses for each in genesis.licences if each.node is not None}


def vouched(named: Vouched, genesis: Genesis) -> Vouched:
    """Addresses of nodes that are nobody's own word: the configuration's, and genesis'."""
    begun = addresses_of(genesis)
    return {node: (*named.get(node, ()), *begun.get(node, ())) for node in {**begun, **named}}


class Asked:
    """Links alone, until there is an `outside`."""

    def __init__(self, peers: PeerService) -> None:
        self.outside: Outside | None = None
        self._peers = peers
        self._linked_s: float | None = None  # when there was a link last, or it was looked first
        self._is_lonely = False

    def with_outside(
        self, key: SigningKey, hello: Callable[[], LocalHello], named: Vouched, genesis: Genesis, registry: Registry
    ) -> Self:  # fmt: skip
        """Let others be asked, too, by this node as one that nobody knows."""
        self.outside = Outside(
            Dialer(key, hello, UNKNOWN_PEER_CHANNELS), own=key.id, named=named, genesis=addresses_of(genesis), registry=registry,
            is_wanted=self.is_outside_wanted, is_within=lambda: self._peers.within.is_sure,
        )  # fmt: skip
        return self

    @property
    def steady_ms(self) -> int:
        """A clock that never goes back."""
        return self._peers.steady_ms()

    @property
    def is_licensed(self) -> bool:
        """Whether the network, as it is known here, lists this node as an active one."""
        return self._peers.known.own is not None

    def sources(self) -> Mapping[bytes, str]:
        """Who can be asked, and how."""
        strangers = dict.fromkeys(self.outside.nodes, STRANGER) if self.outside is not None else {}
        return strangers | {link.peer: LINK for link in self._peers.hub.links}

    def counts(self) -> dict[str, int]:
        """How many can be asked in each way."""
        ways = Counter(self.sources().values())
        return {source: ways[source] for source in SOURCES}

    async def call(self, node: bytes, body: bytes, deadline_ms: int, *, max_answer_bytes: int) -> bytes:
        """Ask one of them. Errors: `E-PEER-UNREACHABLE` if it is none, and as `Connection.call`."""
        if self.outside is not None and self._peers.hub.link_to(node) is None:
            return await self.outside.call(node, body, deadline_ms, max_answer_bytes=max_answer_bytes)
        return await self._peers.call(node, body, deadline_ms, max_answer_bytes=max_answer_bytes)

    def charge(self, node: bytes, what: str) -> None:
        """It has told what nobody tells who obeys the rules: all connections with it go. Not its link alone, in whose place another one may
        be just about to come, when both have dialled."""
        if self.outside is not None:
            self.outside.drop(node)
        if self._peers.hub.link_to(node) is not None:
            self._peers.gossip.misled(node)
        for session in self._peers.hub.sessions_with(node):
            session.connection.close_soon("E-ANSWER-INVALID", what)

    # -- when strangers' ways are taken -------------------------------------------------------------------------------------------

    def is_outside_wanted(self) -> bool:
        """Whether it is no link of anybody: its licence is not active, or nobody has been linked to it for a while (it may have been struck
        off in a block that it has not heard of). To be asked again and again."""
        now_s = trio.current_time()
        if self._peers.hub.links:
            self._linked_s, self._is_lonely = now_s, False
            return not self.is_licensed
        self._linked_s = now_s if self._linked_s is None else self._linked_s
        self._is_lonely = self._is_lonely or now_s - self._linked_s >= LONELY_S
        # One that has just become active goes on as it was, until the first link stands.
        return self._is_lonely or not self.is_licensed or (self.outside is not None and self.outside.is_open)
