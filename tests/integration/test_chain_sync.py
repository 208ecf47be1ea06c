"""Real nodes that come to the chain late: a follower that is killed meanwhile, and a validator that was away for rotations."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chain_circle import ChainCircle, ChainNodeProcess, fast

from qnode.service.chain_node import FOLDER
from qnode.store.chain import ChainStore

pytestmark = pytest.mark.e2e

ROTATION_MS = 8_000


def store_of(node: ChainNodeProcess, circle: ChainCircle) -> ChainStore:
    return ChainStore.open(node.data_dir / FOLDER, circle.genesis)


def test_who_comes_late_comes_to_the_same_state_through_kills_and_rotations(tmp_path: Path) -> None:
    with ChainCircle(tmp_path, 4, followers=1, parameters=fast(rotation_ms=ROTATION_MS, idle_ms=400)) as circle:
        follower, away = circle.nodes[4], circle.nodes[3]
        circle.start(0, 1, 2, 3)
        circle.until_height(5)
        away.kill()
        circle.until(lambda node: node.ledger.rotation >= 4, circle.nodes[:3])
        for _ in range(2):  # killed as soon as it has some of it
            before = follower.height if follower.process is not None else 0
            follower.start()
            circle.until(lambda node, before=before: node.height > before, [follower])
            follower.kill()
        away.start()
        follower.start()
        head = circle.nodes[0].height
        circle.until_height(head + 5, circle.nodes)
        signed = away.ledger.voting.signed
        circle.until(lambda node: node.ledger.voting.signed > signed, [away])  # it votes again
        for node in circle.nodes:
            assert node.stop() == 0
        with store_of(follower, circle) as one, store_of(circle.nodes[0], circle) as other, store_of(away, circle) as third:
            height = min(one.executed.height, other.executed.height, third.executed.height)
            assert height >= head + 5
            assert one.root(height) == other.root(height) == third.root(height)
            assert one.root(height) is not None
