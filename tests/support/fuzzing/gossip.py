"""The core of gossip under histories of hostile peers: messages of every form, links that come and go, verdicts, time. Its bounds hold, it
never speaks to who is gone, and passes nothing on that was not found good.

    input: events, each one byte of kind ‖ what the kind takes
"""

from __future__ import annotations

from collections.abc import Callable

from support.fuzzing.choices import Choices
from support.fuzzing.vectors import vectors

from qnode.core import gossip_limits as limits
from qnode.core.gossip import Gossip, step
from qnode.core.gossip_events import (
    Check,
    DelayMeasured,
    Effect,
    Event,
    Expel,
    Heard,
    Judged,
    LinkClosed,
    LinkOpened,
    Misled,
    Published,
    Send,
    Ticked,
    Verdict,
    Wake,
)
from qustream.errors import QuStreamError
from qustream.rules.peering import message_id
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import (
    GOSSIP_MAX_BYTES,
    Announced,
    GossipAnnounce,
    GossipGraft,
    GossipMessage,
    GossipPrune,
    GossipPull,
    GossipPush,
    Topic,
)

__all__ = ["run", "seeds"]

PEERS = [bytes([number]) * 32 for number in range(6)]
TOPICS = list(Topic)
# Of bodies: the edges of what is small and of what each topic takes.
SIZES = (1, 40, 1024, 1025, 5 * 1024, 5 * 1024 + 1, 16 * 1024 + 1, 32 * 1024, 128 * 1024)
BACK_MS = (0, 1, 250, 1000, 2000, 10_000, 130_000, 700_000)
EVENTS_MAX = 400  # a history of some minutes


