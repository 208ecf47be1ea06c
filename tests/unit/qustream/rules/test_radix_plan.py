"""A state divided into chunks: whole, in bounds, and no forged chunk or plan passes."""

import random

import msgspec
import pytest
from support.radix_memory import MemoryTree

from qustream.errors import QuStreamError
from qustream.rules import radix_plan
from qustream.rules.radix import EMPTY_ROOT, children, inner_bytes, is_lowest, path_of
from qustream.rules.radix_plan import Chunk, Plan, PlanNode, StateEntry, chunks_of, divide, open_chunk
from qustream.rules.radix_tree import inner
from qustream.wire.codec import decode, encode

CHANCE = random.Random(4)


def tree_of(count: int, size: int) -> MemoryTree:
    tree = MemoryTree()
    tree.apply({b"%d" % number: CHANCE.randbytes(size) for number in range(count)})
    return tree


def divided(tree: MemoryTree) -> tuple[Plan, dict[bytes, Chunk]]:
    """As a node does."""
    ordered = sorted((path_of(key), key, value) for key, value in tree.entries.items())
    plan, prefixes = divide(((path, len(key) + len(value)) for path, key, value in ordered), lambda prefix: inner(tree, prefix) is not None)
    chunks = {}
    for prefix in prefixes:
        digits = "".join(f"{each:x}" for each in prefix)
        chunks[prefix] = Chunk(tuple(StateEntry(key, value) for path, key, value in ordered if path.hex().startswith(digits)))
    return Plan(tuple(PlanNode(prefix, inner(tree, prefix)) for prefix in plan)), chunks


LARGE = tree_of(3000, 2000)  # 6 MB: two levels of inner nodes in the plan
PLAN, CHUNKS = divided(LARGE)


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 5), (16, 1000), (17, 1000), (400, 1000), (3000, 300), (40, 17_000)])
def test_a_state_is_what_its_chunks_are(count, size):
    tree = tree_of(count, size)
    plan, chunks = divided(tree)
    places = chunks_of(tree.root, plan)
    assert [place.prefix for place in places] == list(chunks)
    found, nodes = {}, {each.prefix: each.node for each in plan.nodes if not is_lowest(each.node)}
    for place in places:
        chunk = chunks[place.prefix]
        assert len(encode(chunk)) <= radix_plan.CHUNK_MAX_BYTES
        entries, beneath = open_chunk(place, chunk)
        found |= {entry.key: entry.value for _, entry in entries}
        nodes |= beneath
    assert found == tree.entries
    assert nodes == tree.nodes


def test_chunks_are_neither_too_large_nor_too_many():
    sizes = [len(encode(chunk)) for chunk in CHUNKS.values()]
    assert max(sizes) <= radix_plan.CHUNK_BYTES
    # Halves of what fits are the worst that sixteen children can do on the average.
    assert len(sizes) <= 32 * sum(sizes) / radix_plan.CHUNK_BYTES
    assert decode(encode(PLAN), Plan, max_bytes=1 << 20) == PLAN


def refused(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    assert caught.value.code == "E-PROOF"


def bent(chunk: Chunk):
    entries = list(chunk.entries)
    first = entries[0]
    yield Chunk(tuple(entries[1:]))
    yield Chunk((StateEntry(first.key, first.value + b"x"), *entries[1:]))
    yield Chunk((StateEntry(first.key + b"x", first.value), *entries[1:]))
    yield Chunk((*entries, first))
    yield Chunk((first, *entries))
    yield Chunk(tuple(reversed(entries)))
    yield Chunk(())


def test_forged_chunks_are_refused():
    places = chunks_of(LARGE.root, PLAN)
    assert len(places) > 100
    for place in places[::10]:
        for forged in bent(CHUNKS[place.prefix]):
            refused(open_chunk, place, forged)
    refused(open_chunk, places[0], CHUNKS[places[1].prefix])


def test_forged_plans_are_refused():
    nodes = PLAN.nodes
    assert len(nodes) == 17
    some = msgspec.structs.replace(nodes[0], node=nodes[0].node[:-1] + bytes([nodes[0].node[-1] ^ 1]))
    for forged in (
        (some, *nodes[1:]),
        (*nodes, nodes[-1]),
        (*nodes, PlanNode(b"\x01\x02\x03\x04\x05", nodes[0].node)),
        nodes[1:],  # without the root's
        (PlanNode(b"", nodes[0].node[:30]),),
    ):
        refused(chunks_of, LARGE.root, Plan(tuple(forged)))
    refused(chunks_of, bytes(32), PLAN)


def test_a_plan_that_says_what_is_no_inner_node_is_one():
    """A bucket's hash with the mark of an inner node: the parent's hash says otherwise."""
    tree = tree_of(200, 2000)
    plan, _ = divided(tree)
    kept = children(plan.nodes[0].node)
    number = next(iter(kept))
    kept[number] = kept[number]._replace(deeper=not kept[number].deeper)
    refused(chunks_of, tree.root, Plan((PlanNode(b"", inner_bytes(kept)),)))


def test_nothing_at_all():
    assert chunks_of(EMPTY_ROOT, Plan(())) == []
    assert divide([], lambda prefix: False) == ([], [])
