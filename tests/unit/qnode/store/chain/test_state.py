"""Entries and tree on the disk: as in memory, and whatever is damaged there is named."""

import random
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.radix_memory import MemoryTree, root_by_definition

from qnode.store.chain import state
from qnode.store.chain.environment import Environment
from qustream.errors import QuStreamError
from qustream.rules.radix import EMPTY_ROOT, path_of, verify
from qustream.rules.radix_tree import check, prove

KEYS = st.integers(0, 90).map(lambda number: b"\x05%d" % number)
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=3), max_size=60)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    environment = Environment.open(tmp_path_factory.mktemp("state"), 64 << 20)
    yield environment
    environment.close()


@pytest.fixture
def environment(shared):
    with shared.begin() as txn:
        state.clear(txn, shared.tables)
    return shared


def filled(environment: Environment, count: int) -> tuple[bytes, dict[bytes, bytes]]:
    entries = {b"\x05%d" % number: b"value %d" % number for number in range(count)}
    with environment.begin() as txn:
        return state.apply(txn, environment.tables, EMPTY_ROOT, entries), entries


@given(st.lists(CHANGES, max_size=5))
@settings(max_examples=60, deadline=None)
def test_it_is_what_it_would_be_in_memory(shared, batches):
    with shared.begin() as txn:
        state.clear(txn, shared.tables)
    memory, root = MemoryTree(), EMPTY_ROOT
    for changes in batches:
        with shared.begin() as txn:
            root = state.apply(txn, shared.tables, root, changes)
        memory.apply(changes)
        assert root == memory.root == root_by_definition(memory.entries)
        with shared.reading() as txn:
            found = dict(state.scan(txn, shared.tables, b"", b"", 1000))
            assert found == memory.entries
            assert list(found) == sorted(found)
            assert txn.stat(db=shared.tables.nodes)["entries"] == len(memory.nodes)
            assert state.count_lowest(txn, shared.tables) == 0
            assert dict(state.all_entries(txn, shared.tables)) == memory.entries
            for key in [*memory.entries, b"absent"]:
                assert state.get(txn, shared.tables, key) == memory.entries.get(key)
                assert prove(state.StoredTree(txn, shared.tables), root, key) == memory.prove(key)


def test_scanning(environment):
    chance = random.Random(3)
    entries = {bytes([chance.randrange(3)]) + chance.randbytes(chance.randrange(1, 4)): b"v" for _ in range(300)}
    with environment.begin() as txn:
        state.apply(txn, environment.tables, EMPTY_ROOT, entries)
    with environment.reading() as txn:
        for _ in range(200):
            prefix, after = chance.choice([b"", b"\1", b"\2", b"\1\x80"]), chance.choice([b"", b"\1", *entries])
            limit = chance.randrange(1, 50)
            expected = sorted(key for key in entries if key.startswith(prefix) and key > after)[:limit]
            assert [key for key, _ in state.scan(txn, environment.tables, prefix, after, limit)] == expected


def test_a_prefix_has_what_stands_beneath_it(environment):
    _, entries = filled(environment, 300)
    with environment.reading() as txn:
        for prefix in (b"", b"\x03", b"\x03\x07", b"\x0f\x0f", b"\x0f"):
            digits = "".join(f"{each:x}" for each in prefix)
            found = [path for path, _, _ in state.entries_beneath(txn, environment.tables, prefix)]
            assert found == sorted(path_of(key) for key in entries if path_of(key).hex().startswith(digits))


# -- damage -------------------------------------------------------------------------------------------------------------


def flipped(environment: Environment, table: str, key: bytes, bit: int) -> None:
    """One bit of a stored value is another."""
    db = getattr(environment.tables, table)
    with environment.begin() as txn:
        value = bytearray(txn.get(key, db=db))
        value[bit // 8 % len(value)] ^= 1 << bit % 8
        txn.put(key, bytes(value), db=db)


def found_damage(environment: Environment, root: bytes, keys: list[bytes]) -> set[str]:
    """How damage shows: when it is read, proved, walked through, or built on."""
    out, codes = set(), set()

    def look(name, call):
        try:
            call()
        except QuStreamError as error:
            codes.add(error.code)
            out.add(name)

    tables = environment.tables
    with environment.reading() as txn:
        look("read", lambda: [state.get(txn, tables, key) for key in keys])
        look("scanned", lambda: state.scan(txn, tables, b"", b"", 1000))
        look("walked", lambda: [list(check(state.StoredTree(txn, tables), root)), list(state.all_entries(txn, tables))])
        for key in keys:
            look("proved", lambda key=key: prove(state.StoredTree(txn, tables), root, key))
    txn = environment.begin()
    look("built on", lambda: state.apply(txn, tables, root, dict.fromkeys(keys, b"new")))
    txn.abort()
    assert codes <= {"E-DATA-CORRUPT"}
    return out


@pytest.mark.parametrize("bit", [0, 13, 100, 255, 256, 259, 264, 270, 290, 311])
def test_a_flipped_bit_of_an_entry(environment, bit):
    root, entries = filled(environment, 200)
    flipped(environment, "entries", path_of(b"\x0577"), bit)
    found = found_damage(environment, root, list(entries))
    assert "walked" in found
    assert "read" in found
    # The value hash is in the tree: nothing is built on another, nothing proved. Key and value are not, but they are read.
    assert bit >= 256 or {"proved", "built on"} <= found


@pytest.mark.parametrize("bit", [0, 16, 33, 500, 4000])
def test_a_flipped_bit_of_an_inner_node(environment, bit):
    root, entries = filled(environment, 3000)
    with environment.reading() as txn:
        nodes = [bytes(key) for key in txn.cursor(db=environment.tables.nodes).iternext(values=False)]
    assert len(nodes) > 8
    for node in (nodes[0], nodes[3], nodes[-1]):
        flipped(environment, "nodes", node, bit)
        assert {"walked", "proved", "built on"} <= found_damage(environment, root, list(entries))
        flipped(environment, "nodes", node, bit)
    assert found_damage(environment, root, list(entries)) == set()


def test_what_is_gone(environment):
    root, entries = filled(environment, 200)
    with environment.begin() as txn:
        txn.delete(path_of(b"\x0577"), db=environment.tables.entries)
    assert {"scanned", "walked", "proved", "built on"} <= found_damage(environment, root, list(entries))


def test_a_proof_is_of_what_is_stored(environment):
    root, entries = filled(environment, 500)
    with environment.reading() as txn:
        tree = state.StoredTree(txn, environment.tables)
        for key, value in entries.items():
            assert verify(root, key, value, prove(tree, root, key))
        assert verify(root, b"no", None, prove(tree, root, b"no"))


def test_a_page_that_is_damaged_is_named(tmp_path: Path):
    """LMDB's own pages: it says so itself, or a checksum of ours does; never a wrong value."""
    environment = Environment.open(tmp_path, 16 << 20)
    root, entries = filled(environment, 800)
    environment.close()
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    at = data.index(b"value 377")
    data[at] ^= 1
    (tmp_path / "data.mdb").write_bytes(data)
    environment = Environment.open(tmp_path, 16 << 20)
    assert "read" in found_damage(environment, root, list(entries))
    environment.close()


def test_lmdb_s_own_trouble_is_coded(environment):
    def broken():
        with environment.reading():
            raise lmdb.CorruptedError("a page that is none")

    with pytest.raises(QuStreamError) as caught:
        broken()
    assert caught.value.code == "E-DATA-CORRUPT"
