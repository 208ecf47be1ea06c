"""Has always news, and keeps its word: what it brings is of no use to anybody."""

from __future__ import annotations

import random

from qustream.rules.peering import message_id
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, GossipPull, GossipPush, Topic

__all__ = ["Inventor"]

NEWS_A_BEAT = 20


class Inventor:
    def __init__(self, chance: random.Random, _number: int) -> None:
        self._chance = chance
        self._peers: list[int] = []
        self._made: dict[bytes, GossipPush] = {}

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return [(peer, GossipGraft())]

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        if not isinstance(message, GossipPull):
            return []
        return [(peer, self._made[name]) for name in message.ids if name in self._made]

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        news = []
        for _ in range(NEWS_A_BEAT):
            message = GossipPush(Topic.TRANSACTION, b"old" + self._chance.randbytes(3_000))
            name = message_id(message.topic, message.body)
            self._made[name] = message
            news.append(Announced(name, message.topic, len(message.body), True))
        return [(peer, GossipAnnounce(tuple(news))) for peer in self._peers]
