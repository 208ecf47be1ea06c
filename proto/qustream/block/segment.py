"""What the block seed fixes for each segment: marker, mask and the suffix that ties a segment to its place (spec §3)."""

from __future__ import annotations

import hashlib

from qustream.block.layout import LOCATION_BITS, SEGMENTS

__all__ = ["CHECK_BITS", "MARKER_BITS", "ORDER_BITS", "SIZE_BITS", "SUFFIX_BITS", "SegmentKeys"]

MARKER_BITS = 64  # 18 of them at any bit offset of a block: a chance occurrence once in 2^38 blocks
ORDER_BITS, SIZE_BITS, CHECK_BITS = 5, 7, 7
SUFFIX_BITS = LOCATION_BITS + ORDER_BITS + SIZE_BITS + CHECK_BITS  # 40

# RFC 2104 for SHA-512: the key, filled up to 128 bytes, under each of two pads.
_SHA512_INPUT_BYTES = 128  # what SHA-512 takes at a time
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))

_SIZE_SHIFT = CHECK_BITS
_ORDER_SHIFT = _SIZE_SHIFT + SIZE_BITS
_LOCATION_SHIFT = _ORDER_SHIFT + ORDER_BITS


class SegmentKeys:
    """The markers (64 bits) and masks (40 bits) of the 18 segments of one block seed, and the suffixes made with them.

    Lives as long as one call of build or open. Has no useful repr, so that none can leak the seed.
    """

    __slots__ = ("_inner", "_outer", "markers", "masks")

    def __init__(self, block_seed: bytes) -> None:
        # HMAC spelled out, so that the padded keys are hashed once for all 36 uses: less than half the time of `hmac.digest`.
        padded = block_seed.ljust(_SHA512_INPUT_BYTES, b"\0")
        self._inner = hashlib.sha512(padded.translate(_INNER_PAD))
        self._outer = hashlib.sha512(padded.translate(_OUTER_PAD))
        self.markers: list[int] = []
        self.masks: list[int] = []
        for index in range(SEGMENTS):
            digest = self._digest(b"qustream/1/block" + bytes((index,)))
            self.markers.append(int.from_bytes(digest[:8], "big"))
            self.masks.append(int.from_bytes(digest[8:13], "big"))

    def _digest(self, message: bytes) -> bytes:
        """Return HMAC-SHA-512(block seed, message)."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def suffix(self, index: int, size_bits: int, location: int) -> int:
        """Return the 40-bit suffix P of a segment: location, order, size and check, masked."""
        digest = self._digest(b"qustream/1/check" + bytes((index,)) + location.to_bytes(3, "big") + bytes((size_bits,)))
        check = digest[-1] & ((1 << CHECK_BITS) - 1)
        return (location << _LOCATION_SHIFT | index << _ORDER_SHIFT | size_bits << _SIZE_SHIFT | check) ^ self.masks[index]

    def claimed_location(self, index: int, suffix: int) -> int:
        """Return the location that a suffix of segment `index` claims."""
        return (suffix ^ self.masks[index]) >> _LOCATION_SHIFT
