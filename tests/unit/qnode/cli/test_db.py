"""`qnode db` as whoever runs a node uses it: beside the running store, and on what is damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support.ledger_world import LedgerWorld
from support.node import QNode
from support.stored_chain import StoredChain, in_first_form, raw_of

from qnode.store.chain import ChainStore
from qnode.store.chain.environment import BODY_TABLES, TABLES, Environment, number_key

NOBODY = ("127.0.0.1:1", bytes(32))
DAEMON = 65534  # a user who is not root


@pytest.fixture
def node(tmp_path: Path) -> QNode:
    node = QNode(tmp_path / "node", others=[NOBODY])
    node.data_dir.mkdir(exist_ok=True)
    return node


def grown(node: QNode, blocks: int = 5, people: int = 6, **settings: int) -> StoredChain:
    chain = StoredChain(node.data_dir / "chain", LedgerWorld(people=people), **settings)
    for number in range(blocks):
        chain.block(*[chain.transfer(person, (person + 1 + number % 5) % 6, 5) for person in range(6)])
    return chain


def checks(node: QNode) -> dict[str, dict]:
    answer = node.command("db", "verify", "--json")
    assert (answer.code == 0) == json.loads(answer.out)["whole"]
    return {each["name"]: each for each in json.loads(answer.out)["checks"]}


def test_without_a_chain(node: QNode) -> None:
    for command in ("info", "verify", "compact"):
        answer = node.command("db", command)
        assert answer.code == 78
        assert "E-FILE" in answer.err
        assert "Traceback" not in answer.err


def test_beside_the_running_store(node: QNode) -> None:
    chain = grown(node)
    shown = json.loads(node.command("db", "info", "--json").out)
    assert (shown["final"]["height"], shown["executed"]["height"]) == (5, 5)
    assert shown["final"]["digest"] == chain.store.final.digest.hex()
    assert shown["executed"]["root"] == chain.store.root(5).hex()
    assert shown["entries"]["transactions"] == 30
    text = node.command("db", "info").out
    assert "final      5  " in text
    assert shown["genesis"] in text
    found = checks(node)
    assert {name: each["count"] for name, each in found.items()}.items() >= {"blocks": 5, "transactions": 30, "receipts": 35}.items()
    assert not any(each["faults"] for each in found.values())
    refused = node.command("db", "compact")
    assert (refused.code, "E-DATA-LOCKED" in refused.err) == (78, True)
    chain.block()
    chain.audit()
    chain.store.close()


def test_a_backup_beside_the_running_store(node: QNode, tmp_path: Path) -> None:
    chain = grown(node)
    made = node.command("db", "backup", str(tmp_path / "copy"))
    assert made.code == 0, made.err
    again = node.command("db", "backup", str(tmp_path / "copy"))
    assert (again.code, "E-FILE-EXISTS" in again.err) == (78, True)
    chain.block()
    with ChainStore.open(tmp_path / "copy", chain.world.genesis) as copy:
        assert copy.executed.height == 5
        assert copy.root(5) == chain.store.root(5)
        ids = [name for block in chain.blocks[:5] for name in block.ids]
        assert copy.transactions(ids) == {name: raw_of(chain.raws[name]) for name in ids}
    chain.store.close()


def test_compacting(node: QNode) -> None:
    chain = grown(node)
    chain.store.keep_transactions([(bytes([number]) * 32, bytes(50_000)) for number in range(100)]).result()
    bodies = chain.store._bodies._environment
    assert bodies is not None
    with bodies.begin() as txn:
        txn.drop(bodies.tables.loose, delete=False)
        for number in range(100):
            txn.delete(bytes([number]) * 32, db=bodies.tables.transactions)
    before = chain.entries()
    chain.store.close()
    sizes = json.loads(node.command("db", "compact", "--json").out)
    assert sizes["bytes_after"] * 3 < sizes["bytes_before"]
    assert sorted(path.name for path in (node.data_dir / "chain").iterdir()) == ["bodies", "data.mdb", "lock"]
    assert [path.name for path in (node.data_dir / "chain" / "bodies").iterdir()] == ["data.mdb"]
    chain.store = ChainStore.open(chain.directory, chain.world.genesis)
    assert chain.entries() == before
    chain.block()
    chain.store.close()
    assert not any(each["faults"] for each in checks(node).values())


def test_a_database_as_an_earlier_version_left_it_is_whole_and_so_is_its_backup(node: QNode, tmp_path: Path) -> None:
    chain = grown(node, people=400)
    root = chain.store.root(5)
    assert in_first_form(chain.store) > 5
    chain.store.close()
    assert not any(each["faults"] for each in checks(node).values())
    assert node.command("db", "backup", str(tmp_path / "copy")).code == 0
    chain.reopen()
    chain.block(*[chain.transfer(person, person + 1, 5) for person in range(6)])
    assert not any(each["faults"] for each in checks(node).values())
    chain.store.close()
    with ChainStore.open(tmp_path / "copy", chain.world.genesis) as copy:
        assert copy.root(5) == root


DAMAGE = {
    "blocks": ("blocks", lambda chain: number_key(3)),
    "transactions": ("transactions", lambda chain: chain.blocks[2].ids[1]),
    "receipts": ("receipts", lambda chain: number_key(2) + (3).to_bytes(4, "big")),
    "certificates": ("finals", lambda chain: number_key(1)),
    "state entries": ("entries", None),
    "state tree": ("nodes", lambda chain: b"\0"),
    "progress": ("meta", lambda chain: b"executed"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_named(node: QNode, name: str) -> None:
    chain = grown(node, people=400)  # enough that inner nodes are held
    chain.store.close()
    table, key_of = DAMAGE[name]
    apart = table == "transactions"
    environment = Environment.open(
        chain.directory / "bodies" if apart else chain.directory, 1 << 30, names=BODY_TABLES if apart else TABLES
    )
    with environment.begin() as txn:
        db = getattr(environment.tables, table)
        key = key_of(chain) if key_of else bytes(next(txn.cursor(db=db).iternext(values=False)))
        value = bytearray(txn.get(key, db=db))
        value[-1] ^= 1
        txn.put(key, bytes(value), db=db)
    environment.close()
    answer = node.command("db", "verify")
    assert answer.code == 78
    assert "Traceback" not in answer.err
    assert "E-DATA-CORRUPT" in answer.err
    assert name in answer.err
    assert f"{name:<14}" in answer.out
    assert "NOT as it should be" in answer.out


@pytest.mark.needs("root")
def test_what_root_makes_of_a_daemon_s_database_is_the_daemon_s(node: QNode) -> None:
    chain = grown(node)
    chain.store.close()
    folder = node.data_dir / "chain"
    for each in (folder, *folder.rglob("*")):
        os.chown(each, DAEMON, DAEMON)

    def others() -> set[str]:
        return {each.name for each in (folder, *folder.rglob("*")) if (each.stat().st_uid, each.stat().st_mode & 0o077) != (DAEMON, 0)}

    assert node.command("db", "compact").code == 0
    assert others() == set()
    assert node.command("db", "verify").code == 0  # which makes the table of readers anew
    assert (folder / "bodies" / "lock.mdb").exists()
    assert others() == set()
    chain.reopen()
    in_first_form(chain.store, beneath=())
    chain.store.close()
    shutil.rmtree(folder / "bodies")  # as an earlier version left it
    chain.reopen()
    chain.store.close()
    assert (folder / "bodies" / "data.mdb").exists()
    assert others() == set()


def test_pruned_bodies_are_no_fault(node: QNode) -> None:
    chain = grown(node, 9, keep_blocks=3)
    chain.store.close()
    found = checks(node)
    assert not any(each["faults"] for each in found.values())
    assert (found["blocks"]["count"], found["transactions"]["count"]) == (9, 18)


def test_what_an_entry_is_missing_from(node: QNode) -> None:
    chain = grown(node)
    chain.store.close()
    environment = Environment.open(chain.directory, 1 << 30)
    with environment.begin() as txn:
        txn.delete(b"\x02", db=environment.tables.keys)
        txn.put(b"\x05more", b"", db=environment.tables.keys)
        txn.put(b"\x01\x0e", b"\x80\x00\x80\x00" + bytes(32), db=environment.tables.nodes)
        txn.put(b"\x01\x0f", b"\x80\x00\x00\x00" + bytes(32), db=environment.tables.nodes)
    environment.close()
    found = checks(node)
    assert found["state entries"]["faults"] == ["entry 02 is not in the index of keys"]
    assert "1 inner nodes are held beneath which" in found["state tree"]["faults"][0]
    assert "1 nodes are no part of the tree" in found["state tree"]["faults"][1]
