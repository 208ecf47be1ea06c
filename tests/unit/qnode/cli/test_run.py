"""`qnode id` and `qnode restore`; `qnode run` is tested as a daemon (tests/integration/test_qnode_daemon.py)."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.ledger_world import PARAMETERS, genesis
from support.node import QNode
from support.qrng_server import CHAIN

from qnode.config import load_config
from qnode.daemon import open_store
from qnode.store.history import FIRST_START
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode, encode

NOBODY = ("127.0.0.1:1", bytes(32))


@pytest.fixture
def node(tmp_path: Path) -> QNode:
    return QNode(tmp_path / "node", others=[NOBODY])


def test_whose_node_it_is(node: QNode) -> None:
    assert node.command("id").out == f"{node.id}\n"
    public = base64.b64decode(node.command("id", "--public").out)
    assert decode(public, PublicKey, max_bytes=4096) == node.key.public


def test_a_backup_is_taken_over_with_its_price(node: QNode, tmp_path: Path) -> None:
    config = load_config(node.config)
    open_store(config, node.key).close()
    shutil.copytree(node.data_dir, tmp_path / "backup", ignore=shutil.ignore_patterns("slots"))
    shutil.rmtree(node.data_dir)
    shutil.copytree(tmp_path / "backup", node.data_dir)
    refused = node.command("run")
    assert (refused.code, "E-DATA-CORRUPT" in refused.err) == (78, True)
    restored = node.command("restore")
    assert restored.code == 0, restored.err
    assert "0 spent indices are remembered, grants are served from epoch 1 on" in restored.out
    with open_store(config, node.key) as store:
        assert store.floor_epoch == 1


def test_an_empty_directory_is_not_taken_for_a_new_node(node: QNode) -> None:
    config = load_config(node.config)
    open_store(config, node.key).close()
    assert not (node.data_dir / FIRST_START).exists()
    shutil.rmtree(node.data_dir)
    node.data_dir.mkdir()
    refused = node.command("run")
    assert (refused.code, "E-DATA-CORRUPT" in refused.err, "qnode restore" in refused.err) == (78, True, True)
    assert node.command("restore").code == 0
    open_store(config, node.key).close()


@pytest.fixture
def on_a_chain(node: QNode) -> Callable[[int], None]:
    """The node's network is a chain that began so many ms ago, and of which nothing is here."""

    def begin(ago_ms: int) -> None:
        document = replace(genesis(validators=1, idle=0, people=0), chain=CHAIN, time_ms=int(time.time() * 1000) - ago_ms)
        (node.folder / "genesis.bin").write_bytes(encode(document))
        kept = [line for line in node.config.read_text().splitlines() if not line.startswith("network_")]
        node.config.write_text("\n".join(['genesis_file = "genesis.bin"', *kept, ""]))

    return begin


def test_on_a_chain_that_is_not_here_any_more_epochs_go_by_the_clock(node: QNode, on_a_chain: Callable[[int], None]) -> None:
    on_a_chain(10 * PARAMETERS.epoch_ms + PARAMETERS.epoch_ms // 2)
    restored = node.command("restore")
    assert restored.code == 0, restored.err
    assert "grants are served from epoch 11 on" in restored.out  # by the chain that is here it would be the first


def test_before_the_chain_begins_no_clock_says_which_epoch_it_is(node: QNode, on_a_chain: Callable[[int], None]) -> None:
    on_a_chain(-PARAMETERS.epoch_ms)
    refused = node.command("restore")
    assert (refused.code, "E-CLOCK" in refused.err) == (78, True)


def test_a_running_nodes_directory_is_not_taken_over(node: QNode) -> None:
    with open_store(load_config(node.config), node.key):
        refused = node.command("restore")
    assert (refused.code, "E-DATA-LOCKED" in refused.err) == (78, True)
