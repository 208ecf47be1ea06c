"""A node that gets a state from several peers over simulated lines: peers that lie in every way there is, stall, refuse, come and go, and
give the state away no longer; a node that is killed now and then and finds on its disk what it had.

Signatures are letters: one of the rotation's own set ends in b"!", any other does not hold."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from unittest.mock import patch

import msgspec
from support.radix_memory import MemoryTree

from qnode.core.snapshot import Snapshot, Stage, step
from qnode.core.snapshot_events import (
    Ask,
    Began,
    Begin,
    Charge,
    Check,
    Checked,
    ChunkCame,
    Effect,
    Event,
    Finish,
    Finished,
    Look,
    Missing,
    PeerFound,
    PeerLost,
    PlanCame,
    Refused,
    Resumed,
    Take,
    Taken,
    Ticked,
    Verdict,
)
from qnode.core.snapshot_offer import PROGRESS
from qustream.errors import QuStreamError
from qustream.model.state import Progress
from qustream.rules import merkle, radix_plan
from qustream.rules.radix import path_of
from qustream.rules.radix_plan import Chunk, ChunkPlace, Plan, PlanNode, StateEntry, chunks_of, divide, open_chunk
from qustream.rules.radix_tree import inner, is_inner
from qustream.wire.codec import encode
from qustream.wire.consensus import VOTE_SIGNATURE_BYTES, Certificate, ChainHeader, Kind, header_digest
from qustream.wire.light import ProvenEntry
from qustream.wire.snapshot import ChunkAsk, ChunkTold, Offer, SnapshotAsk, SnapshotTold
from sim.clockwork import Clockwork

__all__ = ["CHAIN", "KINDS", "LIARS", "Server", "SnapshotWorld", "State"]

CHAIN = "sim"
TICK_US = 250_000
STORE_US = 4_000
VERIFY_US = 300_000
KINDS = (
    "honest", "slow", "lossy", "busy", "closer", "silent", "empty", "forger", "misnamer", "blocker", "unproven", "planner", "endless",
    "coarse", "chunker", "omitter", "mangler",
)  # fmt: skip
# Those whose lies show.
LIARS = frozenset({"forger", "misnamer", "blocker", "unproven", "planner", "endless", "chunker", "omitter", "mangler"})
ZERO = bytes(32)
# What a chunk is at most here, so that there are many; and a part of a plan.
CHUNK_BYTES, PART_NODES = 2048, 7
# On a line a chunk weighs as much as one of a real size.
WEIGHT = 128
GOOD, BAD = (bytes(VOTE_SIGNATURE_BYTES - 1) + end for end in (b"!", b"?"))


class State:
    """A state after the block of `height`; everything an honest peer gives of it."""

    def __init__(self, chance: random.Random, height: int, before: State | None = None, *, signature: bytes = GOOD) -> None:
        self.height = height
        self.block = self._header(height, ZERO, 0)
        changes = self._changes(chance, before)
        changes[PROGRESS] = encode(Progress(height, header_digest(self.block), height, 0, 1, 1, ZERO, False))
        self.tree = MemoryTree()
        self.tree.apply((before.tree.entries if before is not None else {}) | changes)
        self.root = self.tree.root
        head = self._header(height + 2, self.root, height)
        certificate = Certificate(1, head.view, Kind.FINAL, header_digest(head), b"\xe0", (signature,) * 3)
        self.offer = Offer((head,), certificate, self.block, (), ProvenEntry(changes[PROGRESS], self.tree.prove(PROGRESS)))
        self.plan = self._plan()
        self._ordered = sorted((path_of(key).hex(), key) for key in self.tree.entries)

    @staticmethod
    def _changes(chance: random.Random, before: State | None) -> dict[bytes, bytes]:
        if before is None:
            return {chance.randbytes(21): chance.randbytes(chance.randrange(200)) for _ in range(chance.choice((5, 60, 500)))}
        changed = chance.sample(sorted(before.tree.entries), chance.randrange(1, min(40, len(before.tree.entries))))
        return {key: chance.randbytes(50) for key in changed} | {chance.randbytes(21): b"new" for _ in range(chance.randrange(20))}

    @staticmethod
    def _header(height: int, root: bytes, executed: int) -> ChainHeader:
        return ChainHeader(CHAIN, 1, height, height, ZERO, height - 1, height, executed, root, merkle.root(()), 0, ZERO, ZERO, 0)

    def _plan(self) -> Plan:
        ordered = sorted((path_of(key), len(key) + len(value)) for key, value in self.tree.entries.items())
        with patch.object(radix_plan, "CHUNK_BYTES", CHUNK_BYTES):
            prefixes, _ = divide(ordered, lambda prefix: is_inner(self.tree, prefix))
        return Plan(tuple(PlanNode(prefix, inner(self.tree, prefix) or b"") for prefix in prefixes))

    def chunk(self, prefix: bytes) -> Chunk | None:
        """None for what is too much for one."""
        digits = "".join(f"{number:x}" for number in prefix)
        chunk = Chunk(tuple(StateEntry(key, self.tree.entries[key]) for path, key in self._ordered if path.startswith(digits)))
        return chunk if sum(len(each.key) + len(each.value) for each in chunk.entries) <= 4 * CHUNK_BYTES else None


@dataclass
class Server:
    """`life`: its connections so far; `has`: the numbers of the states that it gives away."""

    number: int
    kind: str
    mbps: int
    delay_us: int
    has: tuple[int, ...] = (0,)
    free_us: int = 0
    life: int = 0
    is_up: bool = True
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.id = hashlib.sha256(self.number.to_bytes(4, "big")).digest()


class SnapshotWorld:
    """`states`: in order of height; `disk`: what is on it, by prefix, of the `incoming` one."""

    def __init__(self, seed: int, *, servers: list[Server], states: int = 1) -> None:
        self.chance = random.Random(seed)
        self.clock = Clockwork()
        self.states = [State(self.chance, 100)]
        for number in range(1, states):
            self.states.append(State(self.chance, 100 * (number + 1), self.states[-1]))
        self.forged = State(self.chance, 900, signature=BAD)
        self.servers = {server.id: server for server in servers}
        self.incoming: State | None = None
        self.disk: dict[ChunkPlace, Chunk] = {}
        self.places: dict[bytes, ChunkPlace] = {}
        self.charged: Counter[bytes] = Counter()
        self.starts = self.begins = self.taken = self.kept = 0
        self.core: Snapshot | None = None
        self.most: Counter[str] = Counter()
        self.disk_fails = self.unknown = 0.0
        self.is_done = False

    # --- the node

    def start(self) -> None:
        self.starts += 1
        self.core = Snapshot(CHAIN)
        if self.incoming is not None:
            self.happens(Resumed(self.incoming.root))
        for server in self.servers.values():
            if server.is_up:
                self.happens(PeerFound(server.id))
        self.clock.plan(self.clock.now_us, self.tick, self.starts)

    def kill(self) -> None:
        self.core = None
        self.starts += 1
        for server in self.servers.values():
            server.life += 1

    def tick(self, start: int) -> None:
        if start == self.starts:
            self.happens(Ticked(self.chance.getrandbits(64)))
            self.clock.plan(self.clock.now_us + TICK_US, self.tick, start)

    def happens(self, event: Event) -> None:
        if self.core is None:
            return
        for effect in step(self.core, event, self.clock.now_ms):
            self.perform(effect)
        for name, size in self.core.sizes.items():
            self.most[name] = max(self.most[name], size)

    def later(self, after_us: int, event: Event) -> None:
        self.clock.plan(self.clock.now_us + after_us, self.if_alive, self.starts, event)

    def if_alive(self, start: int, event: Event) -> None:
        if start == self.starts:
            self.happens(event)

    def perform(self, effect: Effect) -> None:
        match effect:
            case Ask():
                self.send(effect)
            case Check(peer, root, offer):
                good = set(offer.certificate.signatures) == {GOOD} and offer.certificate.digest == header_digest(offer.headers[-1])
                assert not good or root in {state.root for state in self.states}, "a root that no quorum has"
                verdict = Verdict.UNKNOWN if self.chance.random() < self.unknown else Verdict.TRUE if good else Verdict.LIE
                self.later(VERIFY_US, Checked(peer, verdict))
            case Charge(peer, why):
                self.charge(self.servers[peer], why)
            case _:
                self.clock.plan(self.clock.now_us + STORE_US, self.store, self.starts, effect)

    def store(self, start: int, effect: Effect) -> None:
        """What the disk does with it."""
        if start != self.starts:
            return
        fails = self.chance.random() < self.disk_fails
        match effect:
            case Begin(root, _, plan):
                if not fails:
                    self.begin(root, plan)
                self.happens(Began(not fails))
            case Look(limit):
                missing = [prefix for prefix, place in self.places.items() if place not in self.disk]
                self.happens(Missing(tuple(missing[:limit])))
            case Take(peer, prefix, chunk):
                self.happens(Taken(peer, prefix, Verdict.UNKNOWN if fails else self.take(prefix, chunk)))
            case Finish():
                if not fails:
                    self.finish()
                self.happens(Finished(Verdict.UNKNOWN if fails else Verdict.TRUE))

    def begin(self, root: bytes, plan: Plan) -> None:
        self.begins += 1
        self.incoming = next(state for state in self.states if state.root == root)
        self.places = {place.prefix: place for place in chunks_of(root, plan)}
        self.disk = {place: chunk for place, chunk in self.disk.items() if self.places.get(place.prefix) == place}
        self.kept += len(self.disk)

    def take(self, prefix: bytes, chunk: Chunk) -> Verdict:
        place = self.places.get(prefix)
        if place is None or place in self.disk:
            return Verdict.TRUE
        try:
            open_chunk(place, chunk)
        except QuStreamError:
            return Verdict.LIE
        self.taken += 1
        self.disk[place] = chunk
        return Verdict.TRUE

    def finish(self) -> None:
        assert self.incoming is not None
        found = {entry.key: entry.value for chunk in self.disk.values() for entry in chunk.entries}
        assert found == self.incoming.tree.entries, "another state than the real one"
        self.is_done = True

    def charge(self, server: Server, why: str) -> None:
        assert server.kind in LIARS, f"an honest peer was charged: {server}: {why}"
        self.charged[server.id] += 1
        self.close(server, self.chance.randrange(1_000_000, 60_000_000))

    def check(self) -> None:
        """What must hold in the end."""
        assert self.core is not None
        assert self.core.stage is Stage.DONE
        assert self.most["asks"] <= 12
        assert self.most["keeping"] <= 8

    # --- the peers

    def go_on(self) -> None:
        """Every peer has a newer state, and not all of them the older one."""
        for server in self.servers.values():
            newer = min(server.has[-1] + 1, len(self.states) - 1)
            server.has = (newer,) if self.chance.random() < 0.7 else (newer - 1, newer) if newer else (0,)

    def send(self, ask: Ask) -> None:
        server = self.servers[ask.peer]
        assert server.is_up, "nobody is asked who is gone"
        self.later(ask.within_ms * 1000, Refused(ask.peer, ask.ask))  # an answer that came before is not looked for any more
        self.clock.plan(self.clock.now_us + server.delay_us, self.hear, server, server.life, ask)

    def hear(self, server: Server, life: int, ask: Ask) -> None:
        if life != server.life:
            return
        draw = self.chance.random()
        if server.kind == "silent" or (server.kind == "lossy" and draw < 0.3):
            return
        if server.kind == "busy" and draw < 0.5:
            self.tell(server, Refused(ask.peer, ask.ask, after_ms=self.chance.choice((1, 500, 20_000))))
        elif server.kind == "closer" and draw < 0.15:
            self.close(server, self.chance.randrange(100_000, 3_000_000))
        elif server.kind == "mangler" and draw < 0.5:
            self.tell(server, Refused(ask.peer, ask.ask, is_lie=True))
        else:
            self.answer(server, ask, draw)

    def answer(self, server: Server, ask: Ask, draw: float) -> None:
        message = ask.message
        has = [self.states[number] for number in server.has] + ([self.forged] if server.kind == "forger" else [])
        newest = isinstance(message, SnapshotAsk) and message.root == ZERO
        state = has[-1] if newest else next((each for each in has if each.root == message.root), None)
        if state is None or server.kind == "empty":
            self.tell(server, Refused(ask.peer, ask.ask, has_not=True))
        elif isinstance(message, SnapshotAsk):
            self.tell(server, PlanCame(ask.peer, ask.ask, self.told(server, state, message.first, draw)), size=40_000)
        else:
            self.tell_chunk(server, state, ask, message, draw)

    def told(self, server: Server, state: State, first: int, draw: float) -> SnapshotTold:
        nodes, offer = state.plan.nodes, state.offer
        if server.kind == "coarse":
            nodes = nodes[:1]
        count, part = len(nodes), nodes[first : first + PART_NODES]
        match server.kind:
            case "misnamer":
                return SnapshotTold(hashlib.sha256(b"its own").digest(), offer, count, part)
            case "blocker":
                offer = msgspec.structs.replace(offer, block=msgspec.structs.replace(state.block, time_ms=7))
            case "unproven":
                offer = msgspec.structs.replace(offer, progress=ProvenEntry(b"\x90", offer.progress.proof))
            case "planner" if part:
                part = (*part[:-1], PlanNode(part[-1].prefix, part[-1].node[:-1] + bytes((part[-1].node[-1] ^ 1,))))
            case "endless":
                count, part = 16_384, part or nodes[-1:]
        return SnapshotTold(state.root, None if first else offer, count, part)

    def tell_chunk(self, server: Server, state: State, ask: Ask, message: ChunkAsk, draw: float) -> None:
        chunk = state.chunk(message.prefix)
        if chunk is None:
            self.tell(server, Refused(ask.peer, ask.ask, has_not=True))
            return
        entries = chunk.entries
        if server.kind == "chunker" and draw < 0.5:
            entries = (*entries[:-1], StateEntry(entries[-1].key, entries[-1].value + b"\0"))
        elif server.kind == "omitter" and draw < 0.5:
            entries = entries[1:]
        size = WEIGHT * sum(len(each.key) + len(each.value) for each in entries)
        self.tell(server, ChunkCame(ask.peer, ask.ask, ChunkTold(entries)), size=size)

    def tell(self, server: Server, event: Event, *, size: int = 100) -> None:
        server.free_us = max(server.free_us, self.clock.now_us) + size * 8 // server.mbps
        slow_us = 6_000_000 if server.kind == "slow" else 0
        self.clock.plan(server.free_us + server.delay_us + slow_us, self.arrive, server, server.life, self.starts, event)

    def arrive(self, server: Server, life: int, start: int, event: Event) -> None:
        if life == server.life and start == self.starts:
            self.happens(event)

    def close(self, server: Server, away_us: int) -> None:
        server.life += 1
        server.is_up = False
        self.clock.plan(self.clock.now_us, self.if_alive, self.starts, PeerLost(server.id))
        self.clock.plan(self.clock.now_us + away_us, self.come_back, server)

    def come_back(self, server: Server) -> None:
        if not server.is_up:
            server.is_up = True
            self.clock.plan(self.clock.now_us, self.if_alive, self.starts, PeerFound(server.id))
