"""A state in a file of its own: every chunk of the plan, and nothing else; no name, no leftovers."""

from pathlib import Path

import pytest
from support.ledger_world import LedgerWorld
from support.stored_chain import StoredChain

from qnode.store.chain import GivenState
from qustream.errors import QuStreamError
from qustream.rules import radix_plan
from qustream.rules.radix_plan import Chunk, chunks_of, open_chunk
from qustream.wire.codec import decode
from qustream.wire.snapshot import SNAPSHOT_ANSWER_MAX_BYTES, ChunkTold


def test_all_chunks_are_there_and_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radix_plan, "CHUNK_BYTES", 4096)
    chain = StoredChain(tmp_path / "chain", LedgerWorld(validators=4, people=120))
    chain.block(chain.transfer(0, 1, 5))
    with chain.store.state() as view:
        everything = dict(view.scan(b"", b"", 1 << 30))
        given = GivenState.write(tmp_path, chain.store.snapshots, view, lambda: True)
        assert (given.root, given.height) == (view.root, 1)
    chain.block(chain.transfer(0, 1, 5))  # it stays as it was
    found = {}
    for place in chunks_of(given.root, given.plan):
        told = decode(given.chunk(place.prefix), ChunkTold, max_bytes=SNAPSHOT_ANSWER_MAX_BYTES)
        open_chunk(place, Chunk(told.entries))
        found |= {entry.key: entry.value for entry in told.entries}
    assert found == everything
    assert given.size > sum(map(len, everything.values()))
    assert [path.name for path in tmp_path.iterdir()] == ["chain"]
    given.close()
    given.close()
    with pytest.raises(QuStreamError, match="E-NOT-HELD"):
        given.chunk(b"\0")
    chain.store.close()


def test_without_room_nothing_is_written(tmp_path: Path) -> None:
    chain = StoredChain(tmp_path / "chain")
    with chain.store.state() as view:
        with pytest.raises(QuStreamError, match="E-DISK-FULL"):
            GivenState.write(tmp_path, chain.store.snapshots, view, lambda: False)
        with pytest.raises(QuStreamError, match="E-FILE"):
            GivenState.write(tmp_path / "gone", chain.store.snapshots, view, lambda: True)
    chain.store.close()
