"""Bench `ledger`: 10,000 mixed transactions in blocks of 500, executed and on the disk with the state's root, against bare LMDB puts.

Our side: the ledger's own execution of each block, then everything a node keeps of it in one durable transaction: entries, the tree over
them and its root, receipts, the accounts' histories, how far it has got. The transactions come checked, as from the mempool, and their
bytes are stored already: signatures and gossip are other benches'.

The other side: the same entries, receipts and history put into an LMDB environment of the same kind, in one durable transaction a block:
no execution, no tree, no hash. The same 100,000 accounts are in it. Both sides take turns block by block, with the same sync at the end of
each. The second row leaves the execution out. `LEDGER_ROUNDS`, `LEDGER_ACCOUNTS` change the measure.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import lmdb
from report import compare, emit, plain

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.ledger_world import DAY_MS, QST, LedgerWorld, key  # noqa: E402
from support.stored_chain import StoredChain, certificate  # noqa: E402

from qnode.core.ledger.block import Checked, execute  # noqa: E402
from qnode.core.ledger.state import State  # noqa: E402
from qustream.identity.enrolment import state_hpke_key  # noqa: E402
from qustream.model.state import Progress, Table  # noqa: E402
from qustream.wire.transactions import AnyAction, BuyGrant, Claim, Delegate, RegisterUser, Transfer, Undelegate  # noqa: E402

ROUNDS = int(os.environ.get("LEDGER_ROUNDS", "5"))
ACCOUNTS = int(os.environ.get("LEDGER_ACCOUNTS", "100000"))
BLOCKS, TRANSACTIONS = 20, 500  # a round: 10,000
PEOPLE, USERS = 1000, 20
MAP_BYTES = 1 << 32
USER = [key("user", number) for number in range(USERS)]


class Mixed:
    """What people do: of a hundred, 60 transfers to anybody, 15 delegations, 10 taken back, 5 claims, 10 grants."""

    def __init__(self, world: LedgerWorld, strangers: list[bytes]) -> None:
        self._world, self._strangers, self._chance = world, strangers, random.Random(1)

    def block(self) -> list[Checked]:
        people = self._chance.sample(self._world.people, TRANSACTIONS)
        return [self._world.checked(sender, self._action()) for sender in people]

    def _action(self) -> AnyAction:
        draw, licence = self._chance.randrange(100), self._world.licences[self._chance.randrange(4)]
        if draw < 60:
            return Transfer(self._chance.choice(self._strangers), self._chance.randrange(1, QST))
        if draw < 75:
            return Delegate(licence, 10 * QST + draw)
        if draw < 85:
            return Undelegate(licence, QST)
        if draw < 90:
            return Claim(licence)
        return BuyGrant(self._chance.choice(USER).id, self._chance.randbytes(32), 10, 2, DAY_MS, None, QST)


class Plain:
    """The other side: LMDB, and nothing else."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._env = lmdb.open(str(path), map_size=MAP_BYTES, max_dbs=4)
        self._state, self._receipts, self._history = (self._env.open_db(name) for name in (b"state", b"receipts", b"history"))

    def put(self, changes: dict[bytes, bytes | None], receipts: list[tuple[bytes, bytes]], history: list[bytes]) -> None:
        with self._env.begin(write=True) as txn:
            for name, value in changes.items():
                if value is None:
                    txn.delete(name, db=self._state)
                else:
                    txn.put(name, value, db=self._state)
            for name, value in receipts:
                txn.put(name, value, db=self._receipts)
            for name in history:
                txn.put(name, b"", db=self._history)


@dataclass
class Timed:
    """Milliseconds of each part, of one round."""

    executing: float = 0.0
    storing: float = 0.0
    plain: float = 0.0
    cpu: float = 0.0
    puts: int = 0
    refused: int = 0


