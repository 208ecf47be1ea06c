"""The chain as one node has it: what is final goes to the disk, is executed in order, and then everybody is told (`consensus.md` §9).

    finalise ─▶ store: final ─▶ block by block, on a thread: bodies, execution, one transaction of the store ─▶ followers, listeners

Whoever learns what is final calls `finalise`: consensus, or who catches up. Nothing waits for execution but who asks for it (`wait_above`).
What is final and was not executed before a crash is executed after it; a body that is not here is pulled, for a quorum has had it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from qnode.core.consensus_events import Final
from qnode.core.consensus_limits import EXECUTED_BEHIND, UNEXECUTED_MAX
from qnode.core.ledger import rotations
from qnode.core.ledger.block import Checked, Executed, execute
from qnode.core.ledger.state import State
from qnode.service.keys_workers import settled
from qnode.store.chain import ChainStore, StateView
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.model.genesis import Genesis
from qustream.model.state import Parameters, Progress, RotationEntry, Table, VoteKeyEntry
from qustream.wire.codec import decode
from qustream.wire.consensus import Certificate, ChainHeader, header_digest
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Transaction, open_body, transaction_id

__all__ = ["Chain", "Head", "checked_of"]

T = TypeVar("T")
# A header may name an executed height so far behind its own; whoever judges it reads the state of that height.
VIEWS_KEPT = UNEXECUTED_MAX + EXECUTED_BEHIND
# Transactions of blocks that may come to be executed, or that are judged beside those that follow: bytes of four full blocks.
READY_MAX_BYTES = 16 << 20
# So many final blocks later one counts as unknown: it was put on the disk, and from there it goes if no final block takes it, too (after
# 1,024); executed out of memory alone, it would be on nobody's disk.
READY_BLOCKS = 256
# A disk that takes nothing, peers that have not what is missing: asked again, and the operator reads why.
AGAIN_S = 1.0

Changes = Mapping[bytes, bytes | None]
# Puts the transactions of these ids into the store; returns when it has done what it could.
Obtain = Callable[[Sequence[bytes]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Head:
    """The last final block."""

    height: int
    digest: bytes
    time_ms: int


class Chain:
    """`run` it. `executed`: how far; `parameters`: of that state; `trouble`: why it does not go on, for the operator. `followers` hear what
    a block changed in the state, `listeners` what became of it; both at once, in the event loop, and must be quick."""

    def __init__(self, store: ChainStore, genesis: Genesis) -> None:
        self.store, self.genesis = store, genesis
        self.executed: Progress = store.executed
        self.followers: list[Callable[[Changes, Progress], None]] = []
        self.listeners: list[Callable[[Progress, Executed], None]] = []
        self.obtain: Obtain | None = None
        self.waiting: Callable[[bytes], tuple[bytes, Checked] | None] = lambda _: None  # a transaction that waits for a block here
        self.trouble: QuStreamError | None = None
        self.is_waiting = False  # for transactions of a final block, which peers have
        self.transactions = 0  # executed since the start
        self._final_news, self._executed_news = trio.Event(), trio.Event()
        self._finalising = trio.Lock()
        self._views: OrderedDict[int, StateView] = OrderedDict()
        self._ready: OrderedDict[bytes, tuple[Checked, int]] = OrderedDict()  # and the final height when it was put on the disk
        self._ready_bytes = 0
        self._look()
        self.parameters = self.state().must(Table.PARAMETERS, b"", Parameters)

    # -- what is there ----------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The last final block; the beginning, if there is none."""
        final = self.store.final
        return Head(final.height, final.digest, self.genesis.time_ms if final.header is None else final.header.time_ms)

    def view(self) -> StateView:
        """The newest executed state, to be closed."""
        return self.store.state()

    def view_at(self, height: int) -> StateView | None:
        """The state after the block of this height: the newest few that were executed since the start. Not to be closed."""
        return self._views.get(height)

    def state(self) -> State:
        """The newest executed state, for questions in the event loop; of this moment."""
        return State(self.newest())

    def newest(self) -> StateView:
        """The newest executed state, for the event loop alone; held here, and not to be closed."""
        view = next(reversed(self._views.values()))
        try:
            view.get(bytes([Table.PROGRESS]))
        except QuStreamError:  # the database has grown while a block was being executed: what is newest is newer by that one
            view = self.store.state()
            self._hold(view)
        return view

    def rotation(self, number: int) -> RotationEntry | None:
        """Who votes in a rotation, as far as the executed state knows."""
        return rotations.find(self.state(), number)

    def vote_keys(self, number: int) -> tuple[bytes, ...]:
        """The vote keys of a rotation that the state has, by number of the validator."""
        state = self.state()
        entry = rotations.current(state, number)
        return tuple(state.must(Table.VOTE_KEY, seat.vote_key, VoteKeyEntry).key for seat in entry.seats)

    async def wait_above(self, height: int) -> Progress:
        """Until a block above `height` has been executed; how far it is then."""
        while self.executed.height <= height:
            await self._executed_news.wait()
        return self.executed

    async def wait_final_above(self, height: int) -> Head:
        """Until a block above `height` is final."""
        while self.store.final.height <= height:
            await self._final_news.wait()
        return self.head

    # -- bodies -----------------------------------------------------------------------------------------------------------

    async def keep(self, transactions: Sequence[tuple[bytes, Checked]]) -> None:
        """Put verified transactions on the disk, their bytes and what they say; returns when they are there. What they say is remembered
        for a while, so that nobody reads and decodes them again to execute them. Errors: of the store."""
        new = [(raw, checked) for raw, checked in transactions if self.ready(checked.id) is None]
        height = self.store.final.height
        if new:
            await settled(self.store.keep_transactions([(checked.id, raw) for raw, checked in new]))
        for _, checked in new:
            self._forget_ready(self._ready.pop(checked.id, None))
            self._ready[checked.id] = checked, height
            self._ready_bytes += checked.size
        while self._ready_bytes > READY_MAX_BYTES:
            self._forget_ready(self._ready.popitem(last=False)[1])

    def _forget_ready(self, kept: tuple[Checked, int] | None) -> None:
        self._ready_bytes -= kept[0].size if kept is not None else 0

    def ready(self, name: bytes) -> Checked | None:
        """A transaction that was put on the disk a moment ago, and is there."""
        kept = self._ready.get(name)
        return None if kept is None or self.store.final.height - kept[1] > READY_BLOCKS else kept[0]

    # -- what is new ------------------------------------------------------------------------------------------------------

    async def finalise(self, blocks: Sequence[Final], certificate: Certificate, tail: Sequence[ChainHeader] = ()) -> None:
        """These are final, in order, as the certificate says of the last of them or one behind; those known already are left out. Returns
        when they are on the disk. `tail`: the headers from the last of them to the certificate's block, if the store has not their
        proposals."""
        async with self._finalising:
            new = [block for block in blocks if block.header.height > self.store.final.height]
            if new:
                await self._insist(partial(self._put_final, new, certificate, tail))
                self._final_news.set()
                self._final_news = trio.Event()

    async def _put_final(self, blocks: Sequence[Final], certificate: Certificate, tail: Sequence[ChainHeader]) -> None:
        with trio.CancelScope(shield=True):  # cut short, it would be on the disk without anybody having been told
            await settled(self.store.finalise(blocks, certificate, tail))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Execute what is final until cancelled. It has started when all that was final before is executed, if nothing is in the way."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._execute_all)
            while self.executed.height < self.store.final.height and self.trouble is None and not self.is_waiting:
                with trio.move_on_after(AGAIN_S):
                    await self._executed_news.wait()
            task_status.started()

    async def _execute_all(self) -> None:
        while True:
            height = self.executed.height + 1
            await self.wait_final_above(height - 1)
            header = self.store.header_at(height)
            assert header is not None, "what is final is there"
            # A block with what a later version knows: it is said what is to be done, and nothing is lost.
            transactions = await self._insist(partial(self._bodies, self.store.ids_at(height) or ()))
            changes, progress, done = await self._insist(partial(trio.to_thread.run_sync, self._execute, header, transactions))
            self.executed = progress
            self._look()
            if bytes([Table.PARAMETERS]) in changes:
                self.parameters = self.state().must(Table.PARAMETERS, b"", Parameters)
            self.transactions += len(transactions)
            for follow in self.followers:
                follow(changes, progress)
            for listen in self.listeners:
                listen(progress, done)
            self._executed_news.set()
            self._executed_news = trio.Event()

    def _execute(self, header: ChainHeader, transactions: Sequence[Checked]) -> tuple[Changes, Progress, Executed]:
        with self.store.state() as view:
            state = State(view)
            done = execute(state, header_digest(header), header, transactions)
            progress, changes = state.must(Table.PROGRESS, b"", Progress), state.changes()
        self.store.execute(changes, progress, done.receipts, [each.body.sender for each in transactions])
        return changes, progress, done

    async def _bodies(self, ids: Sequence[bytes]) -> list[Checked]:
        """A quorum has verified them before it voted: those that are not remembered are decoded, and nothing else."""
        waiting = [here for name in ids if self.ready(name) is None and (here := self.waiting(name)) is not None]
        with suppress(QuStreamError):  # the disk does not take them: they are looked for on it, and it says why they are not there
            await self.keep(waiting)
        bodies = {name: checked for name in ids if (checked := self.ready(name)) is not None}
        while True:
            found = self.store.transactions([name for name in ids if name not in bodies])
            bodies |= {name: checked_of(raw) for name, raw in found.items()}
            missing = [name for name in ids if name not in bodies]
            self.is_waiting = bool(missing)
            if not missing:
                return [bodies[name] for name in ids]
            if self.obtain is not None:
                await self.obtain(missing)
            await trio.sleep(0 if len(self.store.transactions(missing)) == len(missing) else AGAIN_S)

    def _look(self) -> None:
        """Hold on to the state as it is now; let go of those that no header can name any more."""
        if self.executed.height not in self._views:  # as it is if it had to be looked at before all was told of it
            self._hold(self.store.state())

    def _hold(self, view: StateView) -> None:
        """None is held for longer than the rest: no page that a block has replaced since would be used again."""
        old = self._views.pop(view.height, None)
        if old is not None:
            old.close()
        self._views[view.height] = view
        while len(self._views) > VIEWS_KEPT:
            self._views.popitem(last=False)[1].close()

    async def _insist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Until the disk takes it. A node that forgot what it was told is final would be of no use."""
        while True:
            try:
                done = await act()
            except QuStreamError as error:
                if self.trouble is None:
                    logger("chain").error("the chain does not go on", code=error.code, detail=error.detail)
                self.trouble = error
                await trio.sleep(AGAIN_S)
            else:
                self.trouble = None
                return done

    def close(self) -> None:
        """Let go of the states that are held."""
        for view in self._views.values():
            with suppress(QuStreamError):
                view.close()
        self._views.clear()


def checked_of(raw: bytes) -> Checked:
    """A transaction that a quorum, or this node, has verified. Errors: those of `decode`."""
    transaction = decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
    return Checked(transaction_id(raw), len(raw), open_body(transaction), transaction.key)
