"""2-of-3 sharing over GF(2^8) (`proto/spec/keys.md`, "Class secret").

Byte by byte, a line f over GF(2^8) (polynomial x^8 + x^4 + x^3 + x + 1) runs through f(1) = share 1 and f(2) = share 2: the
shares *are* what the first two blocks give, and share 3, which is equally random, is moved onto the line by a public
correction. Any two shares give the secret f(0); one share, with the correction, leaves every secret equally likely.
(A. Shamir, "How to share a secret", 1979, with two coordinates given instead of drawn.)

Speed: multiplication by a constant is one `bytes.translate` through a 256-byte table and addition is one XOR of big
integers, so a 192 KiB share takes about a millisecond and 64 bytes take microseconds. Both leave copies in memory that the
interpreter frees but does not overwrite.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["POINTS", "THRESHOLD", "add", "correction", "fits", "secret"]

POINTS = (1, 2, 3)  # three nodes of a class
THRESHOLD = 2  # any two of them
_POLYNOMIAL = 0x11B  # AES's field, for which every language has tables


def _times(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= _POLYNOMIAL
        b >>= 1
    return product


def _inverse(a: int) -> int:
    return next(b for b in range(1, 256) if _times(a, b) == 1)


def _table(at: int, own: int, other: int) -> bytes:
    """The Lagrange coefficient at x = `at` of point `own` against point `other`, as a multiplication table."""
    factor = _times(at ^ other, _inverse(own ^ other))
    return bytes(_times(factor, value) for value in range(256))


_TABLES = {(at, own, other): _table(at, own, other) for at in (0, 1, 2, 3) for own in POINTS for other in POINTS if own != other}


def add(a: bytes | bytearray, b: bytes | bytearray) -> bytes:
    """Return a ⊕ b, the sum in the field byte by byte. `ValueError` unless they are equally long."""
    if len(a) != len(b):
        raise ValueError("shares and correction of one class are equally long")
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


def _value(at: int, points: tuple[int, int], shares: tuple[bytes | bytearray, bytes | bytearray]) -> bytes:
    """f(`at`) of the line through two points."""
    (i, j), (a, b) = points, shares
    return add(a.translate(_TABLES[at, i, j]), b.translate(_TABLES[at, j, i]))


def correction(share1: bytes | bytearray, share2: bytes | bytearray, share3: bytes | bytearray) -> bytes:
    """Return share3 ⊕ f(3), which is public; all of one length. `ValueError` if they are not."""
    return add(share3, _value(3, (1, 2), (share1, share2)))


def secret(shares: Mapping[int, bytes | bytearray], correction3: bytes | bytearray) -> bytes:
    """Return f(0) from exactly two of the shares, by point (1, 2 or 3), and the correction of share 3; all of one length.

    `ValueError` on anything else: whoever has three shares chooses two, and `fits` tells whether the third agrees.
    """
    if len(shares) != THRESHOLD or not set(shares) <= set(POINTS):
        raise ValueError("two shares at points 1, 2, 3 make a secret")
    (i, a), (j, b) = sorted(shares.items())
    if j == 3:
        b = add(b, correction3)
    return _value(0, (i, j), (a, b))


def fits(shares: Mapping[int, bytes | bytearray], correction3: bytes | bytearray) -> bool:
    """Whether all three shares, the third corrected, stand on one line. `ValueError` unless there are exactly three."""
    if set(shares) != set(POINTS):
        raise ValueError("three shares at points 1, 2, 3 are compared")
    return correction(shares[1], shares[2], shares[3]) == correction3
