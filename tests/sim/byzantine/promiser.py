"""Announces messages that are not there, and answers no pull."""

from __future__ import annotations

import random

from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, Topic

__all__ = ["Promiser"]


class Promiser:
    def __init__(self, chance: random.Random, _number: int) -> None:
        self._chance = chance
        self._peers: list[int] = []
        self._told: set[bytes] = set()

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return [(peer, GossipGraft())]

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        """What is announced to it, it announces as its own, to win the pulls of others."""
        if isinstance(message, GossipAnnounce):
            entries = tuple(Announced(each.id, each.topic, each.size, True) for each in message.entries if each.id not in self._told)
            if not entries:
                return []
            self._told.update(each.id for each in entries)
            return [(other, GossipAnnounce(entries)) for other in self._peers if other != peer]
        return []

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        news = Announced(self._chance.randbytes(32), Topic.BLOCK, 100_000, self._chance.random() < 0.5)
        return [(peer, GossipAnnounce((news,))) for peer in self._peers]
