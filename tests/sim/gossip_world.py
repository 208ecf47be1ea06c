"""A network of gossip cores in one process, under virtual time: everything follows from the seed (`proto/spec/gossip.md`).

    world = GossipWorld(seed=7, nodes=40, byzantine=[Garbler, Silent])
    world.run_ms(2000); name = world.publish(3, Topic.BLOCK, 60_000); world.run_ms(5000)
    world.reached(name)      when each honest node had it judged good, in ms

What must never be is checked after every event; a breach raises `Breach`, whose text says how to see it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Protocol

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
    Published,
    Send,
    Ticked,
    Verdict,
    Wake,
)
from qustream.rules.peering import message_id, offsets, ring
from qustream.wire.gossip import GossipAnnounce, GossipMessage, GossipPull, GossipPush, Topic
from sim.clockwork import Clockwork
from sim.seeds import Breach
from sim.wires import REGIONS, Wires

__all__ = ["Byzantine", "GossipWorld", "Honest"]

HEARTBEAT_US = 1_000_000
LINKS_OUT = 8
# What a check costs: two signatures.
CHECK_US = 500
BAD, OLD = b"bad", b"old"
SIZES_MAX = {
    "links": limits.LINKS_MAX,
    "mesh": limits.MESH_MAX + 1,  # one more between a graft of theirs and the next heartbeat
    "seen": limits.SEEN_MAX,
    "pulls": limits.PULLS_MAX,
    "checks": limits.CHECKS_MAX,
    "kept_bytes": limits.KEEP_BYTES,
    "line": limits.LINE_MAX,
}


class Byzantine(Protocol):
    """A node that does what it likes. `heard` and `beat` return what it sends: (to whom, what)."""

    def linked(self, peer: int) -> list[tuple[int, GossipMessage]]: ...
    def heard(self, peer: int, message: GossipMessage) -> list[tuple[int, GossipMessage]]: ...
    def beat(self, now_ms: int) -> list[tuple[int, GossipMessage]]: ...


@dataclass(slots=True)
class Honest:
    """An honest node: its core, and what it has found good."""

    number: int
    core: Gossip = field(default_factory=lambda: Gossip(identify))
    good_ms: dict[bytes, int] = field(default_factory=dict)
    grey: dict[int, int] = field(default_factory=dict)  # peer -> until, in ms
    checks: int = 0
    is_up: bool = True
    life: int = 0  # one more at each restart: what was planned for an earlier life happens to nobody


@cache
def name_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


@cache
def number_of(peer: bytes) -> int:
    return int.from_bytes(peer, "big")


@lru_cache(maxsize=1024)
def identify(topic: int, body: bytes) -> bytes:
    """The same body comes to thousands of nodes; its id is what it is."""
    return message_id(topic, body)


def size_of(message: GossipMessage) -> int:
    """Bytes on the wire, with TLS and frames: nearly."""
    kind = type(message)
    if kind is GossipAnnounce:
        return 40 + 40 * len(message.entries)
    if kind is GossipPush:
        return len(message.body) + 40
    if kind is GossipPull:
        return 40 + 34 * len(message.ids)
    return 40


class GossipWorld:
    """See the module. Nodes 0 … `nodes` − 1; the last of them are the byzantine ones."""

    def __init__(
        self,
        *,
        seed: int,
        nodes: int,
        byzantine: Sequence[Callable[[random.Random, int], Byzantine]] = (),
        check_every: int = 1,
        uplink_bps: int = 100_000_000,
    ) -> None:
        self.seed = seed
        self.clock = Clockwork()
        self.chance = random.Random(seed)
        self.names = [name_of(number) for number in range(nodes)]
        self.wires = Wires(
            self.clock, seed=seed + 1, regions=[self.chance.randrange(len(REGIONS)) for _ in range(nodes)], uplink_bps=uplink_bps
        )
        self.nodes = nodes
        honest = nodes - len(byzantine)
        self.honest = [Honest(number) for number in range(honest)]
        self.evil = {honest + place: make(random.Random(seed + 2 + place), honest + place) for place, make in enumerate(byzantine)}
        self.links: dict[int, set[int]] = {number: set() for number in range(nodes)}
        self.copies: dict[bytes, int] = {}  # large bodies that were sent, by id
        self._opened: set[tuple[int, int]] = set()  # who opened a link to whom
        self._check_every, self._touched = check_every, 0
        self._wire_up()
        for number in range(nodes):
            self.clock.plan(self.chance.randrange(HEARTBEAT_US), self._beat, number, 0)

    # --- the graph

    def _wire_up(self) -> None:
        standing = [number_of(node) for node in ring(self.seed.to_bytes(32, "big"), map(name_of, range(self.nodes)))]
        for place, number in enumerate(standing):
            for offset in offsets(self.seed.to_bytes(32, "big"), self.nodes):
                self.link(number, standing[(place + offset) % self.nodes], assigned=True)
        for number in range(self.nodes):
            self.link_at_random(number)

    def link_at_random(self, number: int) -> None:
        """Open what is missing to eight."""
        missing = min(LINKS_OUT, self.nodes - 1) - sum(1 for peer in self.links[number] if (number, peer) in self._opened)
        for _ in range(20 * LINKS_OUT):
            if missing <= 0:
                return
            peer = self.chance.randrange(self.nodes)
            missing -= self.link(number, peer)

    def link(self, source: int, target: int, *, assigned: bool = False) -> bool:
        """`source` opens a link to `target`, if both would have it."""
        if source == target or target in self.links[source] or not (self._would(source, target) and self._would(target, source)):
            return False
        if len(self.links[target]) >= limits.LINKS_MAX or len(self.links[source]) >= limits.LINKS_MAX:
            return False
        self.links[source].add(target)
        self.links[target].add(source)
        self._opened.add((source, target))
        for me, peer, ours in ((source, target, True), (target, source, False)):
            if me in self.evil:
                self._send_all(me, self.evil[me].linked(peer))
            else:
                self._step(self.honest[me], LinkOpened(name_of(peer), f"operator {peer}", ours, assigned))
                self._step(self.honest[me], DelayMeasured(name_of(peer), self._delay_ms(me, peer)))
        return True

    def _delay_ms(self, me: int, peer: int) -> int:
        """A byzantine peer answers as late as it likes."""
        claimed: int | None = getattr(self.evil.get(peer), "claims_ms", None)
        return self.wires.delay_ms(me, peer) if claimed is None else claimed

    def _would(self, number: int, peer: int) -> bool:
        if number in self.evil:
            return True
        node = self.honest[number]
        return node.is_up and node.grey.get(peer, 0) <= self.clock.now_ms

    def unlink(self, a: int, b: int) -> None:
        """The link is gone, for both."""
        if b not in self.links[a]:
            return
        self.links[a].discard(b)
        self.links[b].discard(a)
        self._opened.discard((a, b))
        self._opened.discard((b, a))
        for me, peer in ((a, b), (b, a)):
            if me not in self.evil and self.honest[me].is_up:
                self._step(self.honest[me], LinkClosed(name_of(peer)))

    # --- what happens

    def run_ms(self, duration_ms: int) -> None:
        self.clock.run(self.clock.now_us + 1000 * duration_ms)

    def publish(self, number: int, topic: Topic, size: int, *, bad: bool = False) -> bytes:
        """Node `number` says something of `size` bytes nobody has said before; the message's id."""
        body = (BAD if bad else b"ok ") + self.chance.randbytes(16)
        body = body + bytes(max(0, size - len(body)))
        node = self.honest[number]
        name = message_id(topic, body)
        node.good_ms[name] = self.clock.now_ms
        self._step(node, Published(topic, body))
        return name

    def crash(self, number: int) -> None:
        """All that a node knows is gone, and so are its links."""
        node = self.honest[number]
        node.is_up, node.life = False, node.life + 1
        for peer in sorted(self.links[number]):
            self.unlink(number, peer)

    def restart(self, number: int) -> None:
        node = self.honest[number]
        node.core, node.is_up = Gossip(identify), True
        node.good_ms.clear()
        self.link_at_random(number)
        self.clock.plan(self.clock.now_us, self._beat, number, node.life)

    def reached(self, name: bytes) -> dict[int, int]:
        """When each honest node had the message, in ms."""
        return {node.number: node.good_ms[name] for node in self.honest if name in node.good_ms}

    def _beat(self, number: int, life: int) -> None:
        if number in self.evil:
            self._send_all(number, self.evil[number].beat(self.clock.now_ms))
        else:
            node = self.honest[number]
            if not node.is_up or node.life != life:
                return
            self._step(node, Ticked(self.chance.getrandbits(64)))
            if len(self.links[number]) < LINKS_OUT:
                self.link_at_random(number)
        self.clock.plan(self.clock.now_us + HEARTBEAT_US, self._beat, number, life)

    def _wake(self, number: int, life: int) -> None:
        node = self.honest[number]
        if node.is_up and node.life == life:
            self._step(node, Ticked(0, is_heartbeat=False))

    def _arrive(self, source: int, target: int, message: GossipMessage) -> None:
        if source not in self.links[target]:
            return  # the link went while this was on its way
        if target in self.evil:
            self._send_all(target, self.evil[target].heard(source, message))
        else:
            node = self.honest[target]
            if node.is_up:
                self._step(node, Heard(self.names[source], message))

    def _send_all(self, source: int, messages: list[tuple[int, GossipMessage]]) -> None:
        for target, message in messages:
            if target in self.links[source]:
                self.wires.carry(source, target, size_of(message), self._arrive, source, target, message)

    # --- the performer of an honest node's effects

    def _step(self, node: Honest, event: Event) -> None:
        message: GossipMessage | None = None
        number, size, carry, arrive = node.number, 0, self.wires.carry, self._arrive
        for effect in step(node.core, event, self.clock.now_us // 1000):
            if type(effect) is Send:
                if effect.message is not message:  # one goes to many
                    message = effect.message
                    size = size_of(message)
                if size > limits.SMALL_MAX_BYTES and type(message) is GossipPush:
                    self._count(message)
                target = number_of(effect.peer)
                carry(number, target, size, arrive, number, target, message)
            else:
                self._perform(node, effect)
        self._touched += 1
        if self._touched % self._check_every == 0:
            self._check(node)

    def _count(self, message: GossipPush) -> None:
        if len(message.body) > limits.SMALL_MAX_BYTES:
            name = identify(message.topic, message.body)
            self.copies[name] = self.copies.get(name, 0) + 1

    def _perform(self, node: Honest, effect: Effect) -> None:
        if isinstance(effect, Check):
            node.checks += 1
            self.clock.plan(self.clock.now_us + CHECK_US, self._judge, node.number, node.life, effect.id, effect.body)
        elif isinstance(effect, Wake):
            self.clock.plan(1000 * effect.at_ms, self._wake, node.number, node.life)
        else:
            assert isinstance(effect, Expel)
            peer = number_of(effect.peer)
            node.grey[peer] = effect.until_ms
            self.clock.plan(self.clock.now_us, self.unlink, node.number, peer)

    def _judge(self, number: int, life: int, name: bytes, body: bytes) -> None:
        node = self.honest[number]
        if not node.is_up or node.life != life:
            return
        verdict = Verdict.BAD if body.startswith(BAD) else Verdict.USELESS if body.startswith(OLD) else Verdict.GOOD
        if verdict is Verdict.GOOD:
            self._must(name not in node.good_ms, f"node {number} judged a message twice")
            node.good_ms[name] = self.clock.now_ms
        self._step(node, Judged(name, verdict))

    # --- what must never be

    def _check(self, node: Honest) -> None:
        sizes = node.core.sizes
        if not all(0 <= sizes[name] <= most for name, most in SIZES_MAX.items()):
            self._must(False, f"{sizes}")
        self._must(all(link.pulls >= 0 for link in node.core.links.values()), "a peer owes less than nothing")

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            raise Breach(f"seed {self.seed}, {self.clock.now_ms} ms, event {self.clock.events}: {what}; replay: {self.replay}")

    replay = "see the test's seed"

    def grey_between_honest(self) -> list[tuple[int, int]]:
        """Honest nodes that have grey-listed honest ones."""
        return [(node.number, peer) for node in self.honest for peer in node.grey if peer < len(self.honest)]
