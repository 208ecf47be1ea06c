"""Prefixes of paths: what stands beneath one, and how pairs are divided."""

from hypothesis import given
from hypothesis import strategies as st

from qustream.rules.radix import nibble
from qustream.rules.radix_prefix import groups, prefix_of, prefix_range

PATHS = st.binary(min_size=32, max_size=32)


@given(st.binary(max_size=6).map(lambda data: bytes(each & 15 for each in data)))
def test_the_range_of_a_prefix(prefix):
    low, last = prefix_range(prefix)
    digits = "".join(f"{each:x}" for each in prefix)
    for tail in ("0", "f"):
        assert low <= bytes.fromhex(digits.ljust(64, tail)) <= last
    number = int(digits or "0", 16)
    if digits and number + 1 < 16 ** len(digits):
        assert bytes.fromhex(f"{number + 1:0{len(digits)}x}".ljust(64, "0")) > last
    if number:
        assert bytes.fromhex(f"{number - 1:0{len(digits)}x}".ljust(64, "f")) < low


@given(PATHS, st.integers(0, 64))
def test_the_first_nibbles_of_a_path(path, depth):
    assert prefix_of(path, depth) == bytes(nibble(path, at) for at in range(depth))


@given(st.lists(PATHS, unique=True, max_size=40), st.integers(0, 4))
def test_pairs_are_divided_by_a_nibble(paths, depth):
    # As beneath one prefix: the nibbles before are the same, so that those at `depth` rise with the paths.
    pairs = sorted(
        (b"\x5a" * 4 + path)[4 - (depth >> 1) :][:32] if not depth & 1 else bytes((0xA0 | path[0] & 15,)) + path[1:] for path in paths
    )
    at = depth if not depth & 1 else 1
    found = groups(pairs, at)
    assert [pair for _, group in found for pair in group] == pairs
    assert [number for number, _ in found] == sorted({number for number, _ in found})
    assert all(nibble(pair, at) == number for number, group in found for pair in group)
