"""Fetching an object in pieces from several peers (`proto/spec/bulk.md`, §4).

`step(state, event, now_ms) -> effects`. Theory of operation. A fetch passes through

    MANIFEST ──good manifest──▶ LOOKING ──Held──▶ FETCHING ──all kept──▶ OVER
        └──────────────── nobody left to ask ───────────┴──────────────▶ OVER

and each piece through FREE ──asked──▶ ASKED ──came, hash good──▶ WRITING ──Kept──▶ HELD. A piece that does not come falls back to FREE and
is asked elsewhere. Every piece stands for itself: it is checked against the manifest, which is checked against the object's id, so it
does not matter who sent it, or when.

A *holder* has a window of asks, which grows with every ask that it fulfils. It is given back what it does not deliver: at once if it
refuses or goes, after a while if it is silent (a *strike*; three and it is out). What is not true costs it the fetch, and is charged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from enum import Enum

from qnode.core import bulk_limits as limits
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
from qustream.errors import PeerFault, QuStreamError
from qustream.wire.bulk import OBJECT_MAX_BYTES, PIECES_ASKED_MAX, Manifest, checked_manifest, piece_bytes

__all__ = ["Fetch", "Stage", "step"]


class Stage(Enum):
    """Where a fetch is."""

    MANIFEST = "manifest"
    LOOKING = "looking"
    FETCHING = "fetching"
    OVER = "over"


class Piece(Enum):
    """Where a piece is."""

    FREE = "free"
    ASKED = "asked"
    WRITING = "writing"
    HELD = "held"


class _Run:
    """An ask for pieces that is under way: what of it has not come, and since when nothing has."""

    __slots__ = ("asked_ms", "left")

    def __init__(self, left: set[int], now_ms: int) -> None:
        self.left, self.asked_ms = left, now_ms


class _Holder:
    """A peer that has the object."""

    __slots__ = ("heard_ms", "id", "rest_until_ms", "runs", "window")

    def __init__(self, name: bytes) -> None:
        self.id = name
        self.runs: dict[int, _Run] = {}
        self.window = limits.WINDOW_MIN_ASKS
        self.heard_ms = 0
        self.rest_until_ms = 0

    def is_stalled(self, now_ms: int) -> bool:
        return any(now_ms - max(run.asked_ms, self.heard_ms) >= limits.STALL_MS for run in self.runs.values())


class Fetch:
    """The state of one fetch. Use `step`; the properties are for displays and tests."""

    def __init__(self, name: bytes, now_ms: int, *, manifest: Manifest | None = None, most_bytes: int = OBJECT_MAX_BYTES) -> None:
        """`name`: the object's id. `manifest`: if it is known from an earlier attempt; then `Held` is the first event. `most_bytes`: what
        is larger is not fetched."""
        self.name = name
        self.manifest = manifest
        self.stage = Stage.LOOKING if manifest else Stage.MANIFEST
        self._most_bytes = most_bytes
        self._holders: dict[bytes, _Holder] = {}
        self._banned: set[bytes] = set()
        self._strikes: dict[bytes, int] = {}
        self._pieces: list[Piece] = []
        self._free_from = 0  # no piece before this one is free
        self._unkept = 0
        self._under_way = 0
        self._asks = 0
        self._asked_manifest: tuple[bytes, int, int] | None = None  # whom, ask, when
        self._hopeful_ms = now_ms  # when there was last somebody to ask
        self._reason = "E-PEER-CLOSED"  # why there is nobody
        self._out: list[Effect] = []

    @property
    def holders(self) -> list[bytes]:
        """Who may be asked."""
        return list(self._holders)

    @property
    def missing(self) -> int:
        """Pieces that are not on the disk."""
        return self._unkept

    @property
    def under_way(self) -> int:
        """Pieces asked for or being written, each ask counted."""
        return self._under_way

    # --- holders

    def holder_found(self, event: HolderFound, now_ms: int) -> None:
        name = event.holder
        if name in self._holders or name in self._banned or len(self._holders) >= limits.HOLDERS_MAX:
            return
        self._holders[name] = _Holder(name)
        self._hopeful_ms = now_ms
        self._ask_on(now_ms)

    def holder_lost(self, event: HolderLost, now_ms: int) -> None:
        self._leave(event.holder, "E-PEER-CLOSED", now_ms)

    def _leave(self, name: bytes, reason: str, now_ms: int) -> None:
        holder = self._holders.pop(name, None)
        if holder is None:
            return
        self._give_back(holder)
        self._reason = reason
        if self._asked_manifest and self._asked_manifest[0] == name:
            self._asked_manifest = None
        self._hopeful_ms = now_ms
        self._ask_on(now_ms)

    def _ban(self, name: bytes, reason: str, now_ms: int) -> None:
        if name in self._holders:
            self._banned.add(name)
            self._leave(name, reason, now_ms)

    def _charge(self, name: bytes, code: str, now_ms: int) -> None:
        self._out.append(Charge(name, code))
        self._ban(name, code, now_ms)

    def _strike(self, holder: _Holder, now_ms: int) -> None:
        self._strikes[holder.id] = self._strikes.get(holder.id, 0) + 1
        holder.window = limits.WINDOW_MIN_ASKS
        holder.rest_until_ms = now_ms + limits.REST_MS
        self._give_back(holder)
        if self._strikes[holder.id] >= limits.STRIKES_MAX:
            self._ban(holder.id, "E-DEADLINE", now_ms)

    def _give_back(self, holder: _Holder) -> None:
        for ask in list(holder.runs):
            self._end_run(holder, ask)

    def _end_run(self, holder: _Holder, ask: int) -> None:
        run = holder.runs.pop(ask)
        self._under_way -= len(run.left)
        for index in run.left:
            if self._pieces[index] is Piece.ASKED and not self._askers(index):
                self._pieces[index] = Piece.FREE
                self._free_from = min(self._free_from, index)

    def _askers(self, index: int) -> int:
        return sum(index in run.left for holder in self._holders.values() for run in holder.runs.values())

    # --- answers

    def refused(self, event: Refused, now_ms: int) -> None:
        holder = self._holders.get(event.holder)
        if holder is None:
            return
        is_manifest = self._asked_manifest is not None and self._asked_manifest[:2] == (event.holder, event.ask)
        if not is_manifest and event.ask not in holder.runs:
            return  # it was given up before
        if is_manifest:
            self._asked_manifest = None
        else:
            self._end_run(holder, event.ask)
        if event.code == "E-PEER-LIMIT":
            rest_ms = min(max(event.retry_after_ms or limits.REST_MS, limits.REST_MIN_MS), limits.REST_MAX_MS)
            holder.rest_until_ms = now_ms + rest_ms
            holder.window = max(limits.WINDOW_MIN_ASKS, holder.window - 1)
        elif event.code == "E-DEADLINE":
            self._strike(holder, now_ms)
        elif event.code == "E-PEER-CLOSED":
            self._leave(holder.id, event.code, now_ms)  # it may come back
        else:
            self._ban(holder.id, event.code, now_ms)
        self._ask_on(now_ms)

    def manifest_told(self, event: ManifestTold, now_ms: int) -> None:
        if self.stage is not Stage.MANIFEST or event.holder not in self._holders:
            return
        try:
            manifest = checked_manifest(event.data, self.name)
        except QuStreamError as error:
            self._charge(event.holder, error.code if isinstance(error, PeerFault) else "E-ANSWER-INVALID", now_ms)
            return
        self._asked_manifest = None
        if manifest.size > self._most_bytes:
            self._end(Failed("E-WIRE-OVERSIZE"))
            return
        self.manifest, self.stage = manifest, Stage.LOOKING
        self._out.append(Begin(manifest))

    def held(self, event: Held, now_ms: int) -> None:
        assert self.stage is Stage.LOOKING, "the disk is looked at once"
        assert self.manifest is not None
        self.stage = Stage.FETCHING
        self._pieces = [Piece.HELD if index in event.pieces else Piece.FREE for index in range(len(self.manifest.pieces))]
        self._unkept = self._pieces.count(Piece.FREE)
        self._hopeful_ms = now_ms
        self._ask_on(now_ms)

    def piece_came(self, event: PieceCame, now_ms: int) -> None:
        holder, index = self._holders.get(event.holder), event.index
        if holder is None or self.stage is not Stage.FETCHING or self.manifest is None:
            return
        holder.heard_ms = now_ms
        if not self._is_good(index, event.data):
            self._charge(event.holder, "E-ANSWER-INVALID", now_ms)
            return
        self._came(holder, index)
        if self._pieces[index] in (Piece.FREE, Piece.ASKED):
            self._pieces[index] = Piece.WRITING
            self._under_way += 1
            self._out.append(Keep(index, event.data))
        self._ask_on(now_ms)

    def _is_good(self, index: int, data: bytes) -> bool:
        assert self.manifest is not None
        if index >= len(self._pieces) or len(data) != piece_bytes(self.manifest, index):
            return False
        return hashlib.sha256(data).digest() == self.manifest.pieces[index]

    def _came(self, holder: _Holder, index: int) -> None:
        """Strike the piece off what this holder owes; one that has fulfilled an ask may have one more under way."""
        for ask, run in holder.runs.items():
            if index in run.left:
                run.left.remove(index)
                self._under_way -= 1
                if not run.left:
                    del holder.runs[ask]
                    holder.window = min(limits.WINDOW_MAX_ASKS, holder.window + 1)
                return

    def kept(self, event: Kept, now_ms: int) -> None:
        assert self._pieces[event.index] is Piece.WRITING, "only what was to be kept is kept"
        self._pieces[event.index] = Piece.HELD
        self._under_way -= 1
        self._unkept -= 1
        self._ask_on(now_ms)

    # --- time

    def ticked(self, _event: Ticked, now_ms: int) -> None:
        for holder in list(self._holders.values()):
            if holder.is_stalled(now_ms):
                self._strike(holder, now_ms)
        if self._asked_manifest and now_ms - self._asked_manifest[2] >= limits.MANIFEST_MS:
            silent, self._asked_manifest = self._holders[self._asked_manifest[0]], None
            self._strike(silent, now_ms)
        if self._holders or self.stage is Stage.LOOKING or Piece.WRITING in self._pieces:
            self._hopeful_ms = now_ms
        elif now_ms - self._hopeful_ms >= limits.STARVED_MS:
            self._end(Failed(self._reason))
        self._ask_on(now_ms)

    # --- asking

    def _ask_on(self, now_ms: int) -> None:
        if self.stage is Stage.MANIFEST and self._asked_manifest is None:
            self._ask_manifest(now_ms)
        elif self.stage is Stage.FETCHING:
            if not self._unkept:
                self._end(Done())
            else:
                self._ask_pieces(now_ms)

    def _ask_manifest(self, now_ms: int) -> None:
        ready = [holder for holder in self._holders.values() if now_ms >= holder.rest_until_ms]
        if ready:
            holder = min(ready, key=lambda each: self._strikes.get(each.id, 0))
            self._asks += 1
            self._asked_manifest = (holder.id, self._asks, now_ms)
            self._out.append(AskManifest(holder.id, self._asks))

    def _ask_pieces(self, now_ms: int) -> None:
        """One ask for everybody who may have one more, in turn, until nobody may or nothing is left to ask for."""
        ready = [holder for holder in self._holders.values() if now_ms >= holder.rest_until_ms]
        while ready:
            ready = [holder for holder in ready if len(holder.runs) < holder.window and self._asked_one(holder, now_ms)]

    def _asked_one(self, holder: _Holder, now_ms: int) -> bool:
        room = min(PIECES_ASKED_MAX, limits.UNDER_WAY_MAX_PIECES - self._under_way)
        wanted = self._free_run(room) or self._late_run(holder, room, now_ms)
        if not wanted:
            return False
        self._asks += 1
        holder.runs[self._asks] = _Run(set(wanted), now_ms)
        self._under_way += len(wanted)
        for index in wanted:
            self._pieces[index] = Piece.ASKED
        self._out.append(AskPieces(holder.id, self._asks, wanted[0], len(wanted)))
        return True

    def _free_run(self, most: int) -> list[int]:
        """The first free pieces that stand together."""
        pieces = self._pieces
        while self._free_from < len(pieces) and pieces[self._free_from] is not Piece.FREE:
            self._free_from += 1
        return list(_together(range(self._free_from, len(pieces)), lambda index: pieces[index] is Piece.FREE, most))

    def _late_run(self, holder: _Holder, most: int, now_ms: int) -> list[int]:
        """When nothing is free: pieces that another holder has kept us waiting for, so that the slowest does not decide the end."""
        late = {
            index
            for other in self._holders.values()
            for run in other.runs.values()
            if other is not holder and now_ms - run.asked_ms >= limits.SECOND_ASK_MS
            for index in run.left
            if self._pieces[index] is Piece.ASKED and self._askers(index) < limits.ASKERS_MAX
        }
        late -= {index for run in holder.runs.values() for index in run.left}
        return list(_together(range(min(late), len(self._pieces)), late.__contains__, most)) if late else []

    # --- the end

    def _end(self, effect: Effect) -> None:
        if self.stage is not Stage.OVER:
            self.stage = Stage.OVER
            self._out.append(effect)

    def take_effects(self) -> list[Effect]:
        """The effects of the last event, in order."""
        out, self._out = self._out, []
        return out


def _together(indices: range, wanted: Callable[[int], bool], most: int) -> Iterator[int]:
    for count, index in enumerate(indices):
        if count >= most or not wanted(index):
            return
        yield index


_HANDLERS: dict[type, Callable[..., None]] = {
    HolderFound: Fetch.holder_found,
    HolderLost: Fetch.holder_lost,
    ManifestTold: Fetch.manifest_told,
    Refused: Fetch.refused,
    Held: Fetch.held,
    PieceCame: Fetch.piece_came,
    Kept: Fetch.kept,
    Ticked: Fetch.ticked,
}


def step(state: Fetch, event: Event, now_ms: int) -> list[Effect]:
    """Take an event; return what it leads to, in order. After the end nothing follows from anything."""
    if state.stage is not Stage.OVER:
        _HANDLERS[type(event)](state, event, now_ms)
    return state.take_effects()
