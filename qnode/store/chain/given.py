"""A state that is given to others, in a file of its own (`proto/spec/state.md` §5).

It is written once, right after the state came to be, so that no reading of the database is held for it: while one is, no page that a block
replaces is used again, and at a block a second that comes to gigabytes an hour. The file has no name: it is gone when it is closed, however
the process ends.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qnode.store.chain.snapshot import Snapshots
from qnode.store.chain.view import StateView
from qustream.errors import fault
from qustream.identity.files import file_fault
from qustream.rules.radix_plan import Plan, chunks_of
from qustream.wire.codec import encode
from qustream.wire.snapshot import ChunkTold

__all__ = ["GivenState"]

SUM_BYTES = 8  # of BLAKE2b: a damaged disk makes nobody a liar


class _Place(NamedTuple):
    """Where a chunk stands in the file."""

    offset: int
    size: int
    sum: bytes


class GivenState:
    """`write` it, `close` it. Any thread may read."""

    def __init__(self, file: int, view: StateView, plan: Plan, places: dict[bytes, _Place]) -> None:
        """Use `GivenState.write`."""
        self.root, self.height, self.plan = view.root, view.height, plan
        self._file, self._places = file, places

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(place.size for place in self._places.values())

    @classmethod
    def write(cls, directory: Path, snapshots: Snapshots, view: StateView, has_room: Callable[[], bool]) -> GivenState:
        """Blocking: looks at every entry twice. Errors: `E-DISK-FULL`, `E-FILE`, `E-NOT-HELD`, `E-DATA-CORRUPT`."""
        plan, places, offset = snapshots.plan(view), {}, 0
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                for place in chunks_of(view.root, plan):
                    if not has_room():
                        raise fault("E-DISK-FULL", f"{directory}: no room for a state that is to be given to others")
                    raw = encode(ChunkTold(snapshots.chunk(view, place.prefix).entries))
                    file.write(raw)
                    places[place.prefix] = _Place(offset, len(raw), _sum(raw))
                    offset += len(raw)
                file.flush()
                return cls(os.dup(file.fileno()), view, plan, places)
        except OSError as error:
            raise file_fault(directory, error) from None

    def chunk(self, prefix: bytes) -> bytes:
        """The encoded `ChunkTold`. Errors: `E-NOT-HELD` for a prefix that is not one of the plan's chunks; `E-DATA-CORRUPT`."""
        place = self._places.get(prefix)
        if place is None or self._file < 0:
            raise fault("E-NOT-HELD", "that is no chunk of this state")
        try:
            raw = os.pread(self._file, place.size, place.offset)
        except OSError:
            raw = b""
        if _sum(raw) != place.sum:
            raise fault("E-DATA-CORRUPT", "a chunk of a state that is given to others is not what was written")
        return raw

    def close(self) -> None:
        """The file goes. Harmless when repeated."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def _sum(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=SUM_BYTES).digest()
