"""Validators agree, term after term, whatever is lost, stopped or forgotten (`proto/spec/consensus.md`)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.assembly import Assembly, Seat, assembly
from support.ledger_world import LedgerWorld, key, signed
from support.peers_town import until

from qnode.core.consensus_catchup import words_of
from qnode.service import consensus as module
from qnode.service.chain import checked_of
from qnode.service.consensus import ConsensusService
from qnode.service.term import Term
from qnode.service.voter import forgotten
from qustream.errors import fault
from qustream.model.state import Account, Table
from qustream.wire.consensus import Certificate, ConsensusMessage, Kind, Statement, Vote
from qustream.wire.transactions import Transfer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEET_S", 0.3)
    monkeypatch.setattr(module, "LOOK_S", 0.05)


async def test_they_agree_on_empty_blocks(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(8)
        assert made.agree() >= 8
        assert all(seat.service.silent == "" for seat in made.seats)
        assert all(not seat.service.accusing.accusations for seat in made.seats)


async def test_one_alone_is_a_chain(tmp_path: Path) -> None:
    async with assembly(tmp_path, validators=1) as made:
        await made.until_height(5)


async def test_rotations_follow_each_other(tmp_path: Path) -> None:
    async with assembly(tmp_path, rotation_ms=5_000) as made:
        await until(lambda: all(seat.service.place is not None and seat.service.place.rotation >= 2 for seat in made.seats))
        place = made.seats[0].service.place
        assert place is not None
        assert place.base.height > 0
        await made.until_height(place.base.height + 3)
        made.agree()
        nodes, voters = made.seats[0].peers.meshed[-1]
        assert nodes == {seat.node for seat in made.seats}
        assert voters == nodes - {made.seats[0].node}


@pytest.mark.parametrize("has_key", [False, True])
async def test_who_has_no_seat_by_what_it_has_executed_refuses_nobody(tmp_path: Path, has_key: bool) -> None:
    """The others may have it among them by blocks that it has not: with a vote key in its configuration or without."""
    async with assembly(tmp_path, validators=1) as made:
        await made.until_height(2)
        seat, heard = made.seats[0], made.seats[0].peers.take_consensus
        ConsensusService(
            seat.chain, seat.mempool, seat.verifier, seat.peers, key=key("node", 77), voter=seat.voter if has_key else None,  # type: ignore[arg-type]
            clock_ms=made.clock_ms,
        )  # fmt: skip
        assert seat.peers.meshed[-1] == (frozenset({seat.node}), None)
        seat.peers.take_consensus = heard


async def test_one_in_ten_messages_may_be_lost(tmp_path: Path) -> None:
    chance = random.Random(3)
    async with assembly(tmp_path) as made:
        made.lose = lambda _source, _target, _message: chance.random() < 0.1
        await made.until_height(4)
        made.agree()


async def test_one_may_be_cut_off_and_come_back(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(3)
        made.seats[1].is_cut = True
        others = [seat for seat in made.seats if seat.number != 1]
        await made.until_height(made.seats[0].height + 4, others)
        made.seats[1].is_cut = False
        await made.until_height(made.seats[0].height + 3)
        made.agree()


async def test_all_may_be_stopped_at_any_moment(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        for height in (3, 6, 9):
            await made.until_height(height)
            await made.stop(*range(4))
            await made.start(2, 0, 3, 1)
        await made.until_height(12)
        made.agree()
        assert all(not seat.service.accusing.accusations for seat in made.seats)


def stands(seat: Seat) -> bool:
    """It has given up its view, and executed all that is final."""
    term = seat.service.term
    view = None if term is None else term.core.views.get(term.core.view)
    return view is not None and view.own.skipped and seat.height == seat.chain.head.height


async def test_a_chain_stands_without_more_than_two_thirds(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(3)
        await made.stop(2, 3)
        await until(lambda: all(map(stands, made.up)) and len({seat.chain.head for seat in made.up}) == 1)
        stood, said = made.agree(), made.carried
        await until(lambda: made.carried > said + 6)  # they say again what they have said, ever more seldom
        assert made.agree() == stood
        await made.start(2, 3)
        await made.until_height(stood + 3)


async def test_a_transaction_is_executed_everywhere(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(2)
        world = LedgerWorld(made.genesis)
        raw = signed(world.people[0], world.body(world.people[0], Transfer(world.account(1), 7), expires=5_000))
        checked = checked_of(raw)
        for seat in made.seats:  # as gossip would bring it, verified
            assert seat.mempool._keep(raw, checked) is None
        await until(lambda: all(seat.chain.transactions for seat in made.seats))
        account = made.seats[0].chain.state().must(Table.ACCOUNT, checked.body.sender, Account)
        assert account.nonce == 1
        made.agree()


async def test_after_hours_of_nothing_a_transaction_waits_for_no_empty_block(tmp_path: Path) -> None:
    async with assembly(tmp_path, idle_ms=60_000) as made:
        await made.until_height(1)
        world = LedgerWorld(made.genesis)
        raw = signed(world.people[0], world.body(world.people[0], Transfer(world.account(1), 7), expires=5_000))
        for seat in made.seats:
            assert seat.mempool._keep(raw, checked_of(raw)) is None
        await until(lambda: all(seat.chain.transactions for seat in made.seats))
        assert made.agree() == 2


async def test_a_full_disk_keeps_one_from_judging_and_the_others_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(2)
        poor, world, is_full = made.seats[3], LedgerWorld(made.genesis), [True]
        real = poor.chain.store.keep_transactions

        def keep_transactions(transactions: Sequence[tuple[bytes, bytes]]) -> Future[None]:
            if is_full[0]:
                raise fault("E-DISK-FULL", "no room")
            return real(transactions)

        monkeypatch.setattr(poor.chain.store, "keep_transactions", keep_transactions)
        raw = signed(world.people[0], world.body(world.people[0], Transfer(world.account(1), 7), expires=5_000))
        for seat in made.seats:
            assert seat.mempool._keep(raw, checked_of(raw)) is None
        await until(lambda: all(seat.chain.transactions for seat in made.seats[:3]))
        assert not poor.chain.transactions
        is_full[0] = False
        await until(lambda: poor.chain.transactions)
        made.agree()


async def test_who_forgot_sits_the_rotation_out(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        forgetful = made.seats[3]
        await made.until_height(2)
        shutil.copy(forgetful.memory.path, tmp_path / "old")
        await made.until_height(forgetful.height + 5)
        await made.stop(3)
        shutil.copy(tmp_path / "old", forgetful.memory.path)
        await made.start(3)
        await until(lambda: "remember" in forgetful.service.silent)
        await made.until_height(forgetful.height + 3)
        assert forgetful.voter.signed == 0
        assert all(not seat.service.accusing.accusations for seat in made.seats)


def ahead(made: Assembly) -> int:
    """A view that nobody has come to, whoever is behind, and nobody will before what is said of it has been verified."""
    return 10 + max(seat.service.term.core.view for seat in made.seats if seat.service.term is not None)


async def test_who_signs_twice_is_accused_by_all(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(2)
        liar = made.seats[0]
        term = liar.service.term
        assert term is not None
        assert term.begun.me is not None
        view = ahead(made)
        for digest in (b"x" * 32, b"y" * 32):
            statement = Statement(term.begun.chain, term.begun.rotation, view, Kind.NOTAR, digest)
            vote = Vote(statement.rotation, view, Kind.NOTAR, digest, term.begun.me, liar.voter.key.sign(statement))
            term._duties.ballots.broadcast(vote)
        await until(lambda: all(seat.service.accusing.accusations for seat in made.seats[1:]))
        [found] = made.seats[1].service.accusing.accusations.values()
        assert found.licence == made.genesis.licences[0].licence
        assert {found.action.first.digest, found.action.second.digest} == {b"x" * 32, b"y" * 32}
        await until(lambda: found.state)  # its own account has nothing, so it is kept
        assert found.state == "E-LEDGER-FUNDS"


async def test_a_certificate_that_does_not_hold_costs_the_link(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(2)
        liar, victim = made.seats[0], made.seats[1]
        term = liar.service.term
        assert term is not None
        forged = Certificate(term.begun.rotation, ahead(made), Kind.SKIP, bytes(32), b"\xf0", (bytes(2420),) * 4)
        term._duties.ballots.broadcast(forged)
        await until(lambda: victim.wires[liar.node].ended)
        assert victim.wires[liar.node].ended == "E-SIGNATURE"
        await made.until_height(victim.height + 2)


def is_lost(source: int, _target: int, message: ConsensusMessage) -> bool:
    """Votes reach nobody but those of number 3: nothing is decided any more, and nobody gets ahead."""
    return source != 3 and isinstance(message, Vote | Certificate) and getattr(message, "validator", 0) != 3


async def put_back_as_a_whole(made: Assembly, old: Path) -> Seat:
    """Number 3 says something above the last final block, and is then what it was before: chain and memory from one copy."""
    seat = made.seats[3]
    await made.until_height(3)
    made.lose = is_lost
    await made.stop(3)
    shutil.copytree(seat.folder, old)
    remembered = seat.memory.load()
    await made.start(3)

    def is_told() -> bool:
        terms = [other.service.term for other in made.seats[:3]]
        votes = [vote for term in terms if term is not None and term.core.view for vote in words_of(term.core, 3)]
        return any(forgotten(remembered, vote.rotation, 3, [vote]) is not None for vote in votes)

    await until(is_told)
    await made.stop(3)
    shutil.rmtree(seat.folder)
    shutil.copytree(old, seat.folder)
    await made.start(3)
    return seat


async def test_who_was_put_back_with_all_he_has_is_told_what_he_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEET_S", 60)  # the others are there, and on a busy machine not within a third of a second
    async with assembly(tmp_path, interval_ms=500) as made:
        seat = await put_back_as_a_whole(made, tmp_path / "old")
        await until(lambda: "remember" in seat.service.silent)
        assert seat.voter.signed == 0
        made.lose = lambda _source, _target, _message: False
        await made.until_height(made.seats[0].height + 3)
        assert seat.voter.signed == 0
        assert all(not other.service.accusing.accusations for other in made.seats)


async def test_who_is_told_nothing_of_it_would_sign_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Term, "_remind", lambda *_: None)
    async with assembly(tmp_path, interval_ms=500) as made:
        seat = await put_back_as_a_whole(made, tmp_path / "old")
        await until(lambda: seat.voter.signed > 0)


async def test_who_is_linked_late_is_told_all_the_same(tmp_path: Path) -> None:
    """Another of us votes, or what we forgot was heard by somebody who was away: the vote itself comes from whoever has it."""
    async with assembly(tmp_path) as made:
        await made.until_height(2)
        seat, other = made.seats[3], made.seats[0]
        term = other.service.term
        assert term is not None

        def vote() -> Vote:
            statement = Statement(made.genesis.chain, term.begun.rotation, ahead(made), Kind.NOTAR, b"x" * 32)
            return Vote(statement.rotation, statement.view, Kind.NOTAR, statement.digest, 3, seat.voter.key.sign(statement))

        term._duties.ballots.send(3, replace(vote(), signature=bytes(2420)))
        await until(lambda: other.node in seat.wires and bool(seat.wires[other.node].ended))  # made up
        assert seat.service.silent == ""
        term._duties.ballots.send(3, vote())
        await until(lambda: "remember" in seat.service.silent)
        assert not seat.service.accusing.accusations
