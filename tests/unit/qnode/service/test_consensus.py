"""Validators agree, term after term, whatever is lost, stopped or forgotten (`proto/spec/consensus.md`)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from support.assembly import assembly
from support.ledger_world import LedgerWorld, signed
from support.peers_town import until

from qnode.service import consensus as module
from qnode.service.chain import checked_of
from qustream.errors import fault
from qustream.model.state import Account, Table
from qustream.wire.consensus import Certificate, Kind, Statement, Vote
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


async def test_a_chain_stands_without_more_than_two_thirds(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(3)
        await made.stop(2, 3)
        said = made.carried
        await until(lambda: made.carried > said + 6)  # they say again what they have said, ever more seldom
        stood = made.agree()
        await until(lambda: made.carried > said + 12)
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


async def test_who_signs_twice_is_accused_by_all(tmp_path: Path) -> None:
    async with assembly(tmp_path) as made:
        await made.until_height(2)
        liar = made.seats[0]
        term = liar.service.term
        assert term is not None
        assert term.begun.me is not None
        view = term.core.view + 1
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
        forged = Certificate(term.begun.rotation, term.core.view + 1, Kind.SKIP, bytes(32), b"\xf0", (bytes(2420),) * 4)
        term._duties.ballots.broadcast(forged)
        await until(lambda: victim.wires[liar.node].ended)
        assert victim.wires[liar.node].ended == "E-SIGNATURE"
        await made.until_height(victim.height + 2)
