"""The chain on the disk (`proto/spec/state.md` §3): blocks, certificates, transactions, receipts, the state and its tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import lmdb

from qnode.core.consensus_events import Final
from qnode.store.chain.blocks import Blocks, Head, KeptBlock
from qnode.store.chain.bodies import FOLDER, Bodies, bodies_missing
from qnode.store.chain.certified import Certified
from qnode.store.chain.environment import Environment, is_there
from qnode.store.chain.execution import Execution, Left, is_todays
from qnode.store.chain.receipts import Receipts
from qnode.store.chain.snapshot import Snapshots, Taking
from qnode.store.chain.view import HeldState, ProvenNodes, StateView
from qnode.store.chain.votes import Votes
from qnode.store.chain.writer import ChainWriter
from qnode.store.directory import DataDirectory
from qustream.errors import QuStreamError, fault
from qustream.model.genesis import Genesis
from qustream.model.receipt import Receipt
from qustream.model.state import Progress
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, Kind, Proposal, header_digest

__all__ = ["ChainStore"]

T = TypeVar("T")
# Addresses, not disk; it grows by itself where the disk has room.
MAP_BYTES = 1 << 32
# Below this much free space nothing of the chain is written: what is left is for the erasures of one-time keys.
RESERVE_BYTES = 64 * 1024 * 1024
# Final headers looked at on opening for the roots that they name: a header is at most 32 heights behind, and idle chains some more.
NAMED_ON_OPENING = 64
# Heights whose bodies go with one block, where they are not kept for ever: more than come.
PRUNED_AT_ONCE = 4


class ChainStore:
    """One directory, opened by one process. Any thread may read. What changes something returns a `Future` that is done when the change is
    on the disk; it fails with `E-DISK-FULL`, `E-NODE-READONLY` or `E-DATA-CORRUPT`, and then nothing was changed."""

    def __init__(self, directory: DataDirectory, environment: Environment, bodies: Bodies, **settings: int | None) -> None:
        """Use `ChainStore.open`."""
        self._directory, self._environment, self._bodies = directory, environment, bodies
        self._keep_blocks = settings["keep_blocks"]
        tables = environment.tables
        self._votes, self._blocks = Votes(tables), Blocks(tables, bodies)
        self._receipts = Receipts(tables, self._blocks)
        self._execution = Execution(tables, self._blocks, self._receipts)
        self._proven = ProvenNodes()
        self._certified = Certified(environment, self._proven)
        self._closed = False
        self._head = Head(0, NO_DIGEST, None)
        self._progress: Progress | None = None
        self._pruned_below, self._has_left = 1, False  # as the disk says
        self._writer = ChainWriter(directory, environment, bodies, reserve_bytes=settings["reserve_bytes"] or 0)
        taking = Taking(environment, self._execution, self._blocks)
        self.snapshots = Snapshots(environment, self._writer, taking, self._load)

    @classmethod
    def open(
        cls,
        directory: Path,
        genesis: Genesis,
        *,
        map_bytes: int = MAP_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        keep_blocks: int | None = None,
    ) -> ChainStore:
        """Open the chain in `directory`, or begin it from `genesis`. `keep_blocks`: of how many blocks bodies and receipts are kept; None:
        of all. Errors: `E-DATA-LOCKED`, `E-CHAIN-GENESIS`, `E-LEDGER-FORM`, `E-DATA-CORRUPT`, `E-DISK-FULL`, `E-FILE`."""
        with ExitStack() as unless_opened:
            held = DataDirectory(directory)
            unless_opened.callback(held.close)
            try:
                environment = Environment.open(directory, map_bytes)
                unless_opened.callback(environment.close)
                if is_todays(environment) and not is_there(directory / FOLDER):
                    raise bodies_missing()  # and nothing is made where they have to be put back
                bodies = Bodies.open(directory, map_bytes)
                unless_opened.callback(bodies.close)
                store = cls(held, environment, bodies, reserve_bytes=reserve_bytes, keep_blocks=keep_blocks)
                unless_opened.pop_all()
                unless_opened.callback(store.close)  # and all of these with it
                store._begin(genesis)
            except lmdb.Error as error:
                number = getattr(error, "code", 0)  # LMDB's own numbers are negative, the system's are not
                raise held.fault(OSError(number, "")) if number > 0 else fault("E-DATA-CORRUPT", f"{directory}: {error}") from None
            except OSError as error:
                raise held.fault(error) from None
            unless_opened.pop_all()
        return store

    def _begin(self, genesis: Genesis) -> None:
        """Nothing is written where there is a chain: on a disk that is full it can still be read."""
        if not self._looked(lambda txn: self._execution.has_begun(txn, genesis)):
            self._writer.submit(lambda txn: self._execution.begin(txn, genesis)).result()
        self._load()
        if self._bodies.dropped_below() > self._head.height + 1:
            with suppress(QuStreamError):  # no room: next time
                self._writer.submit(lambda txn: self._blocks.bodies_come_again(self._head.height)).result()

    @property
    def is_older(self) -> bool:
        """Whether it has the form of an earlier version, until the state is changed next (state.md §3)."""
        return self._looked(self._execution.is_older)

    def _load(self) -> None:
        """Take up what is on the disk."""
        with self._environment.reading() as txn:
            self._head = self._blocks.head(txn) or self._head
            self._progress = self._execution.executed(txn)
            first = max(1, self._head.height - NAMED_ON_OPENING)
            blocks = [self._blocks.block(txn, height) for height in range(first, self._head.height + 1)]
            root = None if self._progress is None else self._execution.root(txn, self._progress.height)
            self._pruned_below = self._receipts.pruned_below(txn)
            self._has_left = self._blocks.has_left(txn)
        self._certified.forget()
        self._certified.finalised([block.header for block in blocks if block is not None])
        if root is not None:
            self._certified.executed(root)

    def close(self) -> None:
        """Finish what was handed in, then let go of the directory. Doing it twice is no harm."""
        if not self._closed:
            self._closed = True
            self._writer.close()
            self._certified.forget()
            self._environment.close()
            self._bodies.close()
            self._directory.close()

    def __enter__(self) -> ChainStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The directory."""
        return self._directory.path

    @property
    def trouble(self) -> QuStreamError | None:
        """Why the last attempt to write failed, in words for the operator; None once one has succeeded."""
        return self._writer.trouble

    def _looked(self, look: Callable[[Any], T]) -> T:
        with self._environment.reading() as txn:
            return look(txn)

    # -- keeping --------------------------------------------------------------------------------------------------------

    def keep(self, message: Proposal | Certificate) -> Future[None]:
        """Store a proposal or a certificate whose signatures hold."""
        digest = header_digest(message.header) if isinstance(message, Proposal) else message.digest
        return self._writer.submit(lambda txn: self._votes.keep(txn, message, digest))

    def keep_transactions(self, transactions: Sequence[tuple[bytes, bytes]]) -> Future[None]:
        """Store (id, bytes); one that is in no final block goes after a thousand blocks."""

        def decide(txn: Any) -> None:
            with ExitStack() as opened:
                reading: list[Any] = []  # of what is on the disk, once it is asked for

                def was_final(name: bytes) -> bool:
                    if not reading:
                        reading.append(opened.enter_context(self._environment.reading()))
                    return self._blocks.location(reading[0], name) is not None

                self._blocks.keep_transactions(txn, transactions, self._head.height, was_final)

        return self._writer.submit(decide)

    def flush(self) -> Future[None]:
        """Done when all that was handed in before is on the disk."""
        return self._writer.submit(lambda txn: None)

    def finalise(self, blocks: Sequence[Final], certificate: Certificate, tail: Sequence[ChainHeader] = ()) -> Future[None]:
        """`certificate` makes the last of `blocks` final, and so all of them; they are of one rotation, and the first follows the last
        final one (those that are final already may stand before it). `tail`: what stands between the last of them and the certificate's
        block, if the proposals of that are not here. Errors of the future also: `ValueError` otherwise."""

        def decide(txn: Any) -> tuple[Head, list[ChainHeader]]:
            before = self._head
            if self._progress is None:
                raise fault("E-NOT-HELD", "a snapshot of the state is being taken in")
            head = self._blocks.finalise(txn, before, blocks)
            if head.height > before.height:
                self._votes.finalised(txn, head.height, certificate, head.digest, tail)
            return head, [block.header for block in blocks if block.header.height > before.height]

        def after(outcome: tuple[Head, list[ChainHeader]]) -> None:
            self._head = outcome[0]
            self._certified.finalised(outcome[1])

        return _without_result(self._writer.submit(decide, after))

    def execute(
        self,
        changes: Mapping[bytes, bytes | None],
        progress: Progress,
        receipts: Sequence[Receipt],
        senders: Sequence[bytes] | None = None,
    ) -> bytes:
        """Store everything that executing the next final block changes, all or nothing; the state's root. Blocking. `senders`: of its
        transactions, in order, from who has them at hand. Errors: `E-DISK-FULL`, `E-NODE-READONLY`; `E-DATA-CORRUPT`, also if a quorum has
        another root; `ValueError` for another block."""

        def decide(txn: Any) -> tuple[bytes, int]:
            root = self._execution.execute(txn, changes, progress, Left(receipts, senders), self._certified.named(progress.height))
            if self._keep_blocks is not None:
                self._receipts.prune(txn, progress.height - self._keep_blocks + 1, PRUNED_AT_ONCE)
            return root, self._receipts.pruned_below(txn)

        def after(outcome: tuple[bytes, int]) -> None:
            self._progress, self._pruned_below = progress, outcome[1]
            self._certified.executed(outcome[0])

        root, _ = self._writer.submit(decide, after).result()
        if self._keep_blocks is not None and progress.height % PRUNED_AT_ONCE == 0:
            # By itself: that they may go is on the disk now. If it fails, the next one does it.
            with suppress(QuStreamError):
                self._writer.submit(lambda txn: self._blocks.drop_bodies(txn, self._pruned_below))
        return root

    # -- the chain ------------------------------------------------------------------------------------------------------

    @property
    def final(self) -> Head:
        """The last final block."""
        return self._head

    @property
    def executed(self) -> Progress:
        """The last executed block. Errors: `E-NOT-HELD` while a snapshot is being taken in."""
        if self._progress is None:
            raise fault("E-NOT-HELD", "a snapshot of the state is being taken in")
        return self._progress

    @property
    def first_height(self) -> int:
        """Of the lowest block here: 1, or that of the snapshot the chain began with; 0 if there is none."""
        return self._looked(self._blocks.first)

    def block_at(self, height: int) -> KeptBlock | None:
        """Digest, header and ids of a final block."""
        return self._looked(lambda txn: self._blocks.block(txn, height))

    def header_at(self, height: int) -> ChainHeader | None:
        """The header of a final block; block 0 has none."""
        block = self.block_at(height)
        return None if block is None else block.header

    def ids_at(self, height: int) -> tuple[bytes, ...] | None:
        """The ids of a final block's transactions."""
        block = self.block_at(height)
        return None if block is None else block.ids

    def proposal(self, digest: bytes) -> Proposal | None:
        """A kept proposal: those of the last 64 views that are over, and all above."""
        return self._looked(lambda txn: self._votes.proposal(txn, digest))

    def certificate(self, rotation: int, view: int, kind: Kind, digest: bytes) -> Certificate | None:
        """A kept certificate, as long as proposals are; `digest` zeros: whatever it is of."""
        return self._looked(lambda txn: self._votes.certificate(txn, rotation, view, kind, digest))

    def kept(self, rotation: int, above: int = 0) -> list[Proposal | Certificate]:
        """All kept proposals and certificates of a rotation's views greater than `above`, by view."""
        return self._looked(lambda txn: self._votes.kept(txn, rotation, above))

    def finalisation(self, height: int) -> Certificate | None:
        """The kept finalisation of the lowest block at or above `height`."""
        found = self.finalisation_at(height)
        return None if found is None else found[1]

    def finalisation_at(self, height: int) -> tuple[int, Certificate] | None:
        """As `finalisation`, and the height of the block that it makes final."""
        return self._looked(lambda txn: self._votes.finalisation(txn, height))

    def end_of(self, rotation: int) -> Certificate | None:
        """The finalisation that ended a rotation."""
        found = self._end(rotation)
        return None if found is None else found[0]

    def tail_of(self, rotation: int) -> tuple[ChainHeader, ...]:
        """The headers between a rotation's boundary block and the block that `end_of` finalises, in order; mostly none."""
        found = self._end(rotation)
        return () if found is None else found[1]

    def _end(self, rotation: int) -> tuple[Certificate, tuple[ChainHeader, ...]] | None:
        with self._environment.reading() as txn:
            end, newest, executed = self._votes.end(txn, rotation), self._votes.newest(txn), self._execution.executed(txn)
            if end is not None:
                return end.certificate, end.tail
            if newest is None or executed is None or newest.rotation != rotation:
                return None
            if not executed.over or executed.rotation != rotation or executed.height != newest.height:
                return None
            last = self._votes.certificate(txn, rotation, newest.view, Kind.FINAL, newest.digest)
            return None if last is None else (last, ())

    # -- transactions ---------------------------------------------------------------------------------------------------

    def transaction(self, name: bytes) -> bytes | None:
        """The bytes of a transaction."""
        return self.transactions([name]).get(name)

    def transactions(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are here, by id."""
        found = self._bodies.get(names)
        if len(found) < len(names) and self._has_left:
            found = self._looked(lambda txn: self._blocks.transactions(txn, names))
        return found

    def receipts_at(self, height: int) -> tuple[Receipt, ...]:
        """What became of a block's transactions, in order, and its own receipt; none if it is not executed, or its receipts are gone."""
        return self._looked(lambda txn: self._receipts.at(txn, height))

    def receipt(self, name: bytes) -> tuple[int, int, Receipt] | None:
        """(height, place, receipt) of a transaction that has been executed."""
        with self._environment.reading() as txn:
            place = self._blocks.location(txn, name)
            receipt = None if place is None else self._receipts.one(txn, *place)
        return None if place is None or receipt is None else (*place, receipt)

    def place_of(self, name: bytes) -> tuple[int, int] | None:
        """Height and place of a transaction, or of a block by its digest, in the final chain, executed or not."""
        return self._looked(lambda txn: self._blocks.location(txn, name))

    def history(self, account: bytes, before: tuple[int, int] | None = None, limit: int = 100) -> list[tuple[int, int, Receipt]]:
        """(height, place, receipt) of what an account sent or was named in, or a licence was, or of all sales (`receipts.MARKET`), the
        newest first; `before` a (height, place), for the rest."""
        return self._looked(lambda txn: self._receipts.history(txn, account, before, limit))

    # -- states ---------------------------------------------------------------------------------------------------------

    def root(self, height: int) -> bytes | None:
        """The root of the state after this block, for the last 256 executed ones."""
        return self._looked(lambda txn: self._execution.root(txn, height))

    def state(self) -> StateView:
        """The newest state, to be closed. Errors: `E-NOT-HELD` while a snapshot is being taken in."""
        with self._environment.first_use() as (reading, txn):
            root = None if reading.progress is None else self._execution.root(txn, reading.progress.height)
            held = HeldState(self._environment, reading, root or b"", self._proven)
        view = held.view()
        held.release()
        return view

    def certified(self) -> StateView | None:
        """The newest state whose root stands in a final header, to be closed; None if none has been executed and named since opening."""
        return self._certified.view()

    # -- the picture ----------------------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        """Bytes of the map and of what of it is in use, and of the disk what is free."""
        state, bodies = self._environment.info(), self._bodies.info()
        return {name: size + bodies[name] for name, size in state.items()} | {"free_bytes": self._directory.free_bytes()}

    def backup(self, target: Path) -> None:
        """A consistent copy into the empty directory `target`, while everything goes on, unless a map has to be made larger: that waits.
        Blocking. Errors: `E-DISK-FULL`, `E-FILE`, `E-FILE-EXISTS`."""
        self._bodies.backup(self._environment, target)


def _without_result(future: Future[Any]) -> Future[None]:
    out: Future[None] = Future()
    out.set_running_or_notify_cancel()

    def pass_on(done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            out.set_exception(error)
        else:
            out.set_result(None)

    future.add_done_callback(pass_on)
    return out
