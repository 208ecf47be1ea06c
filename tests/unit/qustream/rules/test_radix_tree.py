"""The root depends on the entries alone, and every change gives the tree that the definition gives."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.radix_memory import MemoryTree, root_by_definition

from qustream.errors import QuStreamError
from qustream.rules.radix import EMPTY_ROOT, path_of, require, value_hash
from qustream.rules.radix_tree import Known, build, check, inner, update

# Few keys, so that they are changed and deleted again; more than a bucket and than two.
KEYS = st.integers(0, 90).map(lambda number: b"key %d" % number)
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=3), max_size=60)


@given(st.lists(CHANGES, max_size=6))
@settings(max_examples=150)
def test_changing_gives_what_the_definition_gives(batches):
    tree = MemoryTree()
    for changes in batches:
        tree.apply(changes)
        assert tree.root == root_by_definition(tree.entries)
    fresh = MemoryTree()
    fresh.apply(dict(tree.entries))
    assert (fresh.root, fresh.nodes) == (tree.root, tree.nodes), "what a tree has been through is not to be seen"


@given(st.dictionaries(KEYS, st.binary(max_size=3), max_size=80), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_and_the_batches_do_not_matter(entries, chance):
    items = list(entries.items())
    chance.shuffle(items)
    tree = MemoryTree()
    while items:
        batch = [items.pop() for _ in range(min(len(items), chance.randrange(1, 9)))]
        tree.apply(dict(batch))
    assert tree.root == root_by_definition(entries)


@given(st.lists(CHANGES, max_size=8), st.sets(st.integers(0, 7)))
@settings(max_examples=100)
def test_what_is_known_changes_nothing(batches, given_up):
    """Nor what came to be known by an update that was given up, as when the disk was full."""
    tree, known = MemoryTree(), Known()
    for number, changes in enumerate(batches):
        before = set(tree.entries)
        if number in given_up:
            tree.copy().apply(changes, known)
            continue
        tree.apply(changes, known)
        assert tree.root == root_by_definition(tree.entries)
        assert sorted(tree.came) == sorted(path_of(key) for key in set(tree.entries) - before)
        assert sorted(tree.went) == sorted(path_of(key) for key in before - set(tree.entries))
    fresh = MemoryTree()
    fresh.apply(dict(tree.entries))
    assert (fresh.root, fresh.nodes) == (tree.root, tree.nodes)


def test_what_is_known_is_not_read_again_and_is_bounded(monkeypatch):
    tree, known, chance = MemoryTree(), Known(), random.Random(2)
    tree.apply({b"%d" % number: b"v" for number in range(3000)}, known)
    read: list[bytes] = []
    monkeypatch.setattr(tree, "pairs", lambda prefix, limit: read.append(prefix) or MemoryTree.pairs(tree, prefix, limit))
    tree.apply({b"17": b"w"}, known)
    assert len(read) == 1
    tree.apply({b"17": b"x"}, known)
    assert len(read) == 1
    monkeypatch.setattr("qustream.rules.radix_tree.KNOWN_NODES_MAX", 100)
    monkeypatch.setattr("qustream.rules.radix_tree.KNOWN_BUCKETS_MAX", 100)
    for _ in range(5):
        tree.apply({b"%d" % number: b"y" for number in chance.sample(range(3000), 300)}, known)
        assert len(known.nodes) <= 100 >= len(known.buckets)
    assert tree.root == root_by_definition(tree.entries)


def keys_beneath(digits: str, count: int) -> list[bytes]:
    """Keys whose paths begin alike."""
    found, number = [], 0
    while len(found) < count:
        key = b"%d" % number
        if path_of(key).hex().startswith(digits):
            found.append(key)
        number += 1
    return found


def test_a_bucket_splits_at_seventeen_and_is_one_again_at_sixteen():
    keys = keys_beneath("ab", 17)
    tree = MemoryTree()
    tree.apply(dict.fromkeys(keys[:16], b"x"))
    assert tree.nodes == {}
    tree.apply({keys[16]: b"x"})
    # Seventeen paths that begin alike: an inner node with one child at each shared nibble.
    assert {b"", b"\x0a"} == set(tree.nodes), "the lowest is not held"
    assert inner(tree, b"\x0a\x0b") is not None
    tree.apply({keys[3]: None})
    assert tree.nodes == {}
    assert tree.root == root_by_definition(tree.entries)
    tree.apply(dict.fromkeys(keys, None))
    assert tree.root == EMPTY_ROOT == root_by_definition({})


def test_a_large_tree():
    chance = random.Random(7)
    tree = MemoryTree()
    tree.apply({chance.randbytes(20): chance.randbytes(8) for _ in range(3000)})
    for _ in range(5):
        some = chance.sample(sorted(tree.entries), 300)
        changes = {key: None if chance.random() < 0.6 else chance.randbytes(4) for key in some}
        tree.apply(changes | {chance.randbytes(20): b"new" for _ in range(50)})
        assert tree.root == root_by_definition(tree.entries)
        for key in [*chance.sample(some, 20), chance.randbytes(20)]:
            require(tree.root, key, tree.entries.get(key), tree.prove(key))
    assert set(tree.nodes) == {place.prefix for place in check(tree, tree.root) if place.is_held}
    assert sum(place.entries for place in check(tree, tree.root)) == len(tree.entries)


def test_nothing_changed_is_the_same_root():
    tree = MemoryTree()
    root = tree.apply({b"a": b"1"})
    assert update(tree, root, []) == root
    assert tree.apply({b"b": None}) == root


def damaged(tree: MemoryTree, place: str) -> None:
    if place == "inner":
        prefix = sorted(tree.nodes)[-1]
        node = bytearray(tree.nodes[prefix])
        node[9] ^= 4
        tree.nodes[prefix] = bytes(node)
    elif place == "gone":
        del tree.nodes[sorted(tree.nodes)[-1]]
    else:
        pair = bytearray(tree._pairs[0])
        pair[40] ^= 1
        tree._pairs[0] = bytes(pair)


@pytest.mark.parametrize("place", ["inner", "gone", "pair"])
def test_damage_is_found_before_anything_is_built_on_it(place):
    tree = MemoryTree()
    tree.apply({b"%d" % number: b"v" for number in range(4000)})
    assert len(tree.nodes) > 2
    damaged(tree, place)
    with pytest.raises(QuStreamError) as caught:
        list(check(tree, tree.root))
    assert caught.value.code == "E-DATA-CORRUPT"
    root = tree.root
    with pytest.raises(QuStreamError) as caught:
        update(tree, root, sorted((path_of(key), value_hash(b"w")) for key in tree.entries))
    assert caught.value.code == "E-DATA-CORRUPT"


def test_a_subtree_is_built_alone():
    """What a chunk of a snapshot is checked with."""
    tree = MemoryTree()
    tree.apply({b"%d" % number: b"v" for number in range(5000)})
    part = MemoryTree()
    digest, _ = build(part, b"\x07", tree.pairs(b"\x07", 5000))
    assert part.nodes == {prefix: node for prefix, node in tree.nodes.items() if prefix[:1] == b"\x07"}
    assert part.nodes
    assert digest in tree.nodes[b""]
