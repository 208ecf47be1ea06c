"""Transactions on their way into a block: judged, kept, offered to a proposer, found again for a voter (`proto/spec/mempool.md`).

    API ──────▶ submit ─┐  decode ─▶ nonce, fee, funds, room ─▶ signatures (processes) ─▶ the same again ─▶ core.mempool
    gossip ───▶ judge ──┘                                                                                   │
    proposer ─▶ pick ◀── in order of fees ──────────────────────────────────────────────────────────────────┤
    voter ────▶ get; obtain, from peers (`mempool_pull`) ◀──────────────────────────────────────────────────┘

What costs nothing is looked at first, so that nobody makes this node verify what it would not keep. Nothing is on the disk: what waits
when a node stops is still with others, or its sender says it again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from qnode.core import mempool as core
from qnode.core.gossip_events import Verdict
from qnode.core.ledger.actions import fee_least, outflow
from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked
from qnode.core.ledger.state import Reader, State
from qnode.core.mempool_events import Dropped, Effect, Executed, Offered, Refused, Waiting, Why
from qnode.net.session import Session
from qnode.service.mempool_pull import Obtained, Puller
from qnode.service.verify import UNTOLD, Opened, Verifier, open_transaction
from qustream.errors import QuStreamError, fault
from qustream.model.keys import PublicKey
from qustream.model.state import Account, Parameters, Table
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, transaction_id

__all__ = ["Ledger", "Mempool", "MempoolCounts"]

# Our own transactions are said again when everybody has forgotten that he heard of them (120 s, `gossip.md` §4 and §5): who had no room
# for them may have some now.
AGAIN_S = 130.0
# Looked at so often: what nobody was there to hear is said when somebody is.
LOOK_S = 2.0
# Accounts looked up since the last block: twice as many as have a transaction in one, and 4 MB of keys.
ACCOUNTS_MAX = 2_048
# What can never be valid, whatever becomes of the chain.
NEVER_VALID = frozenset({"E-LEDGER-FORM", "E-LEDGER-SIGNATURE"})


class Ledger(Protocol):
    """The chain, as far as it has been executed here."""

    @property
    def parameters(self) -> Parameters: ...

    def view(self) -> AbstractContextManager[Reader]:
        """The newest executed state; it does not change while it is open."""
        ...


@dataclass(frozen=True, slots=True)
class MempoolCounts:
    """How the mempool is. `refused`: by code, since the start; `dropped`: by reason."""

    transactions: int
    bytes: int
    refused: dict[str, int]
    dropped: dict[str, int]


class Mempool:
    """Of one chain. `publish`: says a transaction to all nodes, False if nobody is linked who would hear it; `misled`: a peer has sent what
    it was not asked for; `stored`: finds a transaction of a block that is here, on the disk; called in a thread."""

    def __init__(
        self, ledger: Ledger, verifier: Verifier, *, publish: Callable[[bytes], bool] = lambda _: False,
        misled: Callable[[bytes], None] = lambda _: None, stored: Callable[[bytes], bytes | None] = lambda _: None, height: int = 0,
    ) -> None:  # fmt: skip
        self.core = core.Mempool(height=height)
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[Why] = Counter()
        self._ledger, self._verifier, self._publish = ledger, verifier, publish
        self._bodies: dict[bytes, tuple[bytes, Checked]] = {}
        self._accounts: dict[bytes, tuple[Account, PublicKey | None]] = {}  # as executed; forgotten with the next block
        self._own: dict[bytes, float] = {}  # when it was said last, of trio's clock; no more than wait
        self._puller = Puller(self._find, verifier, self.key_of, misled, stored)

    def __len__(self) -> int:
        return len(self.core)

    def counts(self) -> MempoolCounts:
        """For status and metrics."""
        dropped = {why.value: self.dropped[why] for why in Why}
        return MempoolCounts(len(self.core), self.core.bytes, dict(self.refused), dropped)

    # -- coming in --------------------------------------------------------------------------------------------------------

    async def submit(self, raw: bytes) -> bytes:
        """Take in a transaction of somebody who asked this node to, and say it to all others; its id. One that waits already is no error.

        Errors: `E-LEDGER-FORM`, `E-LEDGER-SIGNATURE`, `E-LEDGER-KEY`, `E-LEDGER-NONCE`, `E-LEDGER-EXPIRED`, `E-LEDGER-FEE`,
        `E-LEDGER-FUNDS`, `E-MEMPOOL-FULL`; `E-DEADLINE` if nobody could tell whether its signatures hold."""
        name = transaction_id(raw) if len(raw) <= TRANSACTION_MAX_BYTES else b""
        if name not in self.core:
            refused = await self._take(raw, *self._looked_at(raw))
            if refused is not None and refused.code != "E-LEDGER-KNOWN":  # it came by gossip while it was verified
                raise fault(refused.code, refused.detail)
        if name not in self._own and name in self.core:
            self._say(name, raw)
        return name

    def judge(self, body: bytes, _peer: bytes) -> Verdict | Awaitable[Verdict]:
        """What gossip asks about a transaction. Bad is only what can never be valid: all else may be a matter of time."""
        try:
            opened, refused = self._looked_at(body)
        except QuStreamError:  # our own disk: the chain says so, as a condition
            return Verdict.USELESS
        if refused is None:
            return self._judge(body, opened)
        self._count(refused)
        return _verdict(refused)

    async def _judge(self, body: bytes, opened: Opened | None) -> Verdict:
        try:
            return _verdict(await self._take(body, opened, None))
        except QuStreamError:
            return Verdict.USELESS

    def _looked_at(self, raw: bytes) -> tuple[Opened | None, Refused | None]:
        """All that can be said of it before its signatures are verified."""
        opened = open_transaction(raw, self._verifier.chain)
        if isinstance(opened, str):
            return None, Refused(b"", opened, "")
        return opened, self._fit(opened.id, opened) or self.core.refusal(self._offer_of(opened))

    def _fit(self, name: bytes, opened: Opened) -> Refused | None:
        """Whether its key is known and its fee is enough."""
        if opened.transaction.key is None and self.key_of(opened.body.sender) is None:
            return Refused(name, "E-LEDGER-KEY", "")
        least = fee_least(opened.body.action, opened.size, self._ledger.parameters)
        return Refused(name, "E-LEDGER-FEE", f"at least {least}") if opened.body.fee < least else None

    def _offer_of(self, opened: Opened | Checked) -> Offered:
        body = opened.body
        held, _ = self._account(body.sender)
        cost = body.fee + outflow(body.action, self._ledger.parameters)
        return Offered(
            Waiting(opened.id, body.sender, body.nonce, body.expires, body.fee, cost, opened.size), held.nonce, held.liquid
        )  # fmt: skip

    async def _take(self, raw: bytes, opened: Opened | None, refused: Refused | None) -> Refused | None:
        """Verify it and keep it, if it was not refused already."""
        if refused is None:
            assert opened is not None
            [checked] = await self._verifier.opened([opened], self.key_of)
            if isinstance(checked, str):
                refused = Refused(opened.id, checked, "" if checked != UNTOLD else "its signatures could not be checked")
            else:
                refused = self._keep(raw, checked)
        if refused is not None:
            self._count(refused)
        return refused

    def _count(self, refused: Refused) -> None:
        if refused.code != "E-LEDGER-KNOWN":
            self.refused[refused.code] += 1

    def _keep(self, raw: bytes, checked: Checked) -> Refused | None:
        """The state may be another than when it was looked at first, and so may be what waits."""
        effects = core.step(self.core, self._offer_of(checked))
        answer = effects[-1]
        if not isinstance(answer, Refused):
            self._bodies[checked.id] = raw, checked
        self._drop(effects)
        return answer if isinstance(answer, Refused) else None

    # -- the chain goes on ------------------------------------------------------------------------------------------------

    def executed(self, height: int, senders: Iterable[bytes]) -> None:
        """The block of this height has been executed, and `senders` are who sent its transactions."""
        self._accounts.clear()
        told = []
        for sender in set(senders):
            held, _ = self._account(sender)
            told.append((sender, held.nonce, held.liquid))
        self._drop(core.step(self.core, Executed(height, tuple(told))))

    def _drop(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Dropped):
                self.dropped[effect.why] += 1
                del self._bodies[effect.id]
                self._own.pop(effect.id, None)

    async def run(self) -> None:
        """Say our own transactions again as long as they wait, until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            now_s = trio.current_time()
            for name, said_s in list(self._own.items()):
                if now_s - said_s >= AGAIN_S:
                    self._say(name, self._bodies[name][0])

    def _say(self, name: bytes, raw: bytes) -> None:
        self._own[name] = trio.current_time() if self._publish(raw) else -math.inf

    # -- for blocks -------------------------------------------------------------------------------------------------------

    def get(self, name: bytes) -> tuple[bytes, Checked] | None:
        """A transaction that waits: its bytes, and what has been verified."""
        return self._bodies.get(name)

    def pick(self, admission: Admission, height: int, bytes_max: int, count_max: int) -> list[Checked]:
        """Transactions for the block of `height`, the highest fee a byte first; all of them are added to `admission`."""

        def admit(name: bytes) -> bool | None:
            checked = self._bodies[name][1]
            if checked.body.nonce < admission.next_nonce(checked.body.sender):
                return None  # it stands in a block that is not executed yet
            return admission.add(checked, height) is None

        return [self._bodies[name][1] for name in self.core.pick(admit, bytes_max, count_max)]

    async def obtain(self, ids: Sequence[bytes], sessions: Sequence[Session]) -> Obtained:
        """The transactions of a block: those that wait here, then the disk's, then those of peers, asked one after the other."""
        return await self._puller.obtain(ids, sessions)

    async def answer(self, session: Session, body: bytes, deadline_ms: int) -> bytes:
        """Answer a `TransactionsAsk`; for the desk. Errors: the refusal."""
        return await self._puller.answer(session, body, deadline_ms)

    def _find(self, name: bytes) -> tuple[bytes, Checked] | None:
        return self._bodies.get(name)

    def key_of(self, account: bytes) -> PublicKey | None:
        """The key of an account, if the executed state has it."""
        return self._account(account)[1]

    def _account(self, account: bytes) -> tuple[Account, PublicKey | None]:
        found = self._accounts.get(account)
        if found is None:
            try:
                found = self._read(account)
            except QuStreamError:  # the store has moved on under us; the next view is of what it has moved to
                found = self._read(account)
            if len(self._accounts) >= ACCOUNTS_MAX:
                self._accounts.clear()
            self._accounts[account] = found
        return found

    def _read(self, account: bytes) -> tuple[Account, PublicKey | None]:
        with self._ledger.view() as view:
            state = State(view)
            held = state.get(Table.ACCOUNT, account, Account)
            return held or Account(0, 0), state.get(Table.ACCOUNT_KEY, account, PublicKey) if held is not None else None


def _verdict(refused: Refused | None) -> Verdict:
    if refused is None:
        return Verdict.GOOD
    return Verdict.BAD if refused.code in NEVER_VALID else Verdict.USELESS
