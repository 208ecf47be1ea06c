"""Conditioned bytes that wait to become units: bounded, in memory only, and always with what stands behind them.

First in, first out. When the stock is full the oldest bytes go (wiped, never handed out), so what a node gets was measured lately
even after hours without demand. The samples behind a unit are exactly the stretch from its first chunk to its last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from qrngd.pipeline import Conditioned, Measurement
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

__all__ = ["Span", "Stock", "wipe"]

_ZEROS = memoryview(bytes(UNIT_BYTES))


def wipe(data: memoryview | bytearray) -> None:
    """Overwrite with zeros."""
    view = memoryview(data)
    for start in range(0, len(view), UNIT_BYTES):
        piece = view[start : start + UNIT_BYTES]
        piece[:] = _ZEROS[: len(piece)]


@dataclass(frozen=True, slots=True)
class Span:
    """What stands behind some bytes: the device, the counters before and after their samples, when those were read (Unix ms)."""

    device: DeviceDescriptor
    before: Measurement
    after: Measurement
    start_ms: int
    end_ms: int

    def joined(self, later: Span) -> Span:
        """From the start of this span to the end of `later`: the same device, not before this one."""
        assert self.device == later.device, "a span is of one device"
        return Span(self.device, self.before, later.after, self.start_ms, max(self.end_ms, later.end_ms))


@dataclass(slots=True)
class _Chunk:
    data: memoryview
    span: Span
    used: int = 0


class Stock:
    """See the module. `capacity_bytes` holds for what is kept after `put`; one `put` may be larger and is then cut at its start."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.size_bytes = 0
        self.dropped_bytes = 0
        self._chunks: deque[_Chunk] = deque()

    @property
    def units(self) -> int:
        """Whole units in stock."""
        return self.size_bytes // UNIT_BYTES

    def put(self, conditioned: Conditioned, span: Span) -> None:
        """Take over the bytes of `conditioned`; the oldest bytes go if there are too many, all if another device made them."""
        if self._chunks and self._chunks[-1].span.device != span.device:
            self.clear()
        self._chunks.append(_Chunk(conditioned.data, span))
        self.size_bytes += len(conditioned.data)
        if self.size_bytes > self.capacity_bytes:
            self._drop(self.size_bytes - self.capacity_bytes)

    def cut(self) -> tuple[tuple[memoryview, ...], Span]:
        """The oldest `UNIT_BYTES` bytes, where they lie, and what stands behind them. There must be a whole unit in stock. The caller
        owns the pieces and wipes them."""
        assert self.units, "cut without a unit in stock"
        pieces: list[memoryview] = []
        left = UNIT_BYTES
        span: Span | None = None
        while left:
            chunk = self._chunks[0]
            piece = self._take(chunk, left)
            pieces.append(piece)
            left -= len(piece)
            span = chunk.span if span is None else span.joined(chunk.span)
        assert span is not None
        return tuple(pieces), span

    def drop_older(self, than_ms: int) -> None:
        """Throw away what was read before `than_ms`."""
        while self._chunks and self._chunks[0].span.end_ms < than_ms:
            self._drop(len(self._chunks[0].data) - self._chunks[0].used)

    def clear(self) -> None:
        """Throw everything away."""
        self._drop(self.size_bytes)

    def _drop(self, size_bytes: int) -> None:
        self.dropped_bytes += size_bytes
        while size_bytes:
            piece = self._take(self._chunks[0], size_bytes)
            wipe(piece)
            size_bytes -= len(piece)

    def _take(self, chunk: _Chunk, most: int) -> memoryview:
        """Up to `most` bytes from the front of the oldest chunk."""
        piece = chunk.data[chunk.used : chunk.used + most]
        chunk.used += len(piece)
        self.size_bytes -= len(piece)
        if chunk.used == len(chunk.data):
            self._chunks.popleft()
        return piece
