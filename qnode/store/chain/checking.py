"""Looking at a chain's database from outside: what there is, and whether all of it belongs together (`qnode db`, `proto/spec/state.md` §3).

Opened to be read alone, so that the node it belongs to may go on meanwhile: what is looked at is as it was at one moment.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from qnode.store.chain import state
from qnode.store.chain.blocks import Blocks, KeptBlock
from qnode.store.chain.bodies import FOLDER, Bodies
from qnode.store.chain.environment import Environment, is_there
from qnode.store.chain.execution import GENESIS_KEY, PROGRESS_KEY, Execution
from qnode.store.chain.receipts import Receipts
from qnode.store.chain.votes import Votes
from qnode.store.directory import DataDirectory
from qustream.errors import QuStreamError, fault
from qustream.identity.files import file_fault, give_to_owner, sync_directory
from qustream.model.state import Progress
from qustream.rules import merkle
from qustream.rules.radix_tree import check
from qustream.wire.codec import encode
from qustream.wire.consensus import header_digest

__all__ = ["Check", "Facts", "Inspector", "compact"]

T = TypeVar("T")
# Faults listed of one check: enough to see what it is about.
FAULTS_MAX = 20


@dataclass(frozen=True)
class Facts:
    """What there is. `first_height`: of the first block here; `bodies_from`: of the first whose transactions are here."""

    genesis: bytes
    final_height: int
    final_digest: bytes
    executed: Progress | None
    root: bytes | None
    first_height: int
    bodies_from: int
    taking_in: bytes | None
    file_bytes: int
    used_bytes: int
    map_bytes: int
    tables: dict[str, int]


@dataclass
class Check:
    """One thing that was looked at: how many, and what is wrong with some."""

    name: str
    count: int = 0
    faults: list[str] = field(default_factory=list)
    left_out: int = 0

    def wrong(self, what: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(what)
        else:
            self.left_out += 1


class Inspector:
    """A database that is read and not written."""

    def __init__(self, directory: Path) -> None:
        """Errors: `E-FILE` if there is none; `E-DATA-CORRUPT`."""
        self._directory = directory
        with ExitStack() as unless_opened:
            try:
                if not is_there(directory):
                    raise fault("E-FILE", f"{directory}: there is no chain here")
                self._environment = Environment.open(directory, 0, readonly=True)
                unless_opened.callback(self._environment.close)
                self._bodies = Bodies.look_at(directory)
            except OSError as error:
                raise file_fault(directory, error) from None
            except lmdb.Error as error:
                number = getattr(error, "code", 0)  # the system's are positive
                if number in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise file_fault(directory, OSError(number, "")) from None
                raise fault("E-DATA-CORRUPT", f"{directory}: {error}") from None
            unless_opened.pop_all()
        tables = self._environment.tables
        self._blocks, self._votes = Blocks(tables, self._bodies), Votes(tables)
        self._receipts = Receipts(tables, self._blocks)
        self._execution = Execution(tables, self._blocks, self._receipts)

    def close(self) -> None:
        self._environment.close()
        self._bodies.close()

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def backup(self, target: Path) -> None:
        """A consistent copy in the empty directory `target`. Errors: `E-FILE-EXISTS`, `E-FILE`, `E-DISK-FULL`."""
        with self._environment.reading() as txn:
            self._blocks.require_bodies(self._execution.meta(txn, GENESIS_KEY) or b"", or_none=self._execution.is_older(txn))
        self._bodies.backup(self._environment, target)

    def facts(self) -> Facts:
        """Errors: `E-DATA-CORRUPT`."""
        tables, sizes = self._environment.entries(), self._bodies.info()
        for name, count in self._bodies.entries().items():
            tables[name] += count if name != "meta" else 0
        for name, size in self._environment.info().items():
            sizes[name] += size
        with self._environment.reading() as txn:
            head, executed = self._blocks.head(txn), self._execution.executed(txn)
            incoming = txn.get(b"\xff", db=self._environment.tables.incoming)
            return Facts(
                genesis=self._execution.meta(txn, GENESIS_KEY) or b"", final_height=head.height if head else 0,
                final_digest=head.digest if head else b"", executed=executed,
                root=self._execution.root(txn, executed.height) if executed else None, first_height=self._first(txn),
                bodies_from=max(self._first(txn), self._bodies_from(txn)), taking_in=bytes(incoming[:32]) if incoming else None,
                file_bytes=sum(each.stat().st_size for each in _files(self._directory)), tables=tables, **sizes,
            )  # fmt: skip

    def _bodies_from(self, txn: Any) -> int:
        """Bodies go when it is on the disk that they may, so those of a copy, which is made after the chain's, may be gone further."""
        return max(self._receipts.pruned_below(txn), self._bodies.dropped_below())

    def _first(self, txn: Any) -> int:
        cursor = txn.cursor(db=self._environment.tables.blocks)
        return int.from_bytes(cursor.key(), "big") if cursor.first() else 0

    # -- whether it belongs together ------------------------------------------------------------------------------------

    def verify(self) -> Iterator[Check]:
        """Everything, one check after the other; of one moment. Never raises for what is stored."""
        with self._environment.reading() as txn:
            for name, look in (
                ("progress", self._check_progress), ("state entries", self._check_entries), ("state tree", self._check_tree),
                ("blocks", self._check_blocks), ("transactions", self._check_transactions), ("receipts", self._check_receipts),
                ("certificates", self._check_certificates),
            ):  # fmt: skip
                made = Check(name)
                _guarded(made, look, txn, made)
                yield made

    def _check_progress(self, txn: Any, made: Check) -> None:
        head, executed = self._blocks.head(txn), self._execution.executed(txn)
        if executed is None:
            return  # a snapshot is being taken in
        made.count = 1
        genesis = self._execution.meta(txn, GENESIS_KEY) or b""
        self._blocks.require_bodies(genesis, or_none=self._execution.is_older(txn))
        if head is None or executed.height > head.height:
            made.wrong("more blocks are executed than final")
        if state.get(txn, self._environment.tables, PROGRESS_KEY) != encode(executed):
            made.wrong("the state is after another block than it is said to be")
        block = self._blocks.block(txn, executed.height)
        if executed.height and (block is None or block.digest != executed.digest):
            made.wrong(f"the executed block {executed.height} is not the final one")

    def _check_entries(self, txn: Any, made: Check) -> None:
        tables = self._environment.tables
        for key, _ in state.all_entries(txn, tables):
            made.count += 1
            if txn.get(key, db=tables.keys) is None:
                made.wrong(f"entry {key.hex()} is not in the index of keys")
        keys = txn.stat(db=tables.keys)["entries"]
        if keys != made.count:
            made.wrong(f"{keys} keys in the index, {made.count} entries")

    def _check_tree(self, txn: Any, made: Check) -> None:
        executed = self._execution.executed(txn)
        root = self._execution.root(txn, executed.height) if executed is not None else None
        if executed is None:
            return
        if root is None:
            made.wrong(f"the root after block {executed.height} is not here")
            return
        inner = found = 0
        for place in check(state.StoredTree(txn, self._environment.tables), root):
            made.count += 1
            inner += place.is_held
            found += place.entries
        tables, lowest = self._environment.tables, state.count_lowest(txn, self._environment.tables)
        if lowest and not self._execution.is_older(txn):
            made.wrong(f"{lowest} inner nodes are held beneath which there is no other")
        entries, nodes = txn.stat(db=tables.entries)["entries"], txn.stat(db=tables.nodes)["entries"] - lowest
        if found != entries or inner != nodes:
            made.wrong(f"{entries - found} entries and {nodes - inner} nodes are no part of the tree")

    def _each_block(self, txn: Any, made: Check, first: int, last: int) -> Iterator[tuple[int, KeptBlock]]:
        for height in range(max(1, first), last + 1):
            before = len(made.faults)
            block = _guarded(made, self._blocks.block, txn, height)
            if block is not None:
                made.count += 1
                yield height, block
            elif len(made.faults) == before:
                made.wrong(f"block {height} is not here")

    def _whole_blocks(self, txn: Any, last: int) -> Iterator[tuple[int, KeptBlock]]:
        """Those whose transactions and receipts should be here; what is wrong with the blocks themselves, another check says."""
        first = self._first(txn)
        # A snapshot's own block was executed elsewhere.
        return self._each_block(txn, Check("blocks"), max(first + (first > 1), self._bodies_from(txn)), last)

    def _check_blocks(self, txn: Any, made: Check) -> None:
        head, first = self._blocks.head(txn), self._first(txn)
        before = (self._execution.meta(txn, GENESIS_KEY) if first == 1 else None) or b""
        last = b""
        for height, block in self._each_block(txn, made, first, head.height if head else 0):
            header = block.header
            if header_digest(header) != block.digest or header.height != height:
                made.wrong(f"block {height} is not what its digest says")
            if before and header.parent != before:
                made.wrong(f"block {height} does not follow the one below it")
            if merkle.root(block.ids) != header.payload or len(block.ids) != header.count:
                made.wrong(f"the ids of block {height} are not those its header stands for")
            if (root := self._execution.root(txn, header.executed)) is not None and root != header.executed_root:
                made.wrong(f"block {height} names another root after block {header.executed}")
            before = last = block.digest
        if head is not None and head.height and last != head.digest:
            made.wrong("the last block is not the final one")

    def _check_transactions(self, txn: Any, made: Check) -> None:
        head = self._blocks.head(txn)
        for height, block in self._whole_blocks(txn, head.height if head else 0):
            for place, name in enumerate(block.ids):
                made.count += 1
                _guarded(made, self._check_transaction, txn, made, name, (height, place))

    def _check_transaction(self, txn: Any, made: Check, name: bytes, at: tuple[int, int]) -> None:
        executed = self._execution.executed(txn)
        # The node may be running, and its bodies may have gone since.
        gone = not self._blocks.transactions(txn, [name]) and at[0] >= self._bodies.dropped_below()
        if gone and executed is not None and at[0] <= executed.height:
            made.wrong(f"transaction {name.hex()} of block {at[0]} is not here")
        if self._blocks.location(txn, name) != at:
            made.wrong(f"transaction {name.hex()} is said to be elsewhere")

    def _check_receipts(self, txn: Any, made: Check) -> None:
        executed = self._execution.executed(txn)
        for height, block in self._whole_blocks(txn, executed.height if executed else 0):
            receipts = self._receipts.at(txn, height)
            made.count += len(receipts)
            if [receipt.id for receipt in receipts] != [*block.ids, block.digest]:
                made.wrong(f"the receipts of block {height} are not those of its transactions")

    def _check_certificates(self, txn: Any, made: Check) -> None:
        for height, certificate in self._votes.finalisations(txn):
            made.count += 1
            block, end = self._blocks.block(txn, height), self._votes.end(txn, certificate.rotation)
            below = end.tail[0].parent if end is not None and end.tail and end.height == height else certificate.digest
            if block is not None and block.digest != below:
                made.wrong(f"the finalisation of block {height} is another block's")
        made.count += self._votes.look_through(txn)