class _History:
    """A core, and what has to be true of it."""

    def __init__(self) -> None:
        self.core, self.now_ms = Gossip(), 1_000
        self.linked: set[bytes] = set()
        self.expelled: set[bytes] = set()
        self.checking: dict[bytes, Check] = {}
        self.good: set[bytes] = set()
        self.bodies: list[tuple[Topic, bytes]] = [(Topic.BLOCK, b"seen"), (Topic.TRANSACTION, bytes(2000))]

    def does(self, event: Event) -> None:
        for effect in step(self.core, event, self.now_ms):
            self._performed(effect)
        sizes = self.core.sizes
        assert sizes["links"] == len(self.linked) <= limits.LINKS_MAX
        assert sizes["mesh"] <= limits.LINKS_MAX
        assert sizes["checks"] == len(self.checking) <= limits.CHECKS_MAX
        assert sizes["pulls"] <= limits.PULLS_MAX
        assert sizes["kept_bytes"] <= limits.KEEP_BYTES
        assert sizes["seen"] <= limits.SEEN_MAX
        assert all(0 <= link.pulls <= limits.PULLS_PEER_MAX for link in self.core.links.values())
        assert all(link.score >= limits.SCORE_GREY for link in self.core.links.values())

    def _performed(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            assert effect.peer in self.linked
            assert decode(encode(effect.message), type(effect.message), max_bytes=GOSSIP_MAX_BYTES) == effect.message
            if isinstance(effect.message, GossipPush):
                assert message_id(effect.message.topic, effect.message.body) in self.good
            if isinstance(effect.message, GossipAnnounce):
                assert all(entry.id in self.good for entry in effect.message.entries if entry.held)
        elif isinstance(effect, Check):
            assert effect.id == message_id(effect.topic, effect.body)
            assert effect.id not in self.checking
            assert len(effect.body) <= limits.TOPIC_LIMITS[effect.topic].body_max_bytes
            self.checking[effect.id] = effect
        elif isinstance(effect, Expel):
            assert effect.until_ms >= self.now_ms
            self.linked.discard(effect.peer)
        else:
            assert isinstance(effect, Wake)

    # -- events

    def opened(self, choices: Choices) -> None:
        peer, how = choices.one_of(PEERS), choices.number(1)
        if peer not in self.linked:
            self.linked.add(peer)
            self.does(LinkOpened(peer, f"operator {how % 3}", bool(how & 4), bool(how & 8)))

    def closed(self, choices: Choices) -> None:
        peer = choices.one_of(PEERS)
        self.linked.discard(peer)
        self.does(LinkClosed(peer))

    def raw(self, choices: Choices) -> None:
        """Bytes of the gossip channel, as the shell decodes them."""
        peer, data = choices.one_of(PEERS), choices.bytes(choices.number(1))
        try:
            message: GossipMessage = decode(data, GossipMessage, max_bytes=GOSSIP_MAX_BYTES)
        except QuStreamError:
            return
        self.does(Heard(peer, message))

    def _body(self, choices: Choices) -> tuple[Topic, bytes]:
        """One that was said before, or a new one."""
        if choices.number(1) % 2:
            return choices.one_of(self.bodies)
        topic, size = choices.one_of(TOPICS), choices.one_of(SIZES)
        body = (choices.bytes(2) + bytes(size))[:size]
        self.bodies = [*self.bodies[-30:], (topic, body)]
        return topic, body

    def pushed(self, choices: Choices) -> None:
        peer = choices.one_of(PEERS)
        self.does(Heard(peer, GossipPush(*self._body(choices))))

    def announced(self, choices: Choices) -> None:
        """News: true, of a size that is none, or of nothing."""
        peer, entries = choices.one_of(PEERS), []
        for _ in range(1 + choices.below(8)):
            topic, body = self._body(choices)
            how = choices.number(1)
            name = message_id(topic, body) if how & 1 else choices.bytes(2).ljust(32, b"n")
            entries.append(Announced(name, topic, len(body) if how & 2 else choices.number(4), bool(how & 4)))
        self.does(Heard(peer, GossipAnnounce(tuple(entries))))

    def pulled(self, choices: Choices) -> None:
        peer = choices.one_of(PEERS)
        names = tuple(message_id(*self._body(choices)) for _ in range(1 + choices.below(8)))
        self.does(Heard(peer, GossipPull(names)))

    def meshed(self, choices: Choices) -> None:
        peer, how = choices.one_of(PEERS), choices.number(1)
        self.does(Heard(peer, GossipGraft() if how & 1 else GossipPrune(how * 14)))

    def judged(self, choices: Choices) -> None:
        """What is asked, or something that is not."""
        verdict = choices.one_of(list(Verdict))
        name = choices.one_of([*self.checking, b"z" * 32])
        if self.checking.pop(name, None) is not None and verdict is Verdict.GOOD:
            self.good.add(name)
        self.does(Judged(name, verdict))

    def published(self, choices: Choices) -> None:
        topic, body = self._body(choices)
        name = message_id(topic, body)
        if len(body) <= limits.TOPIC_LIMITS[topic].body_max_bytes and name not in self.checking:
            self.good.add(name)
            self.does(Published(topic, body))

    def told(self, choices: Choices) -> None:
        peer, delay = choices.one_of(PEERS), choices.number(2)
        self.does(DelayMeasured(peer, delay) if delay & 1 else Misled(peer))

    def ticked(self, choices: Choices) -> None:
        self.now_ms += choices.one_of(BACK_MS)
        self.does(Ticked(choices.number(2), is_heartbeat=bool(choices.number(1) % 4)))

    def flooded(self, choices: Choices) -> None:
        """The same kind of thing, very often."""
        peer, topic, count = choices.one_of(PEERS), choices.one_of(TOPICS), 1 + choices.below(256)
        for number in range(count):
            self.does(Heard(peer, GossipPush(topic, b"flood" + choices.bytes(1) + bytes([number]))))


KINDS: list[Callable[[_History, Choices], None]] = [
    _History.opened, _History.closed, _History.raw, _History.pushed, _History.announced, _History.pulled, _History.meshed,
    _History.judged, _History.published, _History.told, _History.ticked, _History.flooded,
]  # fmt: skip


def run(data: bytes) -> None:
    choices, history = Choices(data), _History()
    for peer in PEERS[:3]:
        history.linked.add(peer)
        history.does(LinkOpened(peer, "operator 9", ours=True))
    for _ in range(EVENTS_MAX):
        if not choices:
            return
        choices.one_of(KINDS)(history, choices)


def _event(kind: Callable[[_History, Choices], None], *rest: int) -> bytes:
    return bytes([KINDS.index(kind), *rest])


def seeds() -> list[bytes]:
    kinds = ("GossipPush", "GossipAnnounce", "GossipPull", "GossipGraft", "GossipPrune")
    raw = [bytes.fromhex(case["encoded"]) for case in vectors("encoding")["kinds"] if case["kind"] in kinds and "encoded" in case]
    found = [_event(_History.raw, 0, len(data)) + data for data in raw if len(data) < 256]
    push, judge, tick = _event(_History.pushed, 0, 0, 1, 1, 7, 7), _event(_History.judged, 0, 0), _event(_History.ticked, 3, 1, 2, 1)
    large = _event(_History.announced, 1, 0, 0, 1, 4, 5, 5, 7)
    found += [push + judge + tick, large + tick + _event(_History.pushed, 1, 1, 2) + judge + tick, push + _event(_History.judged, 1, 0) * 3]
    found += [_event(_History.opened, 4, 12) + _event(_History.meshed, 4, 1) + tick * 5, _event(_History.published, 0, 1, 4, 1, 1) + tick]
    found += [_event(_History.flooded, 2, 0, 255) + bytes(255) + tick, _event(_History.pulled, 0, 2, 1, 0, 1, 1, 1, 1) + tick]
    # What soaks have found: news of no size at the end of so much that its teller is shown out; grafts again and again before their time.
    found.append(_event(_History.announced, 1, 7, *[0, 1, 0, 0, 0, 0, 0, 0] * 8) * 60)
    found.append(_event(_History.meshed, 0, 2) + _event(_History.meshed, 0, 1) * 110)
    found.append(b"".join(found))
    return found
