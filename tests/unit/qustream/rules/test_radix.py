"""Proofs: what holds, and what does not however it is bent."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.radix_memory import MemoryTree

from qustream.errors import QuStreamError
from qustream.rules.radix import Proof, children, nibble, require, verify
from qustream.wire.codec import decode, encode

PROOF_MAX_BYTES = 64 * 1024


def tree_of(count: int) -> MemoryTree:
    tree = MemoryTree()
    tree.apply({b"%d" % number: b"value %d" % number for number in range(count)})
    return tree


LARGE = tree_of(1500)


@pytest.mark.parametrize("count", [0, 1, 16, 17, 300])
def test_presence_and_absence(count):
    tree = tree_of(count)
    for number in range(count + 20):
        key = b"%d" % number
        value = tree.entries.get(key)
        proof = tree.prove(key)
        assert decode(encode(proof), Proof, max_bytes=PROOF_MAX_BYTES) == proof
        assert verify(tree.root, key, value, proof)
        assert not verify(tree.root, key, b"another", proof)
        assert not verify(bytes(32), key, value, proof)
        if value is not None:
            assert not verify(tree.root, key, None, proof)
        if count:
            assert not verify(tree_of(count - 1).root, key, value, proof)


def test_absence_where_a_node_has_no_such_child():
    tree = tree_of(40)
    empty = [key for key in (b"x%d" % number for number in range(4000)) if not tree.prove(key).bucket]
    for key in empty[:20]:
        proof = tree.prove(key)
        assert verify(tree.root, key, None, proof)
        bucket = tree.prove(b"1").bucket
        assert not verify(tree.root, key, None, Proof(proof.inner, bucket))


@given(st.data())
@settings(max_examples=200)
def test_no_bent_proof_says_something_else(data):
    key = b"%d" % data.draw(st.integers(0, 1600))
    proof = LARGE.prove(key)
    parts = [*proof.inner, proof.bucket]
    which = data.draw(st.integers(0, len(parts) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "drop", "double", "foreign"]))
    if kind == "flip" and parts[which]:
        at = data.draw(st.integers(0, len(parts[which]) * 8 - 1))
        bent = bytearray(parts[which])
        bent[at // 8] ^= 1 << at % 8
        parts[which] = bytes(bent)
    elif kind == "cut":
        parts[which] = parts[which][: data.draw(st.integers(0, len(parts[which])))]
    elif kind == "drop":
        del parts[which]
    elif kind == "double":
        parts.insert(which, parts[which])
    else:
        other = LARGE.prove(b"%d" % data.draw(st.integers(0, 1600)))
        parts[which] = [*other.inner, other.bucket][min(which, len(other.inner))]
    bent_proof = Proof(tuple(parts[:-1]), parts[-1] if parts else b"")
    value = LARGE.entries.get(key)
    for claim in {None, value, b"forged"} - {value}:
        assert not verify(LARGE.root, key, claim, bent_proof)
    if bent_proof != proof and verify(LARGE.root, key, value, bent_proof):
        raise AssertionError("two proofs of one thing")


@given(st.lists(st.binary(min_size=0, max_size=600), max_size=70), st.binary(max_size=1100))
def test_anything_at_all_is_refused_with_its_code(inner, bucket):
    with pytest.raises(QuStreamError) as caught:
        require(LARGE.root, b"1", b"value 1", Proof(tuple(inner), bucket))
    assert caught.value.code == "E-PROOF"


def test_bounds_are_in_the_type():
    for proof in (Proof((bytes(600),), b""), Proof(tuple(bytes(36) for _ in range(65)), b""), Proof((), bytes(1088))):
        with pytest.raises(QuStreamError):
            decode(encode(proof), Proof, max_bytes=PROOF_MAX_BYTES)


@pytest.mark.parametrize("node", [b"", bytes(4), bytes(36), b"\x80\x00\x40\x00" + bytes(32), b"\xc0\x00\x00\x00" + bytes(32)])
def test_what_is_no_inner_node(node):
    with pytest.raises(QuStreamError) as caught:
        children(node)
    assert caught.value.code == "E-PROOF"


def test_nibbles():
    assert [nibble(b"\x12\xf0", depth) for depth in range(4)] == [1, 2, 15, 0]
