"""A node that gets a growing chain from several peers over simulated lines: peers that lie in every way there is, stall, refuse, are behind
or come and go; a node that is killed now and then and finds on its disk what it had.

Signatures are letters: one of the rotation's own set ends in b"!", any other does not hold."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from qnode.core import sync_limits as limits
from qnode.core.consensus_events import Final
from qnode.core.sync import Sync, step
from qnode.core.sync_events import (
    AskBlocks,
    AskBody,
    BlocksTold,
    BodyTold,
    Charge,
    Effect,
    Event,
    Finalise,
    Found,
    Head,
    Keep,
    Kept,
    Look,
    Moved,
    NotFinalised,
    PeerFound,
    PeerLost,
    Refused,
    Ticked,
    Verified,
    Verify,
)
from qustream.rules import merkle
from qustream.wire.consensus import VOTE_SIGNATURE_BYTES, Certificate, ChainHeader, Kind, header_digest
from qustream.wire.sync import HEADERS_MAX, BlocksAnswer, BodyAnswer
from qustream.wire.transactions import transaction_id
from sim.clockwork import Clockwork

__all__ = ["CHAIN", "KINDS", "GrownChain", "Peer", "SyncWorld"]

CHAIN = "sim"
TICK_US = 250_000
STORE_US = 4_000
VERIFY_US = 30_000
# What a peer is. Honest ones have everything; those that are `behind` have a part and obey the rules.
KINDS = (
    "honest", "slow", "lossy", "busy", "behind", "closer", "silent", "boaster", "withholder", "forger", "faker", "minority", "stale",
    "swapper", "skipper", "mangler", "miscounter", "emptier", "pruned",
)  # fmt: skip
EVIL = frozenset(
    {"boaster", "withholder", "silent", "forger", "faker", "minority", "stale", "swapper", "skipper", "mangler", "miscounter", "emptier"}
)
# Those of them whose lies show.
LIARS = frozenset({"forger", "faker", "minority", "stale", "swapper", "skipper", "mangler", "miscounter", "emptier"})
ZERO = bytes(32)


def signature(*, good: bool) -> bytes:
    return bytes(VOTE_SIGNATURE_BYTES - 1) + (b"!" if good else b"?")


GOOD, BAD = signature(good=True), signature(good=False)


@dataclass(frozen=True)
class _Rotation:
    """`first`, `last`: heights; the last is the boundary block. `tail`: descendants that it took."""

    number: int
    weights: tuple[int, ...]
    first: int
    last: int
    tail: tuple[ChainHeader, ...]


class GrownChain:
    """Blocks 1, 2, … with rotations of random lengths; every block of `kept` has a certificate, and the last of each rotation."""

    def __init__(self, chance: random.Random, blocks: int) -> None:
        self.chance = chance
        self.blocks: list[Final] = []
        self.bodies: dict[bytes, bytes] = {}
        self.rotations: list[_Rotation] = []
        self.kept_every = chance.choice((16, 64))
        digest, number = ZERO, 0
        while len(self.blocks) < blocks:
            number += 1
            weights = tuple(chance.choice((1, 1, 1, 3)) for _ in range(4))
            first = len(self.blocks) + 1
            for view in range(1, chance.randrange(2, 50)):
                digest = self._add(digest, number, view)
            tail = [self._header(digest, number, 100, len(self.blocks), ())] if chance.random() < 0.3 else []
            while tail and chance.random() < 0.5:
                tail.append(self._header(header_digest(tail[-1]), number, 100 + len(tail), len(self.blocks), ()))
            self.rotations.append(_Rotation(number, weights, first, len(self.blocks), tuple(tail)))

    def _add(self, parent: bytes, rotation: int, view: int) -> bytes:
        ids = []
        for _ in range(self.chance.choice((0, 0, 0, 1, 3, 40))):
            body = self.chance.randbytes(self.chance.choice((40, 4000)))
            ids.append(transaction_id(body))
            self.bodies[ids[-1]] = body
        header = self._header(parent, rotation, view, len(self.blocks) + 1, tuple(ids))
        self.blocks.append(Final(header_digest(header), header, tuple(ids)))
        return self.blocks[-1].digest

    @staticmethod
    def _header(parent: bytes, rotation: int, view: int, height: int, ids: tuple[bytes, ...]) -> ChainHeader:
        payload = merkle.root(ids)
        return ChainHeader(CHAIN, rotation, view, height, parent, view - 1, view, 0, ZERO, payload, len(ids), ZERO, ZERO, 0)

    def rotation_at(self, height: int) -> _Rotation:
        """Of the block of this height."""
        return next(rotation for rotation in self.rotations if height <= rotation.last)

    def head(self, height: int, *, is_validator: bool = False) -> Head:
        rotation = self.rotation_at(height + 1)
        digest = self.blocks[height - 1].digest if height else ZERO
        return Head(height, digest, rotation.number, rotation.weights, is_validator)

    def run(self, above: int, top: int) -> tuple[list[Final], Certificate]:
        """What an honest peer that is at `top` answers; it is above `above`."""
        rotation = self.rotation_at(above + 1)
        until = -(-(above + 1) // self.kept_every) * self.kept_every
        end = min(until, rotation.last, top)
        blocks = self.blocks[above:end]
        if end == rotation.last:
            blocks = blocks + [Final(header_digest(header), header, ()) for header in rotation.tail]
        return blocks, certificate(blocks[-1], rotation.weights)


def certificate(final: Final, weights: Sequence[int], *, signatures: bytes = GOOD, most: int | None = None) -> Certificate:
    """Of all of a set, or of the `most` first."""
    count = len(weights) if most is None else most
    bits = (0xFF << (8 - count)) & 0xFF
    return Certificate(final.header.rotation, final.header.view, Kind.FINAL, final.digest, bytes([bits]), (signatures,) * count)


@dataclass
class Peer:
    """`life`: its connections so far."""

    number: int
    kind: str
    mbps: int
    delay_us: int
    lag: int = 0
    free_us: int = 0
    life: int = 0
    is_up: bool = True
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.id = hashlib.sha256(self.number.to_bytes(4, "big")).digest()


class SyncWorld:
    """`head`: of the real chain, which grows by a block each `block_us`. `height`: ours, on disk with `bodies`."""

    def __init__(self, seed: int, *, peers: list[Peer], blocks: int, head: int, block_us: int, is_validator: bool = False) -> None:
        self.chance = random.Random(seed)
        self.clock = Clockwork()
        self.chain = GrownChain(self.chance, blocks + 60)
        self.peers = {peer.id: peer for peer in peers}
        self.head, self.last, self.block_us = head, blocks, block_us
        self.height = 0
        self.is_validator = is_validator
        self.bodies: dict[bytes, bytes] = {}
        self.charged: Counter[bytes] = Counter()
        self.starts = 0
        self.sync: Sync | None = None
        self.most: Counter[str] = Counter()
        self.late_us: list[int] = []
        self.grown_us = {head: 0}
        self.answers = 0
        self.disk_fails = 0.0
        self.waiting: dict[int, tuple[Peer, int, AskBlocks]] = {}
        self.clock.plan(block_us, self.grow)

    def grow(self) -> None:
        if self.head < self.last:
            self.head += 1
            self.grown_us[self.head] = self.clock.now_us
            self.clock.plan(self.clock.now_us + self.block_us, self.grow)
            for peer in self.peers.values():
                self.wake(peer)

    # --- the node

    def start(self) -> None:
        self.starts += 1
        self.sync = Sync(CHAIN)
        self.happens(Moved(self.chain.head(self.height, is_validator=self.is_validator)))
        for peer in self.peers.values():
            if peer.is_up:
                self.happens(PeerFound(peer.id))
        self.clock.plan(self.clock.now_us, self.tick, self.starts)

    def kill(self) -> None:
        self.sync = None
        self.starts += 1
        self.waiting.clear()
        for peer in self.peers.values():
            peer.life += 1

    def tick(self, start: int) -> None:
        if start == self.starts:
            self.happens(Ticked(self.chance.getrandbits(64)))
            self.clock.plan(self.clock.now_us + TICK_US, self.tick, start)

    def happens(self, event: Event) -> None:
        if self.sync is None:
            return
        for effect in step(self.sync, event, self.clock.now_ms):
            self.perform(effect)
        for name, size in self.sync.sizes.items():
            self.most[name] = max(self.most[name], size)

    def later(self, after_us: int, event: Event) -> None:
        self.clock.plan(self.clock.now_us + after_us, self.if_alive, self.starts, event)

    def if_alive(self, start: int, event: Event) -> None:
        if start == self.starts:
            self.happens(event)

    def perform(self, effect: Effect) -> None:
        match effect:
            case AskBlocks() | AskBody():
                self.send(effect)
            case Verify(run, message):
                assert len(message.signatures) == sum(bin(octet).count("1") for octet in message.voters)
                self.later(VERIFY_US, Verified(run, all(each == GOOD for each in message.signatures)))
            case Look(height, ids):
                self.later(STORE_US, Found(height, tuple(place for place, name in enumerate(ids) if name not in self.bodies)))
            case Keep(height, numbers, ids, transactions):
                assert [transaction_id(raw) for raw in transactions] == list(ids)
                self.clock.plan(
                    self.clock.now_us + STORE_US, self.keep, self.starts, height, numbers, dict(zip(ids, transactions, strict=True))
                )
            case Finalise(blocks, _, tail):
                self.clock.plan(self.clock.now_us + STORE_US * len(blocks), self.finalise, self.starts, blocks, tail)
            case Charge(peer, why):
                self.charge(self.peers[peer], why)

    def keep(self, start: int, height: int, numbers: tuple[int, ...], bodies: dict[bytes, bytes]) -> None:
        if start == self.starts:
            self.bodies |= bodies
            self.happens(Kept(height, numbers))

    def finalise(self, start: int, blocks: tuple[Final, ...], tail: tuple[ChainHeader, ...]) -> None:
        if start != self.starts:
            return
        if self.chance.random() < self.disk_fails:
            self.happens(NotFinalised())
            return
        assert blocks[0].header.height <= self.height + 1, "a block was left out"
        for final in blocks:
            assert final == self.chain.blocks[final.header.height - 1], "another chain than the real one"
            assert all(name in self.bodies for name in final.ids), "a block whose transactions are not here"
        rotation = self.chain.rotation_at(blocks[-1].header.height)
        assert not tail or (tail == rotation.tail and blocks[-1].header.height == rotation.last)
        self.moved(max(self.height, blocks[-1].header.height))

    def moved(self, height: int) -> None:
        for each in range(self.height + 1, height + 1):
            self.late_us.append(self.clock.now_us - self.grown_us.get(each, self.clock.now_us))
        self.height = height
        self.happens(Moved(self.chain.head(height, is_validator=self.is_validator)))

    def consensus_brings(self, count: int) -> None:
        """Blocks that did not come this way."""
        for final in self.chain.blocks[self.height : min(self.head, self.height + count)]:
            self.bodies |= {name: self.chain.bodies[name] for name in final.ids}
            self.moved(final.header.height)

    def charge(self, peer: Peer, why: str) -> None:
        assert peer.kind in LIARS, f"an honest peer was charged: {peer}: {why}"
        self.charged[peer.id] += 1
        self.close(peer, self.chance.randrange(1_000_000, 60_000_000))

    # --- the peers

    def send(self, ask: AskBlocks | AskBody) -> None:
        peer = self.peers[ask.peer]
        assert peer.is_up, "nobody is asked who is gone"
        self.later(ask.within_ms * 1000, Refused(ask.peer, ask.ask))  # an answer that came before is not looked for any more
        self.clock.plan(self.clock.now_us + peer.delay_us, self.hear, peer, peer.life, ask)

    def hear(self, peer: Peer, life: int, ask: AskBlocks | AskBody) -> None:
        if life != peer.life:
            return
        draw = self.chance.random()
        if peer.kind == "silent" or (peer.kind == "lossy" and draw < 0.3):
            return
        if peer.kind == "busy" and draw < 0.5:
            self.tell(peer, Refused(ask.peer, ask.ask, after_ms=self.chance.choice((1, 500, 1 << 40))))
        elif peer.kind == "closer" and draw < 0.15:
            self.close(peer, self.chance.randrange(100_000, 3_000_000))
        elif isinstance(ask, AskBody):
            self.tell_body(peer, ask, draw)
        elif self.top(peer) > ask.above or not ask.wait_ms:
            self.tell_blocks(peer, ask, draw)
        else:
            self.waiting[ask.ask] = (peer, life, ask)
            self.clock.plan(self.clock.now_us + ask.wait_ms * 1000, self.give_up, ask.ask)

    def wake(self, peer: Peer) -> None:
        for number, (who, life, ask) in list(self.waiting.items()):
            if who is peer and self.top(peer) > ask.above:
                del self.waiting[number]
                if life == peer.life:
                    self.tell_blocks(peer, ask, self.chance.random())

    def give_up(self, number: int) -> None:
        if number in self.waiting:
            peer, life, ask = self.waiting.pop(number)
            if life == peer.life:
                self.tell_blocks(peer, ask, self.chance.random())

    def top(self, peer: Peer) -> int:
        """How far it says to be."""
        if peer.kind == "boaster":
            return 1 << 40
        if peer.kind == "withholder":
            return min(self.head, peer.lag)
        return max(0, self.head - peer.lag) if peer.kind == "behind" else self.head

    def tell_blocks(self, peer: Peer, ask: AskBlocks, draw: float) -> None:
        top = self.top(peer)
        real = min(top, self.head)
        if not ask.most or real <= ask.above or peer.kind == "boaster":
            self.tell(peer, BlocksTold(peer.id, ask.ask, BlocksAnswer(top, (), (), None)))
            return
        blocks, message = self.chain.run(ask.above, real)
        assert len(blocks) <= HEADERS_MAX
        blocks, message = self.twist(peer, blocks, message, draw) if peer.kind in LIARS else (blocks, message)
        ids = tuple(final.ids for final in blocks)[: self.chance.randrange(len(blocks) + 1)]
        if peer.kind == "miscounter" and ids and draw < 0.5:
            ids = (*ids[:-1], (*ids[-1], ZERO))
        answer = BlocksAnswer(top, tuple(final.header for final in blocks), ids, message)
        self.tell(peer, BlocksTold(peer.id, ask.ask, answer), size=400 * len(blocks) + 2500 * len(message.signatures))

    def twist(self, peer: Peer, blocks: list[Final], message: Certificate, draw: float) -> tuple[list[Final], Certificate]:
        """An answer that is not true."""
        weights = self.chain.rotations[blocks[0].header.rotation - 1].weights
        match peer.kind:
            case "forger":  # a chain of its own, signed with keys of its own
                header = msgspec.structs.replace(blocks[0].header, time_ms=7)
                forged = Final(header_digest(header), header, blocks[0].ids)
                return [forged], certificate(forged, weights, signatures=BAD)
            case "faker":  # the real chain, and a certificate that nobody signed
                return blocks, certificate(blocks[-1], weights, signatures=BAD)
            case "minority":  # its friends alone have signed its chain
                header = msgspec.structs.replace(blocks[0].header, time_ms=8)
                forged = Final(header_digest(header), header, blocks[0].ids)
                return [forged], certificate(forged, weights, most=1)
            case "stale" if blocks[0].header.rotation > 1:  # an earlier set has signed
                header = msgspec.structs.replace(blocks[0].header, rotation=blocks[0].header.rotation - 1)
                forged = Final(header_digest(header), header, blocks[0].ids)
                return [forged], certificate(forged, weights)
            case "swapper":  # a certificate of another block
                header = msgspec.structs.replace(blocks[-1].header, time_ms=9)
                return [*blocks[:-1], Final(header_digest(header), header, blocks[-1].ids)], message
            case "skipper" if len(blocks) > 1:  # a block is left out
                return blocks[1:], message
        return blocks, message

    def tell_body(self, peer: Peer, ask: AskBody, draw: float) -> None:
        if self.top(peer) < ask.height or peer.kind == "pruned" or (peer.kind == "boaster"):
            self.tell(peer, Refused(ask.peer, ask.ask))
            return
        final = self.chain.blocks[ask.height - 1]
        names, size, raw = final.ids[ask.first : ask.first + ask.count], 0, []
        for name in names:
            size += len(self.chain.bodies[name])
            if raw and size > 65_536:
                break
            raw.append(self.chain.bodies[name])
        ids = final.ids if not ask.first else ()
        if peer.kind == "mangler" and raw and draw < 0.5:
            raw[-1] = raw[-1][:-1] + bytes([raw[-1][-1] ^ 1])
        elif peer.kind == "miscounter" and ids and draw < 0.5:
            ids = ids[:-1]
        elif peer.kind == "emptier":
            raw = []
        answer = BodyAnswer(ids, tuple(raw))
        names = tuple(transaction_id(each) for each in raw)
        self.tell(peer, BodyTold(peer.id, ask.ask, answer, names), size=size)

    def tell(self, peer: Peer, event: Event, *, size: int = 100) -> None:
        peer.free_us = max(peer.free_us, self.clock.now_us) + size * 8 // peer.mbps
        slow_us = 4_000_000 if peer.kind == "slow" else 0
        self.clock.plan(peer.free_us + peer.delay_us + slow_us, self.arrive, peer, peer.life, self.starts, event)

    def arrive(self, peer: Peer, life: int, start: int, event: Event) -> None:
        if life == peer.life and start == self.starts:
            self.answers += 1
            self.happens(event)

    def close(self, peer: Peer, away_us: int) -> None:
        peer.life += 1
        peer.is_up = False
        self.clock.plan(self.clock.now_us, self.if_alive, self.starts, PeerLost(peer.id))
        self.clock.plan(self.clock.now_us + away_us, self.come_back, peer)

    def come_back(self, peer: Peer) -> None:
        peer.is_up = True
        self.happens(PeerFound(peer.id))

    # --- what must be

    def check(self) -> None:
        """What holds always."""
        assert self.most["bodies"] <= limits.BODY_ASKS_MAX
        assert self.most["asks"] <= limits.BODY_ASKS_MAX + limits.GIVERS_MAX + limits.WATCHES_STALE
        assert self.most["run"] <= HEADERS_MAX
        for final in self.chain.blocks[: self.height]:
            assert all(name in self.bodies for name in final.ids)