def _guarded(made: Check, look: Callable[..., T], *arguments: Any) -> T | None:
    try:
        return look(*arguments)
    except (QuStreamError, lmdb.Error) as error:
        made.wrong(error.detail if isinstance(error, QuStreamError) else str(error))
        return None


def _files(directory: Path) -> list[Path]:
    """Those of a chain's databases."""
    return [path for path in (directory / "data.mdb", directory / FOLDER / "data.mdb") if path.exists()]


def compact(directory: Path) -> tuple[int, int]:
    """Write the databases anew, without the pages that are free; bytes before and after. The node must not run. Errors: `E-DATA-LOCKED`,
    `E-FILE`, `E-DISK-FULL`; then each is there, as it was or anew."""
    new = directory / "compact"
    if not (directory / "data.mdb").exists():
        raise fault("E-FILE", f"{directory}: there is no chain here")
    held = DataDirectory(directory)
    try:
        before = sum(each.stat().st_size for each in _files(directory))
        if new.exists():
            shutil.rmtree(new)  # one that was interrupted
        with Inspector(directory) as inspector:
            inspector.backup(new)
        for made in _files(new):
            data = directory / made.relative_to(new)
            with made.open("rb") as file:
                give_to_owner(file.fileno(), data.parent)
            os.replace(made, data)
            (data.parent / "lock.mdb").unlink(missing_ok=True)
            sync_directory(data.parent)
        shutil.rmtree(new)
        sync_directory(directory)
        return before, sum(each.stat().st_size for each in _files(directory))
    except OSError as error:
        raise file_fault(directory, error) from None
    finally:
        held.close()
