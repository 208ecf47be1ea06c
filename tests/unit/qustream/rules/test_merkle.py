"""RFC 6962 trees: equal to the recursive definition, and no other path leads to the root."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import PeerFault, QuStreamError
from qustream.rules.merkle import SIZE_MAX, Tree, leaf_hash, node_hash, path, root, root_of_path


def defined_root(leaves):
    """RFC 6962 §2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(defined_root(leaves[:split]), defined_root(leaves[split:]))


def defined_path(leaves, index):
    """RFC 6962 §2.1.1, word for word."""
    if len(leaves) == 1:
        return ()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return (*defined_path(leaves[:split], index), defined_root(leaves[split:]))
    return (*defined_path(leaves[split:], index - split), defined_root(leaves[:split]))


def numbered(size):
    return [b"leaf %d" % i for i in range(size)]


@pytest.mark.parametrize("size", range(40))
def test_every_small_tree_equals_the_definition(size):
    leaves = numbered(size)
    tree = Tree(leaves)
    assert tree.size == size
    assert tree.root == root(leaves) == defined_root(leaves)
    for index in range(size):
        steps = tree.path(index)
        assert steps == path(leaves, index) == defined_path(leaves, index)
        assert root_of_path(leaf_hash(leaves[index]), index, size, steps) == tree.root


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=300), st.data())
@settings(max_examples=60, deadline=None)
def test_random_trees_equal_the_definition(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    steps = path(leaves, index)
    assert steps == defined_path(leaves, index)
    assert root_of_path(leaf_hash(leaves[index]), index, len(leaves), steps) == defined_root(leaves)


def proves(leaf, index, size, steps, expected):
    try:
        return root_of_path(leaf, index, size, steps) == expected
    except PeerFault:
        return False


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 11, 33])
def test_a_path_proves_its_own_leaf_alone(size):
    leaves = numbered(size)
    tree = Tree(leaves)
    for index in range(size):
        steps = tree.path(index)
        leaf = leaf_hash(leaves[index])
        assert proves(leaf, index, size, steps, tree.root)
        for other in range(size):
            assert proves(leaf, other, size, steps, tree.root) == (other == index)
        assert not proves(leaf_hash(b"another"), index, size, steps, tree.root)
        assert not proves(leaf, index, size, (*steps, bytes(32)), tree.root)
        if steps:
            assert not proves(leaf, index, size, steps[:-1], tree.root)
            assert not proves(leaf, index, size, (steps[-1], *steps[:-1]), tree.root) or steps[-1] == steps[0]
            assert not proves(leaf, index, size, (bytes(32), *steps[1:]), tree.root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (4, 3), (0, SIZE_MAX + 1), (0, -1)])
def test_positions_outside_a_tree_are_refused(index, size):
    with pytest.raises(QuStreamError) as caught:
        root_of_path(bytes(32), index, size, ())
    assert caught.value.code == "E-PROOF"


def test_the_highest_tree_takes_32_steps():
    assert len(root_of_path(bytes(32), SIZE_MAX - 1, SIZE_MAX, [bytes(32)] * 32)) == 32
    with pytest.raises(QuStreamError):
        root_of_path(bytes(32), SIZE_MAX - 1, SIZE_MAX, [bytes(32)] * 33)


def test_an_inner_node_is_no_leaf():
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize("index", [-1, 3])
def test_no_path_of_a_leaf_that_is_not_there(index):
    with pytest.raises(IndexError):
        Tree(numbered(3)).path(index)
