"""Transactions on their way into a block: judged, kept, offered to a proposer, found again for a voter (`proto/spec/mempool.md`).

    API ──────▶ submit ─┐  decode ─▶ nonce, fee, funds, room ─▶ signatures (processes) ─▶ the same again ─▶ core.mempool
    gossip ───▶ judge ──┘                                                                                   │
    proposer ─▶ pick ◀── in order of fees ──────────────────────────────────────────────────────────────────┤
    voter ────▶ get; obtain, from peers (`mempool_pull`) ◀──────────────────────────────────────────────────┘

Transactions come in bundles, and what is submitted goes out in bundles (`mempool_bundles`); each is judged by itself. What costs nothing is
looked at first, so that nobody makes this node verify what it would not keep. Nothing is on the disk: what waits when a node stops is still
with others, or its sender says it again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from qnode.service.mempool_bundles import Outbox, turn, unbundled
from qnode.service.mempool_pull import Obtained, Puller
from qnode.service.verify import BEYOND, UNTOLD, Opened, Verifier, open_transaction
from qustream.errors import QuStreamError, fault
from qustream.model.keys import PublicKey
from qustream.model.state import Account, Parameters, Table
from qustream.wire.codec import decode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, transaction_id

__all__ = ["Ledger", "Mempool", "MempoolCounts"]

# Our own transactions are said again when everybody has forgotten that he heard of them (120 s, `gossip.md` §4 and §5): who had no room
# for them may have some now.
AGAIN_S = 130.0
# Looked at so often: what nobody was there to hear is said when somebody is.
LOOK_S = 2.0
# Accounts that are remembered: twice as many as have a transaction in a block, and 4 MB of keys.
ACCOUNTS_MAX = 2_048
# A nonce and an amount.
ACCOUNT_MAX_BYTES = 32
# What can never be valid, whatever becomes of the chain.
NEVER_VALID = frozenset({"E-LEDGER-FORM", "E-LEDGER-SIGNATURE"})
_NOTHING: Mapping[bytes, int] = {}


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
    """Of one chain. `publish`: says a bundle of transactions to all nodes, False if nobody is linked who would hear it; `misled`: a peer
    has sent what it was not asked for; `stored`: finds a transaction of a block that is here, on the disk; called in a thread."""

    def __init__(
        self, ledger: Ledger, verifier: Verifier, *, publish: Callable[[Sequence[bytes]], bool] = lambda _: False,
        misled: Callable[[bytes], None] = lambda _: None, stored: Callable[[bytes], bytes | None] = lambda _: None, height: int = 0,
    ) -> None:  # fmt: skip
        self.core = core.Mempool(height=height)
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[Why] = Counter()
        self._ledger, self._verifier = ledger, verifier
        self.outbox = Outbox(publish, self._said)
        self._bodies: dict[bytes, tuple[bytes, Checked]] = {}
        self._accounts: dict[bytes, tuple[Account, PublicKey | None]] = {}  # as executed
        self._change: trio.Event | None = None
        self._own: dict[bytes, float] = {}  # when it was said last, of trio's clock; no more than wait
        self._puller = Puller(self._find, verifier, self.key_of, misled, stored)

    def __len__(self) -> int:
        return len(self.core)

    def change(self) -> trio.Event:
        """Set as soon as something comes to wait, or a block has been executed."""
        if self._change is None:
            self._change = trio.Event()
        return self._change

    def _tell(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.set()

    def counts(self) -> MempoolCounts:
        """For status and metrics."""
        dropped = {why.value: self.dropped[why] for why in Why}
        return MempoolCounts(len(self.core), self.core.bytes, dict(self.refused), dropped)

    # -- coming in --------------------------------------------------------------------------------------------------------

    async def submit(self, raw: bytes) -> bytes:
        """Take in a transaction of somebody who asked this node to, and say it to all others; its id. One that waits already is no error.

        Errors: `E-LEDGER-FORM`, `E-LEDGER-KIND`, `E-LEDGER-SIGNATURE`, `E-LEDGER-KEY`, `E-LEDGER-NONCE`, `E-LEDGER-EXPIRED`,
        `E-LEDGER-FEE`, `E-LEDGER-FUNDS`, `E-MEMPOOL-FULL`; `E-DEADLINE` if nobody could tell whether its signatures hold."""
        [answer] = await self.submit_all([raw])
        if isinstance(answer, Refused):
            raise fault(answer.code, answer.detail)
        return answer

    async def submit_ready(self, raw: bytes) -> bytes:
        """As `submit`, of what could stand in the next block. What is parked pays nothing until the gap before it is closed, and would be
        said again for as long as it waits. Errors: as `submit`; `E-LEDGER-NONCE` for one behind a gap, too."""
        opened = open_transaction(raw, self._verifier.chain) if len(raw) <= TRANSACTION_MAX_BYTES else None
        if isinstance(opened, Opened) and not self.core.is_ready(self._offer_of(opened)):
            self._count(Refused(opened.id, "E-LEDGER-NONCE", ""))
            raise fault("E-LEDGER-NONCE", "one before it is missing")
        return await self.submit(raw)

    async def submit_all(self, raws: Sequence[bytes]) -> list[bytes | Refused]:
        """As `submit`, of several, each by itself: its id, or why not. Errors: of the store alone."""
        looked = [self._looked_at(raw) for raw in raws]
        checked = iter(await self._verified(looked))
        answers: list[bytes | Refused] = []
        for raw, each in zip(raws, looked, strict=True):
            refused = self._kept(raw, each, next(checked)) if isinstance(each, Opened) else each
            if refused is not None and refused.code != "E-LEDGER-KNOWN":  # it may have come by gossip while it was verified
                self._count(refused)
                answers.append(refused)
                continue
            answers.append(each.id)
            if each.id not in self._own and each.id in self.core:
                self._say(each.id, raw)
        return answers

    def judge(self, body: bytes, _peer: bytes) -> Verdict | Awaitable[Verdict]:
        """What gossip asks about a bundle. Bad is only what can never be valid, in it or of it: all else may be a matter of time."""
        raws = unbundled(body)
        if raws is None:
            self._count(Refused(b"", "E-LEDGER-FORM", ""))
            return Verdict.BAD
        try:
            looked = self._looked_through(raws)
        except QuStreamError:  # our own disk: the chain says so, as a condition
            return Verdict.USELESS
        refusals = [each for each in looked if isinstance(each, Refused)]
        for refused in refusals:
            self._count(refused)
        if any(refused.code in NEVER_VALID for refused in refusals):
            return Verdict.BAD
        return Verdict.USELESS if len(refusals) == len(looked) else self._judge(raws, looked)

    async def _judge(self, raws: Sequence[bytes], looked: Sequence[Opened | Refused]) -> Verdict:
        try:
            others = self._vouched_for(raws, looked)
            verified = await self._verified([*looked, *others])
            if "E-LEDGER-SIGNATURE" in verified:  # who made the bundle has not looked; of what he says nothing is taken on his word
                self._count(Refused(b"", "E-LEDGER-SIGNATURE", ""))
                return Verdict.BAD
            checked, kept = iter(verified), []
            for raw, each in zip(raws, looked, strict=True):
                if isinstance(each, Opened):
                    refused = self._kept(raw, each, next(checked))
                    if refused is None:
                        kept.append((each.id, raw))
                    else:
                        self._count(refused)
        except QuStreamError:
            return Verdict.USELESS
        beyond = any(isinstance(each, Refused) and each.code == BEYOND for each in looked)
        return self._worth(raws, kept, all_hold=not beyond and all(isinstance(each, Checked) for each in verified))

    def _vouched_for(self, raws: Sequence[bytes], looked: Sequence[Opened | Refused]) -> list[Opened]:
        """What this node does not keep, of a bundle that it may pass on: it answers for the signatures of these, too, for to somebody whose
        state is another they may be what he keeps."""
        if 2 * sum(len(raw) for raw, each in zip(raws, looked, strict=True) if isinstance(each, Opened)) < sum(map(len, raws)):
            return []
        strange = [raw for raw, each in zip(raws, looked, strict=True) if isinstance(each, Refused) and each.code != "E-LEDGER-KNOWN"]
        opened = [open_transaction(raw, self._verifier.chain) for raw in strange]
        return [each for each in opened if isinstance(each, Opened)]

    def _worth(self, raws: Sequence[bytes], kept: Sequence[tuple[bytes, bytes]], *, all_hold: bool) -> Verdict:
        """Whether a bundle is passed on: if half of its bytes are of use here, and all signatures hold. What little is of use in another
        goes out by itself: all who judge it alike make the same bundle of it."""
        if all_hold and 2 * sum(len(raw) for _, raw in kept) >= sum(map(len, raws)):
            return Verdict.GOOD
        self.outbox.say(kept)
        return Verdict.USELESS

    def _looked_through(self, raws: Sequence[bytes]) -> list[Opened | Refused]:
        """A bundle's. What has no place beside those before it is not verified: or who has one place, or can pay for one, would have as
        many verified for it as travel together."""
        looked: list[Opened | Refused] = []
        places: set[tuple[bytes, int]] = set()
        spent: Counter[bytes] = Counter()
        for raw in raws:
            each = self._looked_at(raw, spent)
            if isinstance(each, Opened):
                place = each.body.sender, each.body.nonce
                if place in places:
                    each = Refused(each.id, "E-LEDGER-NONCE", "one before it in the bundle has this nonce")
                else:
                    places.add(place)
                    spent[each.body.sender] += self._offer_of(each).waiting.cost
            looked.append(each)
        return looked

    def _looked_at(self, raw: bytes, spent: Mapping[bytes, int] = _NOTHING) -> Opened | Refused:
        """All that can be said of it before its signatures are verified. `spent`: by its sender, on what may come to wait with it."""
        name = transaction_id(raw) if len(raw) <= TRANSACTION_MAX_BYTES else b""
        if name in self.core:
            return Refused(name, "E-LEDGER-KNOWN", "it waits already")
        opened = open_transaction(raw, self._verifier.chain, name)
        if isinstance(opened, str):
            return Refused(name, opened, "")
        return self._fit(name, opened) or self.core.refusal(self._offer_of(opened, spent.get(opened.body.sender, 0))) or opened

    async def _verified(self, looked: Sequence[Opened | Refused]) -> list[Checked | str]:
        """Of each that was not refused."""
        opened = [each for each in looked if isinstance(each, Opened)]
        return await self._verifier.opened(opened, self.key_of) if opened else []

    def _fit(self, name: bytes, opened: Opened) -> Refused | None:
        """Whether its key is known and its fee is enough."""
        if opened.transaction.key is None and self.key_of(opened.body.sender) is None:
            return Refused(name, "E-LEDGER-KEY", "")
        least = fee_least(opened.body.action, opened.size, self._ledger.parameters)
        return Refused(name, "E-LEDGER-FEE", f"at least {least}") if opened.body.fee < least else None

    def _offer_of(self, opened: Opened | Checked, spent: int = 0) -> Offered:
        body = opened.body
        held, _ = self._account(body.sender)
        cost = spent + body.fee + outflow(body.action, self._ledger.parameters)
        return Offered(
            Waiting(opened.id, body.sender, body.nonce, body.expires, body.fee, cost, opened.size), held.nonce, held.liquid
        )  # fmt: skip

    def _kept(self, raw: bytes, opened: Opened, checked: Checked | str) -> Refused | None:
        """Keep what has been verified, if it was."""
        if isinstance(checked, str):
            return Refused(opened.id, checked, "" if checked != UNTOLD else "its signatures could not be checked")
        return self._keep(raw, checked)

    def _count(self, refused: Refused) -> None:
        if refused.code != "E-LEDGER-KNOWN":
            self.refused[refused.code] += 1

    def _keep(self, raw: bytes, checked: Checked) -> Refused | None:
        """The state may be another than when it was looked at first, and so may be what waits."""
        effects = core.step(self.core, self._offer_of(checked))
        answer = effects[-1]
        if not isinstance(answer, Refused):
            self._bodies[checked.id] = raw, checked
            self._tell()
        self._drop(effects)
        return answer if isinstance(answer, Refused) else None

    # -- the chain goes on ------------------------------------------------------------------------------------------------

    def executed(self, height: int, changes: Mapping[bytes, bytes | None]) -> None:
        """The block of this height has been executed, and this is what it changed in the state. To be told of every block: what is
        remembered of accounts lives on it."""
        told = []
        for key in changes:
            if key[0] == Table.ACCOUNT_KEY:
                self._accounts.pop(key[1:], None)  # it comes with an account's first transaction
        for key, value in changes.items():
            if key[0] == Table.ACCOUNT:
                held = Account(0, 0) if value is None else decode(value, Account, max_bytes=ACCOUNT_MAX_BYTES)
                told.append((key[1:], held.nonce, held.liquid))
                known = self._accounts.get(key[1:])
                if known is not None:
                    self._accounts[key[1:]] = held, known[1]
        self._drop(core.step(self.core, Executed(height, tuple(told))))
        self._tell()

    def _drop(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Dropped):
                self.dropped[effect.why] += 1
                del self._bodies[effect.id]
                self._own.pop(effect.id, None)

    async def run(self) -> None:
        """Say what is submitted, and our own transactions again as long as they wait, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.outbox.run)
            while True:
                await trio.sleep(LOOK_S)
                for raw in self._due(trio.current_time()):
                    self._say(transaction_id(raw), raw)

    def _due(self, now_s: float) -> list[bytes]:
        """What to say now: all that nobody heard, and of what was said long ago one turn's, the longest ago first."""
        bodies = {name: self._bodies[name][0] for name in self._own}
        unheard = [bodies[name] for name, said_s in self._own.items() if said_s == -math.inf]
        heard = sorted((said_s, name) for name, said_s in self._own.items() if -math.inf < said_s <= now_s - AGAIN_S)
        again = turn((bodies[name] for _, name in heard), LOOK_S / AGAIN_S, len(bodies), sum(map(len, bodies.values())))
        return unheard + again

    def _say(self, name: bytes, raw: bytes) -> None:
        self._own[name] = trio.current_time()
        self.outbox.add(name, raw)

    def unsaid(self, name: bytes) -> None:
        """One of our own was said to nobody after all: it is said again soon."""
        if name in self._own:
            self._own[name] = -math.inf

    def _said(self, names: Sequence[bytes], was_heard: bool) -> None:
        for name in names:
            if name in self._own:
                self._own[name] = trio.current_time() if was_heard else -math.inf

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
