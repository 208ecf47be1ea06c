"""2-of-3 sharing: the definition by polynomial evaluation, byte by byte, against the fast form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.sharing import correction, fits, secret

PAIRS = [(1, 2), (1, 3), (2, 3)]


def times(a: int, b: int) -> int:
    """Multiplication in GF(2^8) as carry-less product and long division, unlike the source's shift-and-reduce."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def line(intercept: bytes, slope: bytes, x: int) -> bytes:
    return bytes(c ^ times(m, x) for c, m in zip(intercept, slope, strict=True))


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def test_the_reference_multiplication_is_the_one_of_fips_197() -> None:
    assert times(0x57, 0x83) == 0xC1  # FIPS 197 §4.2
    assert times(0x57, 0x13) == 0xFE


lengths = st.integers(0, 80)


@given(data=st.data(), size=lengths)
def test_any_two_shares_give_the_intercept_of_the_line(data: st.DataObject, size: int) -> None:
    intercept, slope, share3 = (data.draw(st.binary(min_size=size, max_size=size)) for _ in range(3))
    shares = {1: line(intercept, slope, 1), 2: line(intercept, slope, 2), 3: share3}
    moved = correction(shares[1], shares[2], shares[3])
    assert xor(moved, share3) == line(intercept, slope, 3)
    for i, j in PAIRS:
        assert secret({i: shares[i], j: shares[j]}, moved) == intercept
    assert fits(shares, moved)


def test_every_byte_pair_agrees_with_the_definition() -> None:
    ones = bytes(range(256)) * 256
    twos = bytes(value for value in range(256) for _ in range(256))
    threes = ones[::-1]
    moved = correction(ones, twos, threes)
    found = secret({1: ones, 2: twos}, moved)
    slope = xor(ones, found)
    assert line(found, slope, 2) == twos
    assert line(found, slope, 3) == xor(threes, moved)
    assert secret({1: ones, 3: threes}, moved) == found
    assert secret({2: twos, 3: threes}, moved) == found


def test_one_share_leaves_every_secret_possible() -> None:
    """For each single share with its public correction, all 256 values of the other share give 256 different secrets."""
    for point, other in [(1, 2), (2, 1), (3, 1)]:
        found = {secret({point: b"\x5a", other: bytes([value])}, b"\x3c") for value in range(256)}
        assert len(found) == 256


@pytest.mark.parametrize("point", [1, 2, 3])
def test_a_wrong_share_does_not_fit(point: int) -> None:
    shares = {1: b"\x01\x02", 2: b"\x03\x04", 3: b"\x05\x06"}
    moved = correction(shares[1], shares[2], shares[3])
    wrong = {**shares, point: xor(shares[point], b"\x00\x80")}
    assert not fits(wrong, moved)
    right = [p for p in (1, 2, 3) if p != point]
    assert secret({p: wrong[p] for p in right}, moved) == secret({1: shares[1], 2: shares[2]}, moved)


def test_bytearrays_serve_as_well() -> None:
    moved = correction(bytearray(b"\x01"), bytearray(b"\x02"), bytearray(b"\x03"))
    assert secret({1: bytearray(b"\x01"), 3: bytearray(b"\x03")}, bytearray(moved)) == secret({1: b"\x01", 2: b"\x02"}, moved)


@pytest.mark.parametrize("shares", [{}, {1: b"a"}, {1: b"a", 2: b"b", 3: b"c"}, {0: b"a", 1: b"b"}, {1: b"a", 4: b"b"}])
def test_a_secret_takes_exactly_two_of_the_three_points(shares: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="two shares"):
        secret(shares, b"d")


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        correction(b"ab", b"a", b"ab")
    with pytest.raises(ValueError, match="equally long"):
        secret({1: b"ab", 3: b"ab"}, b"a")
    with pytest.raises(ValueError, match="three shares"):
        fits({1: b"a", 2: b"b"}, b"c")
