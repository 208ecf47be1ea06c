"""A genesis and blocks against the published vectors, which another implementation executed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.ledger_world import MemoryReader

from qnode.core.ledger.block import Checked, execute
from qnode.core.ledger.genesis import begin
from qnode.core.ledger.state import State
from qustream.model.genesis import Genesis
from qustream.model.ids import account_id
from qustream.model.keys import PublicKey
from qustream.model.receipt import Receipt
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import ChainHeader, header_digest
from qustream.wire.transactions import Body, Transaction, transaction_id

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "proto/vectors/ledger.json").read_text())
GENESIS = decode(bytes.fromhex(VECTORS["genesis"]), Genesis, max_bytes=1 << 20)


def shown(value: bytes | None) -> str | None:
    if value is None:
        return None
    return value.hex() if len(value) <= 256 else "sha256:" + hashlib.sha256(value).hexdigest()


def listed(receipt: Receipt) -> list[Any]:
    events = [[event.name, event.subject.hex(), event.other.hex(), event.amount] for event in receipt.events]
    return [receipt.id.hex(), receipt.code, receipt.fee, events]


def checked_of(vector: dict[str, Any]) -> Checked:
    has = None if vector["key"] is None else PublicKey(bytes([vector["key"]]) * 32, bytes([vector["key"]]) * 1952)
    raw = encode(Transaction(bytes.fromhex(vector["body"]), has, bytes(3373)))
    assert transaction_id(raw).hex() == vector["id"]
    body = decode(bytes.fromhex(vector["body"]), Body, max_bytes=65_536)
    assert has is None or account_id(has.id) == body.sender
    return Checked(transaction_id(raw), len(raw), body, has)


def test_the_file_is_what_its_generator_writes():
    assert subprocess.run([sys.executable, ROOT / "scripts/vectors/ledger.py", "--check"], check=False).returncode == 0


def test_the_document_makes_the_first_state():
    state = State(MemoryReader())
    assert begin(state, GENESIS).hex() == VECTORS["digest"] == genesis_digest(GENESIS).hex()
    assert {name.hex(): shown(value) for name, value in state.changes().items()} == VECTORS["state"]


@pytest.fixture(scope="module")
def executed() -> list[tuple[list[Any], dict[str, str | None]]]:
    """Of each block the receipts, and what it changed; entries it has written as they were are no change."""
    reader, out = MemoryReader(), []
    state = State(reader)
    begin(state, GENESIS)
    reader.apply(state.changes())
    for vector in VECTORS["blocks"]:
        header = decode(bytes.fromhex(vector["header"]), ChainHeader, max_bytes=1_000)
        digest = header_digest(header)
        assert digest.hex() == vector["digest"]
        state = State(reader)
        done = execute(state, digest, header, [checked_of(each) for each in vector["transactions"]])
        changes = {name: value for name, value in state.changes().items() if reader.get(name) != value}
        out.append(([listed(receipt) for receipt in done.receipts], {name.hex(): shown(value) for name, value in changes.items()}))
        reader.apply(changes)
    return out


@pytest.mark.parametrize("number", range(len(VECTORS["blocks"])))
def test_blocks(executed, number):
    receipts, changes = executed[number]
    assert receipts == VECTORS["blocks"][number]["receipts"]
    assert changes == VECTORS["blocks"][number]["changes"]


def test_the_blocks_are_worth_it():
    codes = {receipt[1] for vector in VECTORS["blocks"] for receipt in vector["receipts"]}
    assert codes == {"", "E-LEDGER-FUNDS", "E-LEDGER-STATUS", "E-LEDGER-PRICE", "E-LEDGER-OWNER", "E-LEDGER-NOTHING", "E-LEDGER-KNOWN"}