def one_block(chain: StoredChain, other: Plain, timed: Timed, transactions: list[Checked], more: dict[bytes, bytes]) -> None:
    chain.keep(transactions)
    block = chain.next_block(transactions)
    chain.store.finalise([block], certificate(block.header)).result()
    cpu, start = time.process_time(), time.perf_counter()
    with chain.store.state() as view:
        state = State(view)
        done = execute(state, block.digest, block.header, transactions)
        changes, progress = state.changes() | more, state.must(Table.PROGRESS, b"", Progress)
    executed = time.perf_counter()
    chain.store.execute(changes, progress, done.receipts, [each.body.sender for each in transactions])
    stored = time.perf_counter()
    timed.cpu += time.process_time() - cpu
    receipts, history = left_by(chain, block.header.height)
    begun = time.perf_counter()
    other.put(changes, receipts, history)
    timed.plain += (time.perf_counter() - begun) * 1000
    timed.executing += (executed - start) * 1000
    timed.storing += (stored - executed) * 1000
    timed.puts += len(changes) + len(receipts) + len(history)
    timed.refused += sum(receipt.code != "" for receipt in done.receipts)
    for name, value in changes.items():
        if value is None:
            del chain.world.reader.entries[name]
        else:
            chain.world.reader.entries[name] = value
    chain.world._nonces.clear()


def left_by(chain: StoredChain, height: int) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Receipts and history that a block has left, word for word."""
    receipts, history = [], []
    tables, at = chain.store._environment.tables, height.to_bytes(8, "big")
    with chain.store._environment.reading() as txn:
        cursor = txn.cursor(db=tables.receipts)
        cursor.set_range(at)
        for name, value in cursor.iternext():
            if name[:8] != at:
                break
            receipts.append((bytes(name), bytes(value)))
        history = [bytes(name) for name in txn.cursor(db=tables.history).iternext(values=False) if name[20:28] == at]
    return receipts, history


def measured(folder: Path) -> list[Timed]:
    """One entry a round; the first, which warms both sides up, is left out."""
    chain, other = StoredChain(folder / "chain", LedgerWorld(people=PEOPLE, wealth=100_000 * QST)), Plain(folder / "plain")
    chance = random.Random(3)
    account = chain.world.reader.entries[bytes([Table.ACCOUNT]) + chain.world.account(0)]
    strangers = [chance.randbytes(20) for _ in range(ACCOUNTS)]
    one_block(chain, other, Timed(), [], {bytes([Table.ACCOUNT]) + name: account for name in strangers})
    registered = [RegisterUser(user.public, state_hpke_key(user, bytes(1216)), (), bytes(3373)) for user in USER]
    entered = [chain.world.checked(sender, action) for sender, action in zip(chain.world.people, registered, strict=False)]
    one_block(chain, other, Timed(), entered, {})
    mixed, rounds = Mixed(chain.world, strangers), []
    gc.freeze()  # this bench's own picture of the state, which no node has
    for _ in range(ROUNDS + 1):
        rounds.append(Timed())
        for _ in range(BLOCKS):
            one_block(chain, other, rounds[-1], mixed.block(), {})
    chain.store.close()
    return rounds[1:]


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-ledger-"))
    try:
        rounds = measured(folder)
    finally:
        shutil.rmtree(folder)
    against, puts = "LMDB puts of the same entries, receipts and history", [each.plain for each in rounds]
    whole = [each.executing + each.storing for each in rounds]
    count = BLOCKS * TRANSACTIONS
    emit(
        "ledger",
        [
            compare(f"{count:,} transactions", whole, puts, unit="ms", against=against, at_most=3, cpu_s=rounds[-1].cpu),
            compare("what they leave, and the root", [each.storing for each in rounds], puts, unit="ms", against=against),
            plain("execution alone", [each.executing for each in rounds], unit="ms"),
            plain("transactions a second", [count * 1000 / ms for ms in whole], unit="tx/s"),
            plain("puts a transaction, without the tree", [each.puts / count for each in rounds], unit="puts"),
            plain("refused", [100 * each.refused / count for each in rounds], unit="%"),
        ],
        rounds=ROUNDS,
    )


if __name__ == "__main__":
    main()
