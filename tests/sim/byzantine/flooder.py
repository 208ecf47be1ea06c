"""Sends far more than it may: small messages of no use, pulls of what is not there, everything it ever heard."""

from __future__ import annotations

import random

from qustream.wire.gossip import GossipMessage, GossipPull, GossipPush, Topic

__all__ = ["Flooder"]

AT_ONCE = 200


class Flooder:
    def __init__(self, chance: random.Random, _number: int) -> None:
        self._chance = chance
        self._peers: list[int] = []
        self._heard: list[GossipMessage] = []

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]:
        self._peers.append(peer)
        return []

    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]:
        if isinstance(message, GossipPush) and len(self._heard) < AT_ONCE:
            self._heard.append(message)
        return []

    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]:
        out: list[tuple[int, GossipMessage]] = []
        for peer in self._peers:
            out += [(peer, GossipPush(Topic.EVIDENCE, b"old" + self._chance.randbytes(20))) for _ in range(AT_ONCE)]
            out += [(peer, GossipPull((self._chance.randbytes(32),))) for _ in range(10)]
            out += [(peer, message) for message in self._heard[:20]]
        return out
