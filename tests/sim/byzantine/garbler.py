"""Pushes rubbish, and bad messages, to everybody."""

from __future__ import annotations

import random

from qustream.wire.gossip import GossipGraft, GossipMessage, GossipPush, Topic

__all__ = ["Garbler"]


class Garbler:
    def __init__(self, chance: random.Random, _number: int) -> None:
        self._chance = chance
        self._peers: list[int] = []

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return [(peer, GossipGraft())]

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        return []

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        body = b"bad" + self._chance.randbytes(40)
        return [(peer, GossipPush(Topic.TRANSACTION, body)) for peer in self._peers]
