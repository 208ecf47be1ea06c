"""Rotating identifiers: the formula, the tree, the stripes."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.rules.merkle import leaf_hash, root_of_path
from qustream.rules.ruid import COUNT_MAX, ruid, ruid_tree, ruids, stripe_count, stripe_index

KEY, NONCE = bytes(range(32)), bytes(range(32, 64))


@pytest.mark.parametrize("j", [0, 1, 255, 256, COUNT_MAX - 1])
def test_the_formula(j):
    wanted = hmac.new(KEY, NONCE + j.to_bytes(4, "big"), hashlib.sha256).digest()
    assert ruid(KEY, NONCE, j) == wanted


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_the_tree_commits_to_every_identifier(count):
    tree = ruid_tree(KEY, NONCE, count)
    assert tree.size == count
    for j, each in enumerate(ruids(KEY, NONCE, count)):
        assert each == ruid(KEY, NONCE, j)
        assert root_of_path(leaf_hash(each), j, count, tree.path(j)) == tree.root


def test_everything_matters():
    assert len({ruid(KEY, NONCE, 0), ruid(KEY, NONCE, 1), ruid(NONCE, NONCE, 0), ruid(KEY, KEY, 0)}) == 4


@given(st.integers(1, 500), st.integers(1, 20))
def test_stripes_share_the_indices_out(count, stripes):
    shared = [[stripe_index(stripes, stripe, at) for at in range(stripe_count(count, stripes, stripe))] for stripe in range(stripes)]
    assert sorted(j for stripe in shared for j in stripe) == list(range(count))
    assert all(j % stripes == stripe for stripe, own in enumerate(shared) for j in own)


@pytest.mark.parametrize(("stripes", "stripe"), [(3, 3), (1, 5), (3, -1)])
def test_a_stripe_that_is_not_there_has_nothing(stripes, stripe):
    assert stripe_count(100, stripes, stripe) == 0


@pytest.mark.parametrize("j", [-1, COUNT_MAX])
def test_indices_are_bounded(j):
    with pytest.raises(ValueError, match="index"):
        ruid(KEY, NONCE, j)


@pytest.mark.parametrize("count", [0, COUNT_MAX + 1])
def test_counts_are_bounded(count):
    with pytest.raises(ValueError, match="indices"):
        ruids(KEY, NONCE, count)


@pytest.mark.parametrize(("key", "nonce"), [(b"short", NONCE), (KEY, b"short")])
def test_sizes_are_checked(key, nonce):
    with pytest.raises(ValueError, match="32 bytes"):
        ruid(key, nonce, 0)
