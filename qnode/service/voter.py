"""A validator's secrets and its memory: the vote key, the hash chains, and what it has signed (`proto/spec/consensus.md`, §2).

What it has signed is on the disk before it is said. Whoever cannot be sure that it remembers everything sits the rotation out: votes
bind their rotation, so in the next one nothing that was forgotten can contradict anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from qnode.core.consensus_events import OwnVotes, SignState
from qnode.core.consensus_view import voters_of
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.identity.reveals import HashChain
from qustream.identity.voting import VoteKey
from qustream.wire.consensus import Certificate, Kind, Proposal, Statement, Vote, header_digest

__all__ = ["Memory", "Voter", "forgotten"]

# A disk that does not take the sign-state: nothing is signed meanwhile, and the operator reads why.
AGAIN_S = 1.0


class Memory(Protocol):
    """The sign-state on the disk."""

    def load(self) -> SignState: ...
    def save(self, state: SignState) -> None: ...


class Voter:
    """`had`: everything it has signed and must not forget; `trouble`: why it cannot write that down, None if it can."""

    def __init__(self, key: VoteKey, chains: Sequence[HashChain], memory: Memory) -> None:
        self.key, self.chains = key, chains
        self.had = memory.load()
        self.signed = 0
        self.trouble: QuStreamError | None = None
        self._memory = memory

    async def persist(self, state: SignState) -> None:
        """Returns when it is on the disk; nothing that it allows may have left this machine before."""
        if state == self.had:
            return
        while True:
            try:
                await trio.to_thread.run_sync(self._memory.save, state)
            except QuStreamError as error:
                if self.trouble is None:
                    logger("consensus").error("what is signed cannot be written down, so nothing is", code=error.code, detail=error.detail)
                self.trouble = error
                await trio.sleep(AGAIN_S)
            else:
                self.trouble, self.had = None, state
                return

    def sign(self, statement: Statement) -> bytes | None:
        """The signature; None for a view that is over. The sign-state allows it: whoever calls has seen to that, and it is seen to once
        more."""
        if statement.rotation == self.had.rotation and statement.view < self.had.final_view:
            return None
        assert _is_allowed(self.had, statement), f"{statement} is not in the sign-state"
        self.signed += 1
        return self.key.sign(statement)


def _is_allowed(had: SignState, statement: Statement) -> bool:
    own = had.votes.get(statement.view)
    return had.rotation == statement.rotation and own is not None and _has(own, statement.kind, statement.digest)


def _has(own: OwnVotes, kind: Kind, digest: bytes) -> bool:
    if kind is Kind.SKIP:
        return own.skipped
    return {Kind.PROPOSAL: own.proposed, Kind.NOTAR: own.notarised, Kind.FINAL: own.finalised}[kind] == digest


def forgotten(had: SignState, rotation: int, me: int, known: Sequence[Proposal | Certificate | Vote]) -> Statement | None:
    """Something that validator `me` has signed in this rotation, by what is known of it, and that the sign-state should know and does not.
    Of views below its last final one it knows nothing, rightly."""
    floor = had.final_view if had.rotation == rotation else 0
    for message in known:
        if isinstance(message, Proposal):
            view, kind, digest = message.header.view, Kind.PROPOSAL, header_digest(message.header)
            is_ours = message.header.proposer == me
        else:
            view, kind, digest = message.view, message.kind, message.digest
            is_ours = me in voters_of(message) if isinstance(message, Certificate) else me == message.validator
        own = had.votes.get(view, OwnVotes()) if had.rotation == rotation else OwnVotes()
        if is_ours and view >= floor and not _has(own, kind, digest):
            return Statement("", rotation, view, kind, digest)
    return None
