"""Answers late, to look far, and pushes large bodies unasked all the time: rubbish of its own, and what it has heard, again and again."""

from __future__ import annotations

import random

from qustream.wire.gossip import GossipAnnounce, GossipGraft, GossipMessage, GossipPull, GossipPush, Topic

__all__ = ["Pusher"]

KEPT = 8


class Pusher:
    claims_ms = 300

    def __init__(self, chance: random.Random, _number: int) -> None:
        self._chance = chance
        self._peers: list[int] = []
        self._bodies: list[GossipPush] = []

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return [(peer, GossipGraft())]

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        if isinstance(message, GossipAnnounce):
            return [(peer, GossipPull(tuple(each.id for each in message.entries)))]
        if isinstance(message, GossipPush) and len(message.body) > 1024 and len(self._bodies) < KEPT:
            self._bodies.append(message)
            return [(other, message) for other in self._peers]
        return []

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        """What is of no use is not charged by itself, and what is known is not checked again: only the bytes count."""
        out: list[tuple[int, GossipMessage]] = []
        for peer in self._peers:
            out += [(peer, GossipPush(Topic.TRANSACTION, b"old" + self._chance.randbytes(15_000))) for _ in range(10)]
            out += [(peer, message) for message in self._bodies]
        return out
