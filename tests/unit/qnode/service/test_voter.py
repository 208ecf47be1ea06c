"""A validator's memory: on the disk before anything is said; and what it must notice that it has forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.ledger_world import hash_chain, voter
from support.peers_town import until

from qnode.core.consensus_events import OwnVotes, SignState
from qnode.core.consensus_view import certificate
from qnode.service import voter as module
from qnode.service.voter import Voter, forgotten
from qnode.store.sign_state import SignStateFile
from qustream.errors import QuStreamError, fault
from qustream.identity.voting import verify_vote
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, Kind, Proposal, Statement, Vote, header_digest

A, B = b"a" * 32, b"b" * 32
STATE = SignState(3, 5, {5: OwnVotes(notarised=A, finalised=A), 6: OwnVotes(proposed=B, skipped=True)})


def made(folder: Path) -> Voter:
    file = SignStateFile(folder / "sign-state", voter(0).id)
    if not file.path.exists():
        file.begin()
    return Voter(voter(0), [hash_chain(0)], file)


async def test_what_was_persisted_is_there_after_a_restart(tmp_path: Path) -> None:
    first = made(tmp_path)
    assert first.had == SignState()
    await first.persist(STATE)
    assert made(tmp_path).had == STATE


async def test_it_signs_what_it_has_put_down_and_nothing_else(tmp_path: Path) -> None:
    validator = made(tmp_path)
    await validator.persist(STATE)
    for view, kind, digest in ((5, Kind.NOTAR, A), (5, Kind.FINAL, A), (6, Kind.PROPOSAL, B), (6, Kind.SKIP, NO_DIGEST)):
        statement = Statement("c", 3, view, kind, digest)
        signature = validator.sign(statement)
        assert signature is not None
        assert verify_vote(voter(0).public, statement, signature)
    assert validator.signed == 4
    assert validator.sign(Statement("c", 3, 4, Kind.NOTAR, A)) is None  # that view is over
    for view, kind, digest in ((5, Kind.NOTAR, B), (5, Kind.SKIP, NO_DIGEST), (7, Kind.NOTAR, A)):
        with pytest.raises(AssertionError):
            validator.sign(Statement("c", 3, view, kind, digest))
    with pytest.raises(AssertionError):
        validator.sign(Statement("c", 4, 5, Kind.NOTAR, A))


async def test_a_disk_that_takes_nothing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    validator = made(tmp_path)
    refusals, real = [fault("E-DISK-FULL", "no room")] * 3, validator._memory.save

    def save(state: SignState) -> None:
        if refusals:
            raise refusals.pop()
        real(state)

    monkeypatch.setattr(validator._memory, "save", save)
    seen: list[QuStreamError | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(validator.persist, STATE)
        await until(lambda: validator.trouble is not None)
        seen.append(validator.trouble)
        assert validator.had == SignState()
    assert seen[0] is not None
    assert (validator.had, validator.trouble) == (STATE, None)


def header(view: int, proposer: int) -> ChainHeader:
    return ChainHeader("c", 3, view, 9, A, 0, 1, 0, A, A, 0, A, A, proposer)


def cert(view: int, kind: Kind, digest: bytes, *voters: int) -> Certificate:
    return certificate(3, view, kind, digest, [(number, bytes(2420)) for number in voters])


def test_what_it_should_know_and_does_not_is_noticed() -> None:
    kept: list[Proposal | Certificate] = [
        cert(5, Kind.NOTAR, A, 0, 1, 2), cert(5, Kind.FINAL, A, 0, 1, 2), cert(6, Kind.SKIP, NO_DIGEST, 0, 2), cert(7, Kind.NOTAR, B, 1, 2),
        cert(4, Kind.NOTAR, B, 0, 1), Proposal(header(7, 1), (), bytes(2420)),
    ]  # fmt: skip
    assert forgotten(STATE, 3, 0, kept) is None  # of view 4 it need not know anything any more
    for strange in (cert(7, Kind.NOTAR, B, 0, 1), cert(5, Kind.FINAL, B, 0), cert(6, Kind.NOTAR, A, 0), cert(5, Kind.SKIP, NO_DIGEST, 0)):
        assert forgotten(STATE, 3, 0, [*kept, strange]) is not None
        assert forgotten(STATE, 3, 3, [*kept, strange]) is None  # another's
    ours = Proposal(header(6, 0), (), bytes(2420))
    assert forgotten(STATE, 3, 0, [ours]) is not None
    known = SignState(3, 5, {6: OwnVotes(proposed=header_digest(ours.header))})
    assert forgotten(known, 3, 0, [ours]) is None
    # A vote by itself says as much.
    vote = Vote(3, 6, Kind.NOTAR, A, 0, bytes(2420))
    assert forgotten(STATE, 3, 0, [vote]) is not None
    assert forgotten(STATE, 3, 1, [vote]) is None
    assert forgotten(STATE, 3, 0, [Vote(3, 6, Kind.SKIP, NO_DIGEST, 0, bytes(2420))]) is None
    # Of another rotation it remembers nothing of this one.
    assert forgotten(SignState(2, 5, STATE.votes), 3, 0, [cert(1, Kind.SKIP, NO_DIGEST, 0)]) is not None
