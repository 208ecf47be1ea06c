"""A node that fetches an object from several others over simulated lines: holders that lie, stall, close, are slow, busy or forgetful, and
a fetcher that is killed now and then and finds on its disk what it had, not always whole."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field

from qnode.core import bulk_limits as limits
from qnode.core.bulk import Fetch, Stage, step
from qnode.core.bulk_events import (
    AskManifest,
    AskPieces,
    Begin,
    Charge,
    Done,
    Effect,
    Event,
    Failed,
    Held,
    HolderFound,
    HolderLost,
    Keep,
    Kept,
    ManifestTold,
    PieceCame,
    Refused,
    Ticked,
)
from qustream.wire.bulk import PIECE_BYTES, Manifest, manifest_of, object_id
from qustream.wire.codec import encode
from sim.clockwork import Clockwork

__all__ = ["KINDS", "BulkWorld", "Holder"]

TICK_US = 250_000
WRITE_US = 3_000
# What a holder is: honest ones have a line of some Mbit/s.
KINDS = ("honest", "slow", "busy", "closer", "liar", "shortener", "forger", "silent", "forgetful", "dribbler")
EVIL = frozenset({"liar", "shortener", "forger"})


@dataclass
class Holder:
    """One peer. `free_us`: when its line is free again; `life`: its connections so far; what was under way on an old one is lost."""

    number: int
    kind: str
    mbps: int
    delay_us: int
    free_us: int = 0
    life: int = 0
    is_up: bool = True
    asks: int = 0
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.id = hashlib.sha256(self.number.to_bytes(4, "big")).digest()


class BulkWorld:
    """Pieces are made small in memory: the content of piece i is a pattern of its full length, shared by all."""

    def __init__(self, seed: int, *, pieces: int, holders: list[Holder]) -> None:
        self.chance = random.Random(seed)
        self.clock = Clockwork()
        self.holders = {holder.id: holder for holder in holders}
        last = self.chance.randrange(1, PIECE_BYTES + 1)
        self.pieces = [bytes([i % 251]) * (PIECE_BYTES if i < pieces - 1 else last) for i in range(pieces)]
        size = sum(map(len, self.pieces))
        self.manifest = manifest_of(size, [hashlib.sha256(piece).digest() for piece in self.pieces])
        self.name = object_id(self.manifest)
        self.disk: dict[int, bytes] = {}
        self.known: Manifest | None = None
        self.charged: Counter[bytes] = Counter()
        self.charged_in: set[tuple[bytes, int]] = set()  # and in which life of the fetcher
        self.sent = Counter[bytes]()  # pieces by holder
        self.ended: Effect | None = None
        self.most_under_way = 0
        self.fetch: Fetch | None = None
        self.starts = 0

    # --- the fetcher

    def start(self) -> None:
        """A new process: nothing in memory; what is on the disk is looked at again."""
        self.starts += 1
        self.ended = None
        self.fetch = Fetch(self.name, self.clock.now_ms, manifest=self.known)
        if self.known is not None:
            self.happens(Held(self.good_on_disk()))
        for holder in self.holders.values():
            if holder.is_up:
                self.happens(HolderFound(holder.id))
        self.clock.plan(self.clock.now_us + TICK_US, self.tick, self.starts)

    def kill(self) -> None:
        """It is gone; of what was on the disk a piece may be torn."""
        self.fetch = None
        self.starts += 1
        for index in list(self.disk):
            if self.chance.random() < 0.1:
                self.disk[index] = self.disk[index][:-1] + b"?"
        for holder in self.holders.values():
            holder.life += 1

    def good_on_disk(self) -> frozenset[int]:
        return frozenset(i for i, data in self.disk.items() if hashlib.sha256(data).digest() == self.manifest.pieces[i])

    def tick(self, start: int) -> None:
        if start == self.starts and self.fetch is not None and self.ended is None:
            self.happens(Ticked())
            self.clock.plan(self.clock.now_us + TICK_US, self.tick, start)

    def happens(self, event: Event) -> None:
        if self.fetch is None:
            return
        for effect in step(self.fetch, event, self.clock.now_ms):
            self.perform(effect)
        self.most_under_way = max(self.most_under_way, self.fetch.under_way)

    def perform(self, effect: Effect) -> None:
        now_us = self.clock.now_us
        match effect:
            case AskManifest(holder, ask):
                self.ask(self.holders[holder], ask, None)
            case AskPieces(holder, ask, first, count):
                self.ask(self.holders[holder], ask, range(first, first + count))
            case Begin(manifest):
                self.known = manifest
                self.clock.plan(now_us + WRITE_US, self.if_alive, self.starts, Held(self.good_on_disk()))
            case Keep(index, data):
                self.clock.plan(now_us + WRITE_US, self.write, self.starts, index, data)
            case Charge(holder, _):
                assert (holder, self.starts) not in self.charged_in, "who lied once is heard no more in this fetch"
                self.charged_in.add((holder, self.starts))
                self.charged[holder] += 1
            case Done() | Failed():
                assert self.ended is None, "one end"
                self.ended = effect

    def write(self, start: int, index: int, data: bytes) -> None:
        if start == self.starts:
            self.disk[index] = data
            self.happens(Kept(index))

    def if_alive(self, start: int, event: Event) -> None:
        if start == self.starts:
            self.happens(event)

    # --- the holders

    def ask(self, holder: Holder, ask: int, wanted: range | None) -> None:
        assert holder.is_up or holder.kind == "closer", "nobody is asked who is gone"
        holder.asks += 1
        assert wanted is None or wanted.stop <= len(self.pieces)
        self.clock.plan(self.clock.now_us + holder.delay_us, self.hear, holder, holder.life, ask, wanted)

    def hear(self, holder: Holder, life: int, ask: int, wanted: range | None) -> None:
        if life != holder.life:
            return
        draw = self.chance.random()
        if holder.kind == "busy" and draw < 0.5:
            self.tell(holder, Refused(holder.id, ask, "E-PEER-LIMIT", self.chance.choice((0, 1, 500, 1 << 40))))
        elif holder.kind == "forgetful" and draw < 0.2:
            self.tell(holder, Refused(holder.id, ask, "E-NOT-HELD"))
        elif holder.kind == "silent":
            return
        elif holder.kind == "closer" and draw < 0.15:
            self.close(holder)
        elif wanted is None:
            data = encode(self.manifest)
            self.tell(holder, ManifestTold(holder.id, ask, data[:-1] + b"?" if holder.kind == "forger" else data), size=len(data))
        else:
            for index in wanted:
                self.send_piece(holder, index, draw)

    def send_piece(self, holder: Holder, index: int, draw: float) -> None:
        data = self.pieces[index]
        if holder.kind == "liar" and draw < 0.5:
            data = bytes(len(data))
            data = data if data != self.pieces[index] else b"\xff" * len(data)
        elif holder.kind == "shortener" and draw < 0.5 and len(data) > 1:
            data = data[:-1]
        elif holder.kind == "dribbler" and self.chance.random() < 0.3:
            return
        self.sent[holder.id] += 1
        self.tell(holder, PieceCame(holder.id, index, data), size=len(data))

    def tell(self, holder: Holder, event: Event, *, size: int = 100) -> None:
        holder.free_us = max(holder.free_us, self.clock.now_us) + size * 8 // holder.mbps
        self.clock.plan(holder.free_us + holder.delay_us, self.arrive, holder, holder.life, event)

    def arrive(self, holder: Holder, life: int, event: Event) -> None:
        if life == holder.life:
            self.happens(event)

    def close(self, holder: Holder) -> None:
        holder.life += 1
        holder.is_up = False
        self.happens(HolderLost(holder.id))
        self.clock.plan(self.clock.now_us + self.chance.randrange(100_000, 3_000_000), self.come_back, holder)

    def come_back(self, holder: Holder) -> None:
        holder.is_up = True
        self.happens(HolderFound(holder.id))

    # --- what must be

    @property
    def is_done(self) -> bool:
        return isinstance(self.ended, Done)

    def check(self) -> None:
        """What holds at every end, good or bad."""
        for name in self.charged:
            assert self.holders[name].kind in EVIL, f"an honest holder was charged: {self.holders[name]}"
        assert self.most_under_way <= limits.UNDER_WAY_MAX_PIECES
        if self.is_done:
            assert self.fetch is not None
            assert self.fetch.stage is Stage.OVER
            assert [self.disk[index] for index in range(len(self.pieces))] == self.pieces
