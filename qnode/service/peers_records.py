"""Where nodes say they are: judging, keeping, saying and asking for address records (`proto/spec/peers.md`, §1 and §6).

What costs nothing is checked first. Signatures are verified in a worker thread, all that have gathered by then in one visit. Records go
to the disk a few seconds later, in batches: what a crash loses is asked for again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import trio

from qnode.core.gossip_events import Verdict
from qnode.core.gossip_limits import TOPIC_LIMITS
from qnode.core.peers_limits import AHEAD_MAX_MS, RECORD_EVERY_MS
from qnode.core.peers_records import check_record
from qnode.net.answers import PAGES_MAX
from qnode.net.hub import Hub
from qnode.net.session import Session
from qnode.service.gossip import GossipService
from qnode.service.peers_known import KnownNodes
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey, verify
from qustream.model.base import Signed
from qustream.model.keys import PublicKey
from qustream.model.network import AddressRecord
from qustream.rules.peering import is_address
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import Topic
from qustream.wire.peers import RECORDS_MAX, AddressAnswer, AddressAsk

__all__ = ["RecordKeeper", "Records"]

# What gossip carries, no record is larger.
RECORD_MAX_BYTES = TOPIC_LIMITS[Topic.ADDRESS].body_max_bytes
# Verified in one visit to a thread: 64 × 0.4 ms, and then others have their turn.
VERIFIED_AT_ONCE_MAX = 64
FLUSH_S = 2.0  # between two writes to the disk
# Records are asked for a page at a time, from so many links.
ASKED_LINKS = 2
ASK_MS = 20_000
# Until a page that does not come is given up for good, and how long a start may take to bring links: an hour, then gossip has brought most.
ASK_PAUSE_S, ASK_TRIES_MAX = 5.0, 720
# Of what was missed while a link was down, at once: 512 records, and 2.4 MiB to be pulled from us. If there is more, it is asked for later.
MISSED_PAGES_MAX = 8
BEFORE_ALL = bytes(32)
PAGE_MAX_BYTES = RECORDS_MAX * RECORD_MAX_BYTES + 64


class RecordKeeper(Protocol):
    """What of peers is on the disk. Every method may take as long as the disk does. Errors: `E-NODE-READONLY`, `E-DISK-FULL`."""

    def records(self) -> Sequence[tuple[bytes, Signed]]: ...
    def records_of(self, nodes: Sequence[bytes]) -> Mapping[bytes, Signed]: ...
    def keep_records(self, records: Mapping[bytes, Signed]) -> None: ...
    def issued_ms(self) -> int: ...
    def keep_issued_ms(self, issued_ms: int) -> None: ...
    def forget_others(self, known: Container[bytes]) -> None: ...


@dataclass(slots=True)
class _Claim:
    """A signature that waits to be verified."""

    key: PublicKey
    signed: Signed
    holds: bool | None = None


def _verify_all(claims: Sequence[_Claim]) -> None:
    for claim in claims:
        claim.holds = verify(claim.key, "address", claim.signed.body, claim.signed.signature)


class Signatures:
    """Verifies in a worker thread whatever has gathered while it was busy."""

    def __init__(self) -> None:
        self._waiting: list[_Claim] = []
        self._turn = trio.Lock()

    async def hold(self, key: PublicKey, signed: Signed) -> bool:
        """Whether the signature holds."""
        claim = _Claim(key, signed)
        self._waiting.append(claim)
        async with self._turn:
            while claim.holds is None:
                batch, self._waiting = self._waiting[:VERIFIED_AT_ONCE_MAX], self._waiting[VERIFIED_AT_ONCE_MAX:]
                await trio.to_thread.run_sync(_verify_all, batch)
        return claim.holds


class Records:
    """The newest address record of every known node, our own among them. `addresses`: what the configuration says of our own; `clock_ms`:
    the machine's clock; `learnt` hears of every record that counts."""

    def __init__(
        self, key: SigningKey, known: KnownNodes, keeper: RecordKeeper, addresses: Sequence[str], *, chain: str,
        clock_ms: Callable[[], int], learnt: Callable[[bytes, int, tuple[str, ...]], None],
    ) -> None:  # fmt: skip
        self._key, self._known, self._keeper, self._addresses = key, known, keeper, tuple(addresses)
        self._chain, self._clock_ms, self._learnt = chain, clock_ms, learnt
        self._newest: dict[bytes, tuple[int, tuple[str, ...]]] = {}
        self._unkept: dict[bytes, Signed] = {}
        self._taken_s: dict[bytes, float] = {}  # when, by trio's clock; none for what the disk had
        self._signatures = Signatures()
        self._issued_ms = keeper.issued_ms()
        self._asked: set[bytes] = set()
        for node, signed in keeper.records():
            with suppress(QuStreamError):  # another version of this program may have kept it
                record = decode(signed.body, AddressRecord, max_bytes=RECORD_MAX_BYTES)
                self._newest[node] = (record.issued_ms, record.addresses)

    def begin(self) -> None:
        """The network is known: tell what the disk had."""
        for node, (issued_ms, addresses) in list(self._newest.items()):
            if node in self._known:
                self._learnt(node, issued_ms, addresses)

    async def forget_others(self) -> None:
        """The network is another: let go of those who are not known any more."""
        self._newest = {node: newest for node, newest in self._newest.items() if node in self._known or node == self._key.id}
        self._unkept = {node: signed for node, signed in self._unkept.items() if node in self._newest}
        self._taken_s = {node: taken_s for node, taken_s in self._taken_s.items() if node in self._newest}
        try:  # not a copy: what is taken while the disk is busy stays
            await trio.to_thread.run_sync(self._keeper.forget_others, self._newest)
        except QuStreamError:
            return  # the next change of the network does it

    # -- what others say --------------------------------------------------------------------------------------------------

    async def judge(self, body: bytes, _peer: bytes) -> Verdict:
        """As a `Judge` of gossip."""
        try:
            signed = decode(body, Signed, max_bytes=RECORD_MAX_BYTES)
        except QuStreamError:
            return Verdict.BAD
        return await self.take(signed)

    async def take(self, signed: Signed) -> Verdict:
        """Keep a record if it is good, and say what it is."""
        try:
            record = decode(signed.body, AddressRecord, max_bytes=RECORD_MAX_BYTES)
        except QuStreamError:
            return Verdict.BAD
        if record.node == self._key.id:
            return await self._take_own(record, signed)
        verdict = self._check(record)
        if verdict is not Verdict.GOOD:
            return verdict
        known = self._known.get(record.node)
        assert known is not None, "a record of nobody is useless"
        if not await self._signatures.hold(known.key, signed):
            return Verdict.BAD
        verdict = self._check(record)  # a newer one may have come meanwhile
        if verdict is Verdict.GOOD:
            self._hold(record, signed)
            self._learnt(record.node, record.issued_ms, record.addresses)
        return verdict

    async def _take_own(self, record: AddressRecord, signed: Signed) -> Verdict:
        """What comes back to us is of no use, but for one thing: if it is newer than what we remember, our disk is an old copy, and nobody
        would take what we say until our time has passed that of the record."""
        if self._issued_ms < record.issued_ms <= self._clock_ms() + AHEAD_MAX_MS and record.chain == self._chain:
            if not await self._signatures.hold(self._key.public, signed):
                return Verdict.BAD
            if record.issued_ms > self._issued_ms:
                self._issued_ms = record.issued_ms
                self._hold(record, signed)
        return Verdict.USELESS

    def _check(self, record: AddressRecord) -> Verdict:
        """What a record is as far as it costs nothing to find out."""
        newest_ms, _ = self._newest.get(record.node, (None, ()))
        return check_record(
            record, self._known, newest_ms, chain=self._chain, now_ms=self._clock_ms(), from_ms=self._known.records_from_ms
        )  # fmt: skip

    def _hold(self, record: AddressRecord, signed: Signed) -> None:
        self._newest[record.node] = (record.issued_ms, record.addresses)
        self._unkept[record.node] = signed
        self._taken_s[record.node] = trio.current_time()

    def addresses(self, node: bytes) -> Sequence[str]:
        """Where the network says that a known node is: its record's, else the registry's."""
        known = self._known.get(node)
        issued_ms, addresses = self._newest.get(node, (-1, ()))
        if issued_ms >= self._known.records_from_ms:
            return addresses
        return known.addresses if known is not None else ()

    async def after(self, node: bytes, within_s: int = 0) -> Sequence[Signed]:
        """The newest records of the next `RECORDS_MAX` nodes in order of id. `within_s`: of those alone that were taken in the last so many
        seconds; 0: of all."""
        taken: Mapping[bytes, object] = self._newest
        if within_s:
            from_s = trio.current_time() - within_s
            taken = {name: taken_s for name, taken_s in self._taken_s.items() if taken_s >= from_s}
        names = heapq.nsmallest(RECORDS_MAX, (name for name in taken if name > node and self._counts(name)))
        # As it is now: what is not kept yet is, while the disk is asked for the others.
        found = {name: self._unkept[name] for name in names if name in self._unkept}
        found |= await trio.to_thread.run_sync(self._keeper.records_of, [name for name in names if name not in found])
        return [found[name] for name in names if name in found]

    def _counts(self, node: bytes) -> bool:
        return self._newest[node][0] >= self._known.records_from_ms and (node in self._known or node == self._key.id)

    # -- what we say ------------------------------------------------------------------------------------------------------

    def _to_say(self) -> tuple[str, ...]:
        """The addresses that have to be said now; none if there is nothing to say (`proto/spec/peers.md`, §1)."""
        own, now_ms = self._known.own, self._clock_ms()
        if own is None:
            return ()
        addresses = tuple(filter(is_address, self._addresses or own.addresses))  # for anything else others would charge us
        said_ms, said = self._newest.get(self._key.id, (None, ()))
        if said_ms is not None and abs(now_ms - said_ms) < RECORD_EVERY_MS:
            return ()
        if said_ms is None or said_ms < self._known.records_from_ms or self._is_astray(said_ms):
            is_due = addresses != own.addresses
        else:
            is_due = addresses != said or (addresses != own.addresses and said_ms < self._known.epoch_began_ms)
        return addresses if is_due else ()

    def _is_astray(self, issued_ms: int) -> bool:
        """Whether a record of ours is from a time when our clock was far ahead: nobody took it, and nobody would take one that is later."""
        return issued_ms > self._clock_ms() + self._known.epoch_ms

    async def _say(self, gossip: GossipService) -> None:
        addresses = self._to_say()
        if not addresses:
            return
        issued_ms = self._clock_ms()
        if not self._is_astray(self._issued_ms):
            issued_ms = max(issued_ms, self._issued_ms + RECORD_EVERY_MS)
        record = AddressRecord(self._chain, self._key.id, issued_ms, addresses)

        def make() -> Signed:
            self._keeper.keep_issued_ms(issued_ms)  # before anybody hears it, so that it rises across a crash too
            return self._key.sign_noun("address", record)

        signed = await trio.to_thread.run_sync(make)
        self._issued_ms = issued_ms
        self._hold(record, signed)
        gossip.publish(Topic.ADDRESS, encode(signed))

    # -- running ----------------------------------------------------------------------------------------------------------

    async def run(self, gossip: GossipService, hub: Hub) -> None:
        """Say what is to be said, keep what is new, and ask for what was missed, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_all, hub, gossip)
                while True:
                    await trio.sleep(FLUSH_S)
                    with suppress(QuStreamError):  # a full disk is the store's to tell; it is tried again
                        if hub.links:
                            await self._say(gossip)
                        await self._flush()
        finally:
            with suppress(QuStreamError):
                self._keeper.keep_records(self._unkept)

    async def _flush(self) -> None:
        if not self._unkept:
            return
        records = dict(self._unkept)
        await trio.to_thread.run_sync(self._keeper.keep_records, records)
        self._unkept = {node: signed for node, signed in self._unkept.items() if records.get(node) is not signed}

    async def _ask_all(self, hub: Hub, gossip: GossipService) -> None:
        """After a start with records older than an epoch: all of them, from two links."""
        newest_ms = max((issued_ms for node, (issued_ms, _) in self._newest.items() if node != self._key.id), default=0)
        if newest_ms > self._clock_ms() - self._known.epoch_ms > 0:
            return
        for _ in range(ASK_TRIES_MAX):
            await trio.sleep(ASK_PAUSE_S)
            for link in list(hub.links):
                if link.peer not in self._asked and len(self._asked) < ASKED_LINKS and await self.ask(link, gossip) is not None:
                    self._asked.add(link.peer)
            if len(self._asked) >= ASKED_LINKS:
                return

    async def ask(
        self, link: Session, gossip: GossipService, since_s: float | None = None, after: bytes = BEFORE_ALL
    ) -> bytes | None:  # fmt: skip
        """All pages of one peer. `since_s`: only what it has taken since then, some pages of it after this node, which are passed on to
        others. After which node there may be more; empty if there is none; None if the peer did not give them, and may be asked again."""

        def pass_on(signed: Signed) -> None:
            if since_s is not None:
                gossip.publish(Topic.ADDRESS, encode(signed))

        within_s = 0
        for _ in range(PAGES_MAX if since_s is None else MISSED_PAGES_MAX):
            if since_s is not None:
                within_s = math.ceil(trio.current_time() - since_s)
            try:
                body = await link.call(encode(AddressAsk(after, within_s)), ASK_MS, max_answer_bytes=PAGE_MAX_BYTES)
            except QuStreamError:
                return None
            try:
                page = decode(body, AddressAnswer, max_bytes=PAGE_MAX_BYTES).records
                after = await self._take_page(page, after, pass_on)
            except QuStreamError:
                gossip.misled(link.peer)
                return b""  # it is not asked again: others are, and gossip tells the rest
            if len(page) < RECORDS_MAX:
                return b""
        return after

    async def _take_page(self, page: Sequence[Signed], after: bytes, pass_on: Callable[[Signed], None]) -> bytes:
        """Take records that stand in order, and return the last one's node. Errors: `E-ANSWER-INVALID`, `E-WIRE-…`."""
        names = [decode(signed.body, AddressRecord, max_bytes=RECORD_MAX_BYTES).node for signed in page]
        if any(one >= other for one, other in pairwise([after, *names])):
            raise fault("E-ANSWER-INVALID", "address records out of order")
        verdicts: list[Verdict] = []

        async def take(signed: Signed) -> None:
            verdict = await self.take(signed)
            verdicts.append(verdict)
            if verdict is Verdict.GOOD:
                pass_on(signed)

        async with trio.open_nursery() as nursery:
            for signed in page:
                nursery.start_soon(take, signed)
        if Verdict.BAD in verdicts:
            raise fault("E-ANSWER-INVALID", "an address record that does not hold")
        return names[-1] if names else after
