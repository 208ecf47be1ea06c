"""Wants to be in every mesh, takes everything, and passes nothing on."""

from __future__ import annotations

import random

from qustream.wire.gossip import GossipAnnounce, GossipGraft, GossipMessage, GossipPull

__all__ = ["Silent"]


class Silent:
    def __init__(self, _chance: random.Random, _number: int) -> None:
        self._peers: list[int] = []

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return [(peer, GossipGraft())]

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        if isinstance(message, GossipAnnounce):
            return [(peer, GossipPull(tuple(each.id for each in message.entries)))]
        return []

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        return [(peer, GossipGraft()) for peer in self._peers]
