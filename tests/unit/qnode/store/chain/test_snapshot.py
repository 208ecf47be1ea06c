"""A state given away in chunks and taken in: whole, resumable, and nothing forged."""

import msgspec
import pytest
from support.ledger_world import LedgerWorld
from support.stored_chain import StoredChain, certificate, in_first_form

from qnode.core.consensus_events import Final
from qnode.store.chain import ChainStore
from qnode.store.chain.state import StoredTree, count_lowest
from qustream.errors import QuStreamError
from qustream.rules import radix_plan, radix_tree
from qustream.rules.radix_plan import Chunk
from qustream.wire.codec import decode, encode


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A chain of some blocks, its certified state, its plan and chunks, small enough to be several."""
    chain = StoredChain(tmp_path_factory.mktemp("source") / "chain", LedgerWorld(validators=4, nodes=30, people=120))
    for number in range(6):
        chain.block(*[chain.transfer(person, (person + 1 + number) % 120, 5) for person in range(60)])
    yield chain
    chain.store.close()


@pytest.fixture
def small(monkeypatch):
    """Chunks of 4 KiB, so that there are many."""
    monkeypatch.setattr(radix_plan, "CHUNK_BYTES", 4096)


def offered(source):
    """What goes over the network: block, root, plan, chunks by prefix."""
    with source.store.certified() as view:
        plan = source.store.snapshots.plan(view)
        places = radix_plan.chunks_of(view.root, plan)
        chunks = {place.prefix: encode(source.store.snapshots.chunk(view, place.prefix)) for place in places}
        return source.blocks[view.height - 1], view.root, plan, chunks


def target_at(path, source) -> ChainStore:
    return ChainStore.open(path, source.world.genesis)


def code(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    return caught.value.code


def opened(raw: bytes) -> Chunk:
    return decode(raw, Chunk, max_bytes=radix_plan.CHUNK_MAX_BYTES)


def take_all(store, chunks):
    while missing := store.snapshots.missing(3):
        for prefix in missing:
            store.snapshots.take(prefix, opened(chunks[prefix]))


def test_a_state_comes_whole_and_the_chain_goes_on(tmp_path, source, small):
    block, root, plan, chunks = offered(source)
    assert len(chunks) > 20
    store = target_at(tmp_path / "target", source)
    store.snapshots.begin(root, block, plan)
    assert code(lambda: store.executed) == "E-NOT-HELD"
    assert code(store.state) == "E-NOT-HELD"
    assert store.certified() is None
    assert code(store.finalise([source.blocks[0]], certificate(source.blocks[0].header)).result) == "E-NOT-HELD"
    take_all(store, chunks)
    store.snapshots.finish()
    assert store.snapshots.incoming() is None
    assert (store.final.height, store.final.digest, store.final.header) == (block.header.height, block.digest, block.header)
    assert store.executed.digest == block.digest
    assert store.root(block.header.height) == root
    with store.state() as there, source.store.certified() as here:
        assert there.scan(b"", b"", 1 << 30) == here.scan(b"", b"", 1 << 30)
        for key, _ in here.scan(b"\x05", b"", 20):
            assert there.prove(key) == here.prove(key)
    # The blocks after it: the same roots as on the chain it came from.
    for later in source.blocks[block.header.height :]:
        store.finalise([later], certificate(later.header)).result()
        raws = source.store.transactions(later.ids)
        store.keep_transactions(list(raws.items())).result()
        execute_as(source, store, later)
        assert store.root(later.header.height) == source.store.root(later.header.height)
    store.close()


def execute_as(source, store, block):
    other = StoredChain.__new__(StoredChain)
    other.store, other.raws = store, source.raws
    changes, progress, done = other.changes(block)
    store.execute(changes, progress, done.receipts)


def test_a_restart_goes_on_with_what_is_missing(tmp_path, source, small):
    block, root, plan, chunks = offered(source)
    store = target_at(tmp_path / "target", source)
    store.snapshots.begin(root, block, plan)
    for _ in range(len(chunks)):
        [prefix] = store.snapshots.missing(1)
        store.snapshots.take(prefix, opened(chunks[prefix]))
        before = set(store.snapshots.missing(1000))
        store.close()
        store = target_at(tmp_path / "target", source)
        assert store.snapshots.incoming().root == root
        assert set(store.snapshots.missing(1000)) == before
    store.snapshots.finish()
    store.close()
    store = target_at(tmp_path / "target", source)
    assert store.root(block.header.height) == root
    store.close()


def test_a_forged_chunk_is_refused_when_it_comes_and_leaves_nothing(tmp_path, source, small):
    block, root, plan, chunks = offered(source)
    store = target_at(tmp_path / "target", source)
    store.snapshots.begin(root, block, plan)
    for prefix, raw in list(chunks.items())[:10]:
        good = opened(raw)
        last = good.entries[-1]
        forged = Chunk((*good.entries[:-1], msgspec.structs.replace(last, value=last.value + b"\0")))
        before = store.snapshots.missing(1000)
        assert code(store.snapshots.take, prefix, forged) == "E-PROOF"
        assert store.snapshots.missing(1000) == before
        store.snapshots.take(prefix, good)
        store.snapshots.take(prefix, forged)  # it is here already: not looked at
    take_all(store, chunks)
    store.snapshots.finish()
    with store.state() as there, source.store.certified() as here:
        assert there.scan(b"", b"", 1 << 30) == here.scan(b"", b"", 1 << 30)
    store.close()


def test_a_forged_plan_or_block_is_refused_and_genesis_stays(tmp_path, source, small):
    block, root, plan, _ = offered(source)
    store = target_at(tmp_path / "target", source)
    assert code(store.snapshots.begin, bytes(32), block, plan) == "E-PROOF"
    assert code(store.snapshots.begin, root, Final(bytes(32), block.header, block.ids), plan) == "E-PROOF"
    assert store.executed.height == 0
    with store.state() as view:
        assert view.get(b"\x02") is not None
    store.close()


def test_the_state_of_another_block_is_refused_at_the_end(tmp_path, source, small):
    _, root, plan, chunks = offered(source)
    store = target_at(tmp_path / "target", source)
    store.snapshots.begin(root, source.blocks[0], plan)
    with pytest.raises(ValueError, match="complete"):
        store.snapshots.finish()
    take_all(store, chunks)
    in_first_form(store, [])  # as if an earlier version had begun it
    assert code(store.snapshots.finish) == "E-PROOF"
    store.snapshots.abandon(source.world.genesis)
    assert not store.is_older
    assert store.executed.height == 0
    assert store.root(0) == source.store.root(0)
    store.close()
    with target_at(tmp_path / "target", source) as store:
        assert store.executed.height == 0


def test_where_there_is_a_chain_none_is_taken_in(tmp_path, source, small):
    block, root, plan, _ = offered(source)
    chain = StoredChain(tmp_path / "chain", LedgerWorld(validators=4, nodes=30, people=120))
    chain.block()
    with pytest.raises(ValueError, match="no block yet"):
        chain.store.snapshots.begin(root, block, plan)
    assert chain.store.executed.height == 1
    chain.audit()
    chain.store.close()


def test_another_snapshot_in_place_of_one_that_is_half_here(tmp_path, source, small):
    """The one that gave it has gone on, and has the old one no more: what fits the new one stays, what does not goes."""
    chain = StoredChain(tmp_path / "chain", LedgerWorld(validators=4, nodes=30, people=120))
    for number in range(4):
        chain.block(*[chain.transfer(person, (person + 1 + number) % 120, 5) for person in range(60)])
    block, root, plan, chunks = offered(chain)
    store = target_at(tmp_path / "target", chain)
    store.snapshots.begin(root, block, plan)
    for prefix in store.snapshots.missing(len(chunks) - 2):
        store.snapshots.take(prefix, opened(chunks[prefix]))
    store.snapshots.begin(root, block, plan)
    assert len(store.snapshots.missing(1000)) == 2
    for _ in range(6):
        chain.block(chain.transfer(0, 1, 5))
    later = offered(chain)
    assert later[0] != block
    old, new = dict(places_of(root, plan)), dict(places_of(later[1], later[2]))
    missing = set(store.snapshots.missing(1000))
    same = {prefix for prefix, place in new.items() if old.get(prefix) == place} - missing
    assert len(same) > 5
    store.snapshots.begin(later[1], later[0], later[2])
    assert set(store.snapshots.missing(1000)) == set(new) - same
    store.close()
    store = target_at(tmp_path / "target", chain)
    take_all(store, later[3])
    store.snapshots.finish()
    with store.state() as there, chain.store.certified() as here:
        assert there.scan(b"", b"", 1 << 30) == here.scan(b"", b"", 1 << 30)
        assert there.root == here.root
        assert store.snapshots.plan(there) == chain.store.snapshots.plan(here)
    # Nothing is left of the old one.
    with store._environment.reading() as txn, store.state() as view:
        tree = StoredTree(txn, store._environment.tables)
        inner = sum(place.is_held for place in radix_tree.check(tree, view.root))
        assert count_lowest(txn, store._environment.tables) == 0
    held = store._environment.entries()
    assert (held["entries"], held["keys"], held["nodes"]) == (len(all_of(store)), len(all_of(store)), inner)
    store.close()
    chain.store.close()


def places_of(root, plan):
    return [(place.prefix, place) for place in radix_plan.chunks_of(root, plan)]


def all_of(store):
    with store.state() as view:
        return view.scan(b"", b"", 1 << 30)


def test_a_prefix_that_is_no_chunk_is_not_given(source, monkeypatch):
    monkeypatch.setattr("qnode.store.chain.snapshot.CHUNK_MAX_BYTES", 8192)
    with source.store.certified() as view:
        assert code(source.store.snapshots.chunk, view, b"") == "E-NOT-HELD"
        assert source.store.snapshots.chunk(view, bytes(40)).entries == ()


def test_a_small_state_is_one_chunk(source):
    _, _, plan, chunks = offered(source)
    assert plan.nodes == ()
    assert list(chunks) == [b""]
