"""`qnode id` and `qnode restore`; `qnode run` is tested as a daemon (tests/integration/test_qnode_daemon.py)."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from support.node import QNode

from qnode.config import load_config
from qnode.daemon import open_store
from qnode.store.history import FIRST_START
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode

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


def test_a_running_nodes_directory_is_not_taken_over(node: QNode) -> None:
    with open_store(load_config(node.config), node.key):
        refused = node.command("restore")
    assert (refused.code, "E-DATA-LOCKED" in refused.err) == (78, True)
