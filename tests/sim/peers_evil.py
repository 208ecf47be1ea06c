"""A node of a simulated network of peers that does what it likes; `byzantine` has them by what they do."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from qustream.wire.gossip import GossipMessage, GossipPush, Topic
from sim.peers_lines import Conn

if TYPE_CHECKING:
    from sim.peers_world import PeersWorld

__all__ = ["Evil"]


class Evil:
    """A node that does what it likes: a subclass decides. `links`: connections that somebody admitted."""

    def __init__(self, world: PeersWorld, number: int) -> None:
        self.world, self.number = world, number
        self.chance = random.Random(world.seed * 1000 + number)
        self.links: dict[int, Conn] = {}

    def asked(self, peer: int) -> str | None:
        """Its answer to who wants a link: '' is yes, a code is no, None is silence."""
        return ""

    def beat(self) -> None:
        """A second has passed."""

    def heard(self, peer: int, message: GossipMessage) -> None:
        """Something came over a link."""

    def records(self) -> list[bytes]:
        """What it gives to who asks for all records."""
        return []

    def dial(self, peer: int) -> None:
        addresses = (self.world.address[peer],)
        self.world.lines.dial(self.number, self.world.ids[peer], addresses, lambda conn: self.linked(peer, conn), lambda *_: None)

    def linked(self, peer: int, conn: Conn) -> None:
        self.links[peer] = conn
        conn.admitted.add(self.number)

    def leave(self, peer: int) -> None:
        if (conn := self.links.pop(peer, None)) is not None:
            self.world.lines.close(conn, self.number)

    def push(self, peer: int, body: bytes) -> None:
        if (conn := self.links.get(peer)) is not None:
            self.world.send(conn, self.number, GossipPush(Topic.ADDRESS, body))
