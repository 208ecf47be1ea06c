"""Looks near and tells everybody at once of whatever it hears, so as to be asked second; gives false sizes; answers some pulls with what
was not asked for."""

from __future__ import annotations

import random

from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, GossipPull, GossipPush, Topic

__all__ = ["Liar"]


class Liar:
    claims_ms = 0  # nobody can: but then it is asked by everybody who has asked another

    def __init__(self, chance: random.Random, _number: int) -> None:
        self._chance = chance
        self._peers: list[int] = []
        self._told: set[bytes] = set()

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return [(peer, GossipGraft())]

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        if isinstance(message, GossipPull):
            return [(peer, GossipPush(Topic.TRANSACTION, b"old" + self._chance.randbytes(3_000)))] if self._chance.random() < 0.2 else []
        if not isinstance(message, GossipAnnounce):
            return []
        fresh = [each for each in message.entries if each.id not in self._told]
        self._told.update(each.id for each in fresh)
        lies = tuple(Announced(each.id, each.topic, self._chance.choice((1, each.size, 1024)), False) for each in fresh)
        return [(other, GossipAnnounce(lies)) for other in self._peers if lies]

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        return []
