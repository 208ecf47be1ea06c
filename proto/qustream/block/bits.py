"""Reading and joining runs of bits, most significant first: bit 0 of a byte string is the top bit of its byte 0."""

from __future__ import annotations

import io

__all__ = ["BitJoiner", "read_bits"]

_RUN_BYTES = 32_768  # temporaries of this size stay in the allocator's warm memory; larger ones cost a page fault every 4 KiB


def read_bits(source: bytes, start: int, count: int) -> int:
    """Return bits `start` … `start + count - 1` of `source` as one unsigned integer. The caller keeps them inside `source`."""
    end = start + count
    assert 0 <= start <= end <= 8 * len(source)
    window = int.from_bytes(source[start >> 3 : (end + 7) >> 3], "big")
    return window >> (-end & 7) & ((1 << count) - 1)


class BitJoiner:
    """Joins runs of bits end to end. Short runs gather in an integer until a long one sends their whole bytes out.

    A long run is moved as one big integer, shifted once by the number of bits carried: that is the fastest shift the standard
    library has, and linear in the length of the run.
    """

    __slots__ = ("_carry", "_carry_bits", "_out", "_size_bytes")

    def __init__(self, size_bytes: int) -> None:
        # One buffer of the final size, which BytesIO gives away without a copy: growing it, or joining a list of parts,
        # costs fresh pages and half as much time again.
        self._size_bytes = size_bytes
        self._out = io.BytesIO()
        self._out.seek(size_bytes - 1)
        self._out.write(b"\0")
        self._out.seek(0)
        self._carry = 0
        self._carry_bits = 0

    def put(self, value: int, count: int) -> None:
        """Append the low `count` bits of `value`, which must fit in them. For short runs."""
        self._carry = self._carry << count | value
        self._carry_bits += count

    def _flush(self) -> None:
        """Send the whole bytes of the carry out; at most 7 bits stay."""
        spare = self._carry_bits & 7
        self._out.write((self._carry >> spare).to_bytes(self._carry_bits >> 3, "big"))
        self._carry &= (1 << spare) - 1
        self._carry_bits = spare

    def copy(self, source: bytes, start: int, end: int) -> None:
        """Append bits `start` … `end - 1` of `source`: the bits up to a byte boundary, whole bytes, the bits after the last."""
        first, last = (start + 7) >> 3, end >> 3
        if first >= last:
            self.put(read_bits(source, start, end - start), end - start)
            return
        if start & 7:
            self.put(source[first - 1] & 0xFF >> (start & 7), -start & 7)
        self._flush()
        shift = self._carry_bits
        if not shift:
            self._out.write(source[first:last])
            first = last
        for at in range(first, last, _RUN_BYTES):
            chunk = source[at : min(at + _RUN_BYTES, last)]
            run = int.from_bytes(bytes((self._carry,)) + chunk, "big")
            self._out.write((run >> shift).to_bytes(len(chunk), "big"))
            self._carry = chunk[-1] & ((1 << shift) - 1)
        if end & 7:
            self.put(source[last] >> (-end & 7), end & 7)

    def finish(self) -> bytes:
        """Return everything joined, which must be `size_bytes` bytes."""
        self._flush()
        assert self._carry_bits == 0
        assert self._out.tell() == self._size_bytes
        return self._out.getvalue()
