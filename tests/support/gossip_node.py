"""A gossip core driven by hand: who says what to it, and what it does."""

from __future__ import annotations

from typing import TypeVar

from qnode.core import gossip_limits as limits
from qnode.core.gossip import Gossip, step
from qnode.core.gossip_events import DelayMeasured, Effect, Event, Heard, Judged, LinkOpened, Send, Ticked, Verdict
from qustream.rules.peering import message_id
from qustream.wire.gossip import Announced, GossipAnnounce, GossipGraft, GossipMessage, GossipPush, Topic

__all__ = [
    "ALICE", "BOB", "CAROL", "DAVE", "LARGE", "LARGEST", "LARGE_ID", "MIDDLE", "SMALL", "SMALL_ID", "Node", "far", "good", "news", "of",
    "sent",
]  # fmt: skip

ALICE, BOB, CAROL, DAVE = (bytes([letter]) * 32 for letter in b"abcd")
SMALL = GossipPush(Topic.TRANSACTION, b"a small one")
SMALL_ID = message_id(SMALL.topic, SMALL.body)
LARGE = GossipPush(Topic.BLOCK, b"x" * 50_000)
MIDDLE = GossipPush(Topic.TRANSACTION, b"y" * 3_600)
LARGEST = GossipPush(Topic.BLOCK, b"z" * (limits.LARGE_MIN_BYTES + 1))
PEERS = {"alice": ALICE, "bob": BOB, "carol": CAROL, "dave": DAVE}
LARGE_ID = message_id(LARGE.topic, LARGE.body)
_E = TypeVar("_E", bound=Effect)


class Node:
    """A core, driven by hand. Everybody linked is in the mesh at once."""

    def __init__(self, *peers: bytes, ours: bool = True) -> None:
        self.core = Gossip()
        self.now_ms = 1_000
        for peer in peers:
            self.does(LinkOpened(peer, peer.hex()[:4], ours=ours))
            if not ours:
                self.hears(peer, GossipGraft())

    def does(self, event: Event) -> list[Effect]:
        return step(self.core, event, self.now_ms)

    def hears(self, peer: bytes, message: GossipMessage) -> list[Effect]:
        return self.does(Heard(peer, message))

    def beats(self, later_ms: int = 1000) -> list[Effect]:
        self.now_ms += later_ms
        return self.does(Ticked(7))

    def wakes(self, later_ms: int) -> list[Effect]:
        self.now_ms += later_ms
        return self.does(Ticked(0, is_heartbeat=False))

    def score(self, peer: bytes) -> int:
        return self.core.links[peer].score


def sent(effects: list[Effect]) -> list[tuple[bytes, GossipMessage]]:
    return [(effect.peer, effect.message) for effect in effects if isinstance(effect, Send)]


def of(kind: type[_E], effects: list[Effect]) -> list[_E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def news(message: GossipPush, *, held: bool = True) -> GossipAnnounce:
    return GossipAnnounce((Announced(message_id(message.topic, message.body), message.topic, len(message.body), held),))


def good(node: Node, sender: bytes, message: GossipPush) -> list[tuple[bytes, GossipMessage]]:
    """What is sent when `message`, pulled from `sender`, is found good."""
    node.hears(sender, news(message))
    node.hears(sender, message)
    return sent(node.does(Judged(message_id(message.topic, message.body), Verdict.GOOD)))


def far(node: Node, **delays_ms: int) -> None:
    for peer, delay_ms in delays_ms.items():
        node.does(DelayMeasured(PEERS[peer], delay_ms))
