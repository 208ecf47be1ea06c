"""The stock keeps the newest bytes, in order, wipes what it gives or throws away, and knows what stands behind a unit."""

from __future__ import annotations

import random

import pytest

from qrngd.pipeline import Conditioned, Measurement
from qrngd.stock import Span, Stock, wipe
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

DEVICE = DeviceDescriptor("emulator", "test", "1", 8, 8000, 0, False, True, "")


def span(number: int, device: DeviceDescriptor = DEVICE) -> Span:
    """The span of chunk `number`: ten windows and a second each."""
    before, after = Measurement(windows=10 * number), Measurement(windows=10 * number + 10)
    return Span(device, before, after, 1000 * number, 1000 * number + 1000)


def chunk(data: bytes) -> tuple[Conditioned, bytearray]:
    own = bytearray(data)
    return Conditioned(memoryview(own), 0, 0, Measurement()), own


def filled(stock: Stock, sizes: list[int], seed: int = 1) -> tuple[bytes, list[bytearray]]:
    """Put chunks of these sizes; return all their bytes and the buffers they live in."""
    whole, buffers = b"", []
    for number, size in enumerate(sizes):
        data = random.Random(seed + number).randbytes(size)
        conditioned, buffer = chunk(data)
        stock.put(conditioned, span(number))
        whole, buffers = whole + data, [*buffers, buffer]
    return whole, buffers


@pytest.mark.parametrize("sizes", [[UNIT_BYTES], [UNIT_BYTES + 1, UNIT_BYTES], [100_000] * 7, [1, UNIT_BYTES - 1], [3 * UNIT_BYTES]])
def test_units_are_the_bytes_in_order_where_they_lie(sizes: list[int]) -> None:
    stock = Stock(10 * UNIT_BYTES)
    whole, buffers = filled(stock, sizes)
    assert stock.size_bytes == len(whole)
    out = b""
    while stock.units:
        pieces, _ = stock.cut()
        out += b"".join(pieces)
        for piece in pieces:
            wipe(piece)
    assert out == whole[: len(out)]
    assert len(out) == len(whole) // UNIT_BYTES * UNIT_BYTES
    kept = b"".join(buffers)
    assert kept == bytes(len(out)) + whole[len(out) :]


def test_a_unit_knows_the_chunks_behind_it() -> None:
    stock = Stock(10 * UNIT_BYTES)
    filled(stock, [100_000] * 6)
    _, first = stock.cut()
    assert (first.before.windows, first.after.windows, first.start_ms, first.end_ms) == (0, 30, 0, 3000)
    _, second = stock.cut()  # the third chunk stands behind both
    assert (second.before.windows, second.after.windows, second.start_ms) == (20, 60, 2000)
    assert first.joined(second) == Span(DEVICE, first.before, second.after, 0, 6000)


def test_the_oldest_bytes_go_when_the_stock_is_full() -> None:
    stock = Stock(2 * UNIT_BYTES)
    whole, buffers = filled(stock, [UNIT_BYTES] * 3)
    assert stock.size_bytes == 2 * UNIT_BYTES
    assert stock.dropped_bytes == UNIT_BYTES
    assert buffers[0] == bytes(UNIT_BYTES)
    assert b"".join(stock.cut()[0]) == whole[UNIT_BYTES : 2 * UNIT_BYTES]


def test_one_chunk_larger_than_the_stock_is_cut_at_its_start() -> None:
    stock = Stock(UNIT_BYTES)
    whole, _ = filled(stock, [3 * UNIT_BYTES])
    assert b"".join(stock.cut()[0]) == whole[-UNIT_BYTES:]


def test_old_bytes_are_thrown_away() -> None:
    stock = Stock(10 * UNIT_BYTES)
    _, buffers = filled(stock, [UNIT_BYTES] * 3)
    stock.drop_older(2500)  # the first chunk ended at 1000, the second at 2000
    assert stock.units == 1
    assert buffers[0] == buffers[1] == bytes(UNIT_BYTES)
    stock.clear()
    assert stock.size_bytes == 0
    assert buffers[2] == bytes(UNIT_BYTES)


def test_bytes_of_two_devices_never_meet() -> None:
    stock = Stock(10 * UNIT_BYTES)
    filled(stock, [UNIT_BYTES - 1])
    other = DeviceDescriptor("emulator", "test", "2", 8, 8000, 0, False, True, "")
    conditioned, _ = chunk(bytes(UNIT_BYTES))
    stock.put(conditioned, span(1, other))
    assert stock.size_bytes == UNIT_BYTES
    assert stock.cut()[1].device == other
