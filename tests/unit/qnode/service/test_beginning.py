"""What a chain begins with, in memory: the same as on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ledger_world import LedgerWorld

from qnode.service.beginning import Beginning
from qnode.service.registry import ChainRegistry
from qnode.store.chain import ChainStore
from qustream.model.network import NodeClass


@pytest.fixture(scope="module")
def world() -> LedgerWorld:
    return LedgerWorld(validators=4, nodes=3)


def test_it_is_what_a_store_begins_with(world: LedgerWorld, tmp_path: Path) -> None:
    beginning = Beginning(world.genesis)
    with ChainStore.open(tmp_path, world.genesis) as store, store.state() as view:
        everything = view.scan(b"", b"", 1 << 20)
        assert beginning.scan(b"", b"", 1 << 20) == everything
        for prefix, after, limit in ((b"\x05", b"", 3), (b"\x05", everything[5][0], 100), (b"\x06", b"\xff", 9), (b"\xff", b"", 9)):
            assert beginning.scan(prefix, after, limit) == view.scan(prefix, after, limit)
        assert beginning.get(everything[0][0]) == everything[0][1]
        assert beginning.get(b"nothing") is None


def test_a_registry_knows_from_it_who_belongs_to_the_network(world: LedgerWorld) -> None:
    registry = ChainRegistry(lambda: Beginning(world.genesis), world.genesis)
    assert len([*registry.nodes(NodeClass.FOUNDATION), *registry.nodes(NodeClass.COMMUNITY)]) == 7
    registry.close()
