"""Following the chain by hand-overs, and believing proofs (`proto/spec/light-client.md`, §2 and §3). Sans-IO: it says what to ask next.

    while (question := trust.question()) is not None:
        trust.take(question, ask(question))

Every answer may be hostile. What does not check raises, and has changed nothing: ask somebody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from qustream.errors import QuStreamError, fault
from qustream.model.base import U63, Bytes32, Noun
from qustream.rules import radix
from qustream.rules.rotation import quorum
from qustream.wire.chain import rotation_set_hash
from qustream.wire.codec import decode
from qustream.wire.consensus import VALIDATORS_MAX, Certificate, ChainHeader, Kind, Statement, header_digest, voters_of
from qustream.wire.light import (
    LIGHT_ANSWER_MAX_BYTES,
    Checkpoint,
    CheckpointAsk,
    HandOver,
    HandOvers,
    HandOversAsk,
    KeysAsk,
    LightAsk,
    Proofs,
    SetAsk,
    SetTold,
    VoteKeys,
    checkpoint_digest,
)

__all__ = ["CHECKPOINT_MAX_MS", "HEAD_MAX_MS", "Known", "Later", "Trust", "VoteVerifier"]

# Half of what a stake takes to unbond: who signed an older set may have nothing left to lose.
CHECKPOINT_MAX_MS = 14 * 86_400_000
# An idle chain has a block every five seconds; clocks of applications are wrong by seconds, seldom by a minute.
HEAD_MAX_MS = 60_000
# A fold of six weeks of rotations of an hour: beyond, something is wrong.
HAND_OVERS_AT_ONCE_MAX = 1024

# (vote key, statement, signature) -> whether it holds.
VoteVerifier = Callable[[bytes, Statement, bytes], bool]
NOTHING = bytes(32)


class Known(Noun, frozen=True):
    """What a client remembers between its runs: the newest set that it has verified. `time_ms`: when that rotation began, at the latest;
    `height`: of the newest state seen."""

    pinned: Bytes32
    chain: Annotated[str, Meta(max_length=64)]
    rotation: U63
    set: Bytes32
    time_ms: U63
    height: U63


class Later(Exception):
    """An answer is of a rotation that is not known yet: follow first, then ask again."""


def _lie(detail: str) -> QuStreamError:
    return fault("E-PROOF", detail)


class Trust:
    """What is known to be true, and what to ask to know more. `known`: of an earlier run, whose checkpoint must be the same."""

    def __init__(self, pinned: bytes, *, verify: VoteVerifier, now_ms: int, known: Known | None = None) -> None:
        """Errors: `E-CHECKPOINT-OLD` if what is remembered is too old to go on from."""
        self.pinned = pinned
        self.chain = ""
        self.height = self.rotation = self._time_ms = 0
        self._verify = verify
        self._now_ms = now_ms
        self._set_hash = NOTHING
        self._set: SetTold | None = None
        self._before: SetTold | None = None  # a head may still be of the rotation before
        self._keys: dict[bytes, bytes] = {}  # by hash; those of the two sets at most
        self._waiting: list[HandOver] = []
        self._followed = 0
        self._is_current = False
        if known is not None and known.pinned == pinned and known.rotation:
            self._begin(known.chain, known.rotation, known.set, known.time_ms)
            self.height = known.height

    def _begin(self, chain: str, rotation: int, set_hash: bytes, time_ms: int) -> None:
        self._refuse_old(time_ms)
        self.chain, self.rotation, self._set_hash, self._time_ms = chain, rotation, set_hash, time_ms

    def _refuse_old(self, time_ms: int) -> None:
        if self._now_ms - time_ms > CHECKPOINT_MAX_MS:
            days = (self._now_ms - time_ms) // 86_400_000
            raise fault(
                "E-CHECKPOINT-OLD", f"what is known is {days} days old, and good for 14; get a newer checkpoint from whom you trust"
            )

    @property
    def known(self) -> Known:
        """To be remembered."""
        return Known(self.pinned, self.chain, self.rotation, self._set_hash, self._time_ms, self.height)

    # -- following ------------------------------------------------------------------------------------------------------------

    def follow(self, now_ms: int) -> None:
        """Look for a newer rotation again. Errors: `E-CHECKPOINT-OLD` if the newest that is known is too old to go on from: a program that
        slept for a month is no better off than one that was started with an old checkpoint."""
        self._is_current, self._now_ms, self._followed = False, now_ms, 0
        if self.rotation:
            self._refuse_old(self._time_ms)

    def question(self) -> LightAsk | None:
        """What to ask next to know the newest set; None if it is known."""
        if not self.rotation:
            return CheckpointAsk(self.pinned)
        if self._set is None:
            return SetAsk(self.rotation)
        missing = self._missing(self._set)
        if missing:
            return KeysAsk(missing)
        return None if self._is_current else HandOversAsk(self.rotation)

    def _missing(self, rotation_set: SetTold) -> tuple[bytes, ...]:
        wanted = dict.fromkeys(seat.vote_key for seat in rotation_set.seats)
        return tuple(each for each in wanted if each not in self._keys)

    def is_newest(self) -> None:
        """A node that was asked for hand-overs knows of none: this is the present rotation."""
        self._is_current = True

    def take(self, question: LightAsk, data: bytes) -> None:
        """The answer to what was asked. Errors: `E-PROOF` for a lie, `E-CHECKPOINT-OLD`, `E-WIRE-…`."""
        match question:
            case CheckpointAsk():
                self._take_checkpoint(decode(data, Checkpoint, max_bytes=LIGHT_ANSWER_MAX_BYTES))
            case SetAsk():
                self._take_set(decode(data, SetTold, max_bytes=LIGHT_ANSWER_MAX_BYTES))
            case KeysAsk(hashes=hashes):
                self._take_keys(hashes, decode(data, VoteKeys, max_bytes=LIGHT_ANSWER_MAX_BYTES))
            case HandOversAsk():
                self._take_hand_overs(decode(data, HandOvers, max_bytes=LIGHT_ANSWER_MAX_BYTES))
            case _:
                raise AssertionError("asked for by somebody else")

    def _take_checkpoint(self, checkpoint: Checkpoint) -> None:
        if checkpoint_digest(checkpoint) != self.pinned:
            raise _lie("not the checkpoint that is pinned")
        self._begin(checkpoint.chain, checkpoint.rotation, checkpoint.set, checkpoint.time_ms)

    def _take_set(self, rotation_set: SetTold) -> None:
        told = rotation_set_hash(rotation_set.rotation, rotation_set.seats, rotation_set.seed)
        if rotation_set.rotation != self.rotation or told != self._set_hash:
            raise _lie(f"not the set of rotation {self.rotation}")
        self._set = rotation_set
        if not self._missing(rotation_set):
            self._go_on()

    def _take_keys(self, hashes: Sequence[bytes], answer: VoteKeys) -> None:
        if [hashlib.sha256(key).digest() for key in answer.keys] != list(hashes):
            raise _lie("not the vote keys asked for")
        needed = {seat.vote_key for each in (self._set, self._before) if each is not None for seat in each.seats}
        self._keys = {name: key for name, key in (self._keys | dict(zip(hashes, answer.keys, strict=True))).items() if name in needed}
        assert len(self._keys) <= 2 * VALIDATORS_MAX
        self._go_on()

    def _take_hand_overs(self, answer: HandOvers) -> None:
        if not answer.items:
            self.is_newest()
            return
        self._hand_over(answer.items[0])
        self._waiting = list(answer.items[1:])

    def _go_on(self) -> None:
        """The next hand-over of those that have come, under the set that is known now. One that does not check is no fault of who has just
        told the set: the question comes up again."""
        if not self._waiting:
            return
        item, self._waiting = self._waiting[0], self._waiting[1:]
        try:
            self._hand_over(item)
        except QuStreamError:
            self._waiting.clear()

    def _hand_over(self, item: HandOver) -> None:
        header = item.header
        if header.rotation != self.rotation or header.next_set == NOTHING:
            raise _lie("a hand-over of another rotation, or of none")
        assert self._set is not None, "handed over by a known set"
        self._check(header, item.certificate, self._set)
        self._followed += 1
        if self._followed > HAND_OVERS_AT_ONCE_MAX:
            raise _lie("more rotations than there can have been")
        self._before, self._set = self._set, None
        self.rotation, self._set_hash = self.rotation + 1, header.next_set
        self._time_ms, self.height = max(self._time_ms, header.time_ms), max(self.height, header.executed)

    def _check(self, header: ChainHeader, certificate: Certificate, rotation_set: SetTold) -> None:
        """That a quorum of the set has made this header final. Errors: `E-PROOF`."""
        wanted = (self.chain, rotation_set.rotation, rotation_set.rotation, header.view, Kind.FINAL, header_digest(header))
        said = (header.chain, header.rotation, certificate.rotation, certificate.view, certificate.kind, certificate.digest)
        if said != wanted:
            raise _lie("the certificate is not one of this header")
        seats, voters = rotation_set.seats, voters_of(certificate)
        if not voters or voters[-1] >= len(seats) or len(voters) != len(certificate.signatures):
            raise _lie("a certificate of voters that are not there")
        if sum(seats[voter].weight for voter in voters) < quorum([seat.weight for seat in seats]):
            raise _lie("a certificate of less than a quorum")
        statement = Statement(self.chain, certificate.rotation, certificate.view, Kind.FINAL, certificate.digest)
        for voter, signature in zip(voters, certificate.signatures, strict=True):
            if not self._verify(self._keys[seats[voter].vote_key], statement, signature):
                raise _lie("a certificate with a signature that does not hold")

    # -- proofs ---------------------------------------------------------------------------------------------------------------

    def proven(self, headers: Sequence[ChainHeader], certificate: Certificate) -> None:
        """That the last of these is final, and each of the others the parent of the next. Errors: `Later`; `E-PROOF`, `E-CHAIN-STALE`."""
        last = headers[-1]
        if last.rotation > self.rotation:
            raise Later
        sets = {each.rotation: each for each in (self._before, self._set) if each is not None}
        if last.rotation not in sets:
            raise fault("E-CHAIN-STALE", "an answer of a rotation that is long over")
        self._check(last, certificate, sets[last.rotation])
        for parent, child in pairwise(headers):
            if child.parent != header_digest(parent):
                raise _lie("headers that do not follow each other")

    def values(self, keys: Sequence[bytes], data: bytes, now_ms: int) -> list[bytes | None]:
        """What stands under `keys`, as the answer to `ProofsAsk` proves. Errors: `Later`; `E-PROOF`, `E-CHAIN-STALE`, `E-WIRE-…`."""
        answer = decode(data, Proofs, max_bytes=LIGHT_ANSWER_MAX_BYTES)
        self.proven(answer.headers, answer.certificate)
        last = answer.headers[-1]
        first = answer.headers[0]
        self._check_age(last, first, now_ms)
        if len(answer.entries) != len(keys):
            raise _lie("as many entries as were asked for are needed")
        for key, entry in zip(keys, answer.entries, strict=True):
            if not radix.verify(first.executed_root, key, entry.value, entry.proof):
                raise _lie("a proof that does not lead to the root")
        self.height = max(self.height, first.executed)
        return [entry.value for entry in answer.entries]

    def _check_age(self, last: ChainHeader, first: ChainHeader, now_ms: int) -> None:
        """A new head does not make the state new that its ancestors name."""
        if abs(now_ms - last.time_ms) > HEAD_MAX_MS:
            raise fault("E-CHAIN-STALE", f"the node's newest block is {(now_ms - last.time_ms) // 1000} s away from this clock")
        if first.executed < self.height:
            raise fault("E-CHAIN-STALE", "an older state than one seen already")
