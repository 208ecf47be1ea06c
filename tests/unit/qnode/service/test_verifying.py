"""Signatures of validators: all of a message hold or it does not, and the oldest is checked first."""

from __future__ import annotations

from collections.abc import Sequence

import trio
import trio.testing
from support.ledger_world import voter
from support.peers_town import until

from qnode.core.consensus_view import certificate
from qnode.service.verifying import BATCH_SIGNATURES, BATCHES_AT_ONCE, Checkable, Verifying, stated
from qustream.identity.voting import verify_vote
from qustream.wire.consensus import NO_DIGEST, ChainHeader, Kind, Proposal, Statement, Vote, header_digest

KEYS = [voter(number).public for number in range(4)]
HEADER = ChainHeader("c", 3, 7, 9, NO_DIGEST, 6, 1, 0, NO_DIGEST, NO_DIGEST, 0, NO_DIGEST, NO_DIGEST, 2)


def signature(number: int, view: int, kind: Kind, digest: bytes) -> bytes:
    return voter(number).sign(Statement("c", 3, view, kind, digest))


def vote(number: int, view: int = 7) -> Vote:
    return Vote(3, view, Kind.SKIP, NO_DIGEST, number, signature(number, view, Kind.SKIP, NO_DIGEST))


class Checker:
    """As `Verifier`. `batches`: how many signatures came together; `gate`: holds them up."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = trio.Event()
        self.gate.set()

    async def statements(self, said: Sequence[tuple[bytes, Statement, bytes]]) -> list[bool]:
        self.batches.append(len(said))
        await self.gate.wait()
        return [verify_vote(*each) for each in said]


def test_what_a_message_says_that_validators_have_signed() -> None:
    digest = header_digest(HEADER)
    proposal = Proposal(HEADER, (), signature(2, 7, Kind.PROPOSAL, digest))
    votes = [(number, signature(number, 7, Kind.NOTAR, digest)) for number in (0, 2, 3)]
    for message in (proposal, vote(1), certificate(3, 7, Kind.NOTAR, digest, votes)):
        said = stated(message, "c", KEYS)
        assert said
        assert all(verify_vote(*each) for each in said)
        assert not any(verify_vote(*each) for each in stated(message, "another", KEYS))
    assert [key for key, _, _ in stated(certificate(3, 7, Kind.NOTAR, digest, votes), "c", KEYS)] == [KEYS[0], KEYS[2], KEYS[3]]


async def test_all_of_a_message_hold_or_it_does_not() -> None:
    told: list[tuple[Checkable, bool, bytes | None]] = []
    checker = Checker()
    verifying = Verifying(checker, "c", KEYS, lambda *each: told.append(each))  # type: ignore[arg-type]
    good = certificate(3, 7, Kind.SKIP, NO_DIGEST, [(number, vote(number).signature) for number in (0, 1, 2)])
    bad = certificate(3, 7, Kind.SKIP, NO_DIGEST, [(0, vote(0).signature), (1, vote(2).signature), (2, vote(2).signature)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(verifying.run)
        for number, message in enumerate((good, bad, vote(3))):
            verifying.verify(message, bytes([number]) * 32)
        await until(lambda: len(told) == 3)
        nursery.cancel_scope.cancel()
    # Votes are hedged: two signatures of one statement differ.
    assert [(type(message), holds, peer) for message, holds, peer in told] == [
        (type(good), True, bytes(32)), (type(bad), False, b"\x01" * 32), (Vote, True, b"\x02" * 32),
    ]  # fmt: skip


async def test_what_waits_goes_together_in_bounded_batches() -> None:
    told: list[bool] = []
    checker = Checker()
    verifying = Verifying(checker, "c", KEYS, lambda _message, holds, _peer: told.append(holds))  # type: ignore[arg-type]
    count = BATCH_SIGNATURES * 2 + 10
    forged = bytes(2420)
    async with trio.open_nursery() as nursery:
        checker.gate = trio.Event()
        nursery.start_soon(verifying.run)
        for view in range(count):
            verifying.verify(Vote(3, view, Kind.SKIP, NO_DIGEST, 1, forged), None)
        await trio.testing.wait_all_tasks_blocked()
        assert len(checker.batches) <= BATCHES_AT_ONCE
        assert max(checker.batches) <= BATCH_SIGNATURES
        checker.gate.set()
        await until(lambda: len(told) == count)
        nursery.cancel_scope.cancel()
    assert not any(told)
    assert sum(checker.batches) == count
    assert len(verifying) == 0
