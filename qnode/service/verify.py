"""Whether signatures hold: of transactions, and of what validators state (`proto/spec/mempool.md`, §4).

The arithmetic is done in processes of their own (`verify_pool`), for it would hold the event loop for half of the time. What held is
remembered by what it is called, within bounds, and so is what is under way: nothing is checked twice that comes twice.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import trio

from qnode.core.ledger.block import Checked
from qnode.core.ledger.signatures import VOTE_CONTEXT, Claim, claims
from qnode.service.verify_child import HYBRID, VOTE, Check
from qnode.service.verify_pool import CheckPool, Job
from qustream.aio.admission import Bucket
from qustream.errors import QuStreamError
from qustream.model.ids import account_id
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import Statement
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Body, Transaction, open_body, transaction_id

__all__ = ["BEYOND", "UNTOLD", "Opened", "Verifier", "open_transaction"]

# What held: the mempool twice over, for a transaction comes by gossip and again in a block; the votes of ten views of a hundred.
TRANSACTIONS_KNOWN_MAX, STATEMENTS_KNOWN_MAX = 16_384, 4_096
# Votes that come alone or with one other are checked in the event loop: 0.1 ms each, and their way to a process and back takes twice that.
# Of a few validators nearly all come so; of many they come together, and what is above this a second, a hundredth of the loop, goes there.
HERE_MAX, HERE_PER_S = 2, 100
# The code of a transaction of which nobody could tell whether its signatures hold: processes died over it.
UNTOLD = "E-DEADLINE"
# And of one that a later version may understand: nobody is to blame for it, and nobody here can answer for its signatures.
BEYOND = "E-LEDGER-KIND"


class Opened(msgspec.Struct, frozen=True):
    """A transaction of this chain that decodes; nobody has looked at its signatures."""

    id: bytes
    size: int
    transaction: Transaction
    body: Body


def open_transaction(raw: bytes, chain: str, name: bytes = b"") -> Opened | str:
    """Decode hostile bytes. A code if it can never be valid, whatever the signatures. `name`: its id, if that is known already."""
    try:
        transaction = decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
        body = open_body(transaction)
    except QuStreamError as error:
        return error.code if error.code == BEYOND else "E-LEDGER-FORM"
    if body.chain != chain:
        return "E-LEDGER-FORM"
    if transaction.key is not None and account_id(transaction.key.id) != body.sender:
        return "E-LEDGER-SIGNATURE"
    return Opened(name or transaction_id(raw), len(raw), transaction, body)


class Verifier:
    """Of one chain. `run` it; what is asked waits until it runs."""

    def __init__(self, chain: str, *, workers: int = 0) -> None:
        """`workers`: processes at most; 0: as many as this machine has processors for. They start when there is work."""
        self.chain, self.pool = chain, CheckPool(workers)
        self._held = _Known(TRANSACTIONS_KNOWN_MAX)
        self._stated = _Known(STATEMENTS_KNOWN_MAX)
        self._under_way: dict[bytes, Job] = {}
        self._here = Bucket(HERE_PER_S, HERE_PER_S, 0.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        await self.pool.run(task_status=task_status)

    async def transactions(self, raws: Sequence[bytes], keys: Callable[[bytes], PublicKey | None]) -> list[Checked | str]:
        """Hostile bytes, each with what became of it: `E-LEDGER-FORM`, `E-LEDGER-SIGNATURE`, `E-LEDGER-KEY` if its key neither comes along
        nor is in `keys` (account → key), `E-DEADLINE` if nobody could tell."""
        opened = [open_transaction(raw, self.chain) for raw in raws]
        return await self.opened(opened, keys)

    async def opened(self, opened: Sequence[Opened | str], keys: Callable[[bytes], PublicKey | None]) -> list[Checked | str]:
        """As `transactions`, of what is decoded already; codes stay what they are."""
        jobs: list[Job | str | None] = []
        for each in opened:
            if isinstance(each, str):
                jobs.append(each)
                continue
            key = each.transaction.key or keys(each.body.sender)
            if key is None:
                jobs.append("E-LEDGER-KEY")
                continue
            jobs.append(await self._begin(each.id, self._held, partial(_checks_of, each, key), urgent=False))
        for job in jobs:  # one look serves a whole batch: its jobs are done together
            if isinstance(job, Job) and not job.is_done:
                await job.done.wait()
        return [_outcome(each, job) for each, job in zip(opened, jobs, strict=True)]

    async def statements(self, stated: Sequence[tuple[bytes, Statement, bytes]]) -> list[bool]:
        """Whether each of (raw vote key, statement, signature) holds; False too where nobody could tell. They go before transactions, and
        one or two by themselves nowhere: they are checked here."""
        is_here = len(stated) <= HERE_MAX and self._here.take(trio.current_time(), len(stated))
        jobs = []
        for public, statement, signature in stated:
            message = encode(statement)
            name = hashlib.sha256(b"".join((public, signature, message))).digest()  # the first two have one length each
            checks = partial(_vote_checks, public, message, signature)
            jobs.append(await self._begin(name, self._stated, checks, urgent=True, is_here=is_here))
        for job in jobs:
            if job is not None and not job.is_done:
                await job.done.wait()
        return [job is None or bool(job.holds) for job in jobs]

    async def _begin(
        self, name: bytes, known: _Known, checks: Callable[[], list[Check]], *, urgent: bool, is_here: bool = False
    ) -> Job | None:  # fmt: skip
        """The job that checks it; None if it is known to hold."""
        if known.has(name):
            return None
        job = self._under_way.get(name)
        if job is None:
            job = self._under_way[name] = Job(checks(), lambda job: self._end(name, known, job))
            if is_here:
                self.pool.check_now(job)
                return job
            try:
                await self.pool.put(job, urgent=urgent)
            except trio.Cancelled:  # it never got in: whoever else waits for it shall hear so
                job.settle(None)
                raise
        return job

    def _end(self, name: bytes, known: _Known, job: Job) -> None:
        del self._under_way[name]
        if job.holds:
            known.add(name)


def _outcome(opened: Opened | str, job: Job | str | None) -> Checked | str:
    if isinstance(opened, str):
        return opened
    if isinstance(job, str):
        return job
    if job is not None and not job.holds:
        return UNTOLD if job.holds is None else "E-LEDGER-SIGNATURE"
    return Checked(opened.id, opened.size, opened.body, opened.transaction.key)


class _Known:
    """Names of what held. The one longest not asked for gives way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: OrderedDict[bytes, None] = OrderedDict()

    def has(self, name: bytes) -> bool:
        if name not in self._names:
            return False
        self._names.move_to_end(name)
        return True

    def add(self, name: bytes) -> None:
        self._names[name] = None
        if len(self._names) > self._most:
            self._names.popitem(last=False)


def _checks_of(opened: Opened, key: PublicKey) -> list[Check]:
    return list(map(_check_of, claims(opened.transaction, opened.body, key)))


def _vote_checks(public: bytes, message: bytes, signature: bytes) -> list[Check]:
    return [Check(VOTE, public, VOTE_CONTEXT, message, signature)]


def _check_of(claim: Claim) -> Check:
    if claim.kind == "hybrid":
        assert isinstance(claim.public, PublicKey)
        assert isinstance(claim.purpose, str)
        return Check(HYBRID, claim.public.ed25519 + claim.public.mldsa, claim.purpose.encode(), claim.message, claim.signature)
    assert isinstance(claim.public, bytes)
    assert isinstance(claim.purpose, bytes)
    return Check(VOTE, claim.public, claim.purpose, claim.message, claim.signature)
