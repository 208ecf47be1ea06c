"""The second thread: order, digest, and what goes wrong in it."""

from __future__ import annotations

import hashlib
import threading
from io import BytesIO
from pathlib import Path

import pytest

from qustream.envelope.behind import BATCHES, Behind, Buffer, write_all


def test_batches_are_hashed_and_written_in_order() -> None:
    sink, pieces = BytesIO(), [bytes([n]) * n for n in range(50)]
    with Behind(sink, 64, write_hashed=False) as behind:
        for piece in pieces:
            hashed, written = behind.batch()
            hashed.add(piece)
            written.add(b"w" + piece)
            behind.submit(hashed, written)
        digest = behind.finish()
    assert digest == hashlib.sha256(b"".join(pieces)).digest()
    assert sink.getvalue() == b"".join(b"w" + piece for piece in pieces)


def test_what_is_hashed_can_be_what_is_written() -> None:
    sink = BytesIO()
    with Behind(sink, 64, write_hashed=True) as behind:
        hashed, written = behind.batch()
        assert hashed is written
        hashed.add(b"ab")
        hashed.add(b"cd")
        behind.submit(hashed, written)
        assert behind.finish() == hashlib.sha256(b"abcd").digest()
    assert sink.getvalue() == b"abcd"


class Gate(BytesIO):
    """A sink that stands still until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        self.open.wait(60)
        return super().write(data)


def test_no_more_batches_are_under_way_than_there_are_buffers() -> None:
    sink = Gate()
    with Behind(sink, 8, write_hashed=True) as behind:
        for n in range(BATCHES):
            hashed, written = behind.batch()
            hashed.add(bytes([n]))
            behind.submit(hashed, written)
        waiting = threading.Thread(target=behind.batch)
        waiting.start()
        assert sink.getvalue() == b""
        sink.open.set()
        waiting.join(60)
        assert not waiting.is_alive()
        assert sink.getvalue()[:1] == b"\x00"


class Full(BytesIO):
    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        raise OSError(28, "No space left on device")


def test_a_failing_sink_is_heard_of_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())

    def fill() -> None:
        with Behind(Full(), 8, write_hashed=True) as behind:
            for _ in range(BATCHES + 1):
                hashed, written = behind.batch()
                hashed.add(b"x")
                behind.submit(hashed, written)
            behind.finish()

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert not set(threading.enumerate()) - before


def test_a_buffer_is_filled_and_taken(tmp_path: Path) -> None:
    buffer = Buffer(4)
    buffer.add(b"ab")
    buffer.add(b"cd")
    assert buffer.filled == 4
    with pytest.raises(ValueError, match="not that much room"):
        buffer.add(b"e")
    assert bytes(buffer.take()) == b"abcd"
    assert buffer.filled == 0
    buffer.add(b"x")
    assert bytes(buffer.take()) == b"x"


class Drop(BytesIO):
    """Takes two bytes at once, like a raw file that is nearly full."""

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        return super().write(bytes(data[:2]))


def test_short_writes_are_gone_on_with() -> None:
    sink = Drop()
    write_all(sink, b"abcde")
    write_all(sink, memoryview(b"fgh"))
    assert sink.getvalue() == b"abcdefgh"
