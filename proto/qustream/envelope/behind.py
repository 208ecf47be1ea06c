"""Work that follows one step behind in a second thread: hashing and writing while the cipher goes on.

Hash and file calls release the interpreter's lock, so on two cores the slower of the two threads sets the pace. The buffers go round and
round: fresh memory for every chunk would cost as much in page faults as the hash itself.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

__all__ = ["Behind", "Buffer", "Sink", "write_all"]

# Batches under way: one being filled, one being worked off, two that hide a stall of either thread.
BATCHES = 4


class Sink(Protocol):
    """Where bytes go: anything with a blocking `write` that keeps no reference to what it is given; raw files, which may write less
    than they were given, are served too."""

    def write(self, data: bytes | memoryview, /) -> int | None: ...


def write_all(sink: Sink, data: bytes | memoryview) -> None:
    """Write all of `data`."""
    written = sink.write(data)
    while written is not None and written < len(data):
        data = data[written:]
        written = sink.write(data)


class Buffer:
    """Room for `size_bytes`, filled piece by piece."""

    __slots__ = ("_data", "_view", "filled")

    def __init__(self, size_bytes: int) -> None:
        self._data = bytearray(size_bytes)
        self._view = memoryview(self._data)
        self.filled = 0

    def room(self, size_bytes: int) -> memoryview:
        """The next `size_bytes`, to be written into; they count as filled. They must fit."""
        start, end = self.filled, self.filled + size_bytes
        if end > len(self._data):
            raise ValueError("the buffer has not that much room")
        self.filled = end
        return self._view[start:end]

    def add(self, piece: bytes) -> None:
        """Copy `piece` behind what is there."""
        self.room(len(piece))[:] = piece

    def take(self) -> memoryview:
        """What was added; the buffer counts as empty again, and is overwritten by the next `add`."""
        end, self.filled = self.filled, 0
        return self._view[:end]


class Behind:
    """Hashes and writes batches, in the order given, in one other thread. `hash`: SHA-256 over all that `hashed` buffers held.

    `batch()` gives a pair of buffers, `submit` sends it off: the first is hashed, the second written (`None`: the first is written too).
    What goes wrong in the thread comes out of a later `batch` or of `finish`.
    """

    def __init__(self, sink: Sink, batch_bytes: int, *, write_hashed: bool) -> None:
        self.hash = hashlib.sha256()
        self._sink = sink
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qustream-envelope")
        self._busy: deque[tuple[Future[None], Buffer, Buffer]] = deque()
        self._free = [self._pair(batch_bytes, write_hashed) for _ in range(BATCHES)]

    @staticmethod
    def _pair(batch_bytes: int, write_hashed: bool) -> tuple[Buffer, Buffer]:
        hashed = Buffer(batch_bytes)
        return hashed, hashed if write_hashed else Buffer(batch_bytes)

    def batch(self) -> tuple[Buffer, Buffer]:
        """An empty pair of buffers; waits until there is one."""
        if not self._free:
            future, hashed, written = self._busy.popleft()
            future.result()
            return hashed, written
        return self._free.pop()

    def submit(self, hashed: Buffer, written: Buffer) -> None:
        """Send a filled pair off."""
        self._busy.append((self._pool.submit(self._work, hashed, written), hashed, written))

    def _work(self, hashed: Buffer, written: Buffer) -> None:
        data = hashed.take()
        self.hash.update(data)
        write_all(self._sink, data if written is hashed else written.take())

    def finish(self) -> bytes:
        """Wait until everything is hashed and written; return the digest."""
        while self._busy:
            future, hashed, written = self._busy.popleft()
            future.result()
            self._free.append((hashed, written))
        return self.hash.digest()

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
