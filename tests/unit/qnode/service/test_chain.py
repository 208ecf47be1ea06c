"""What is final is executed, in order, once, across restarts; and everybody is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace
from support.ledger_world import LedgerWorld
from support.peers_town import until
from support.running_chain import running_chain
from support.stored_chain import StoredChain, certificate, raw_of

from qnode.service import chain as module
from qnode.service.chain import VIEWS_KEPT, checked_of
from qustream.errors import fault
from qustream.model.state import Account, Parameters, Progress, Table
from qustream.wire.codec import encode
from qustream.wire.transactions import Transaction, Transfer, transaction_id


async def test_what_is_final_is_executed_and_told(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as made:
        heard: list[tuple[Mapping[bytes, bytes | None], int]] = []
        made.chain.followers.append(lambda changes, progress: heard.append((changes, progress.height)))
        block = await made.block(made.stored.transfer(0, 1, 5))
        assert (made.chain.head.height, made.chain.head.digest, made.chain.head.time_ms) == (1, block.digest, block.header.time_ms)
        [(progress, executed)] = made.done
        assert (progress.height, executed.receipts[0].code) == (1, "")
        assert heard[0][1] == 1
        assert bytes([Table.ACCOUNT]) + made.world.account(1) in heard[0][0]
        assert made.chain.state().must(Table.ACCOUNT, made.world.account(0), Account).nonce == 1
        assert made.chain.transactions == 1
        made.stored.audit()


async def test_what_is_known_already_is_left_out(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as made:
        first = await made.block()
        second = made.made()
        await made.chain.finalise([first, second], certificate(second.header))
        await made.chain.finalise([first, second], certificate(second.header))
        await made.chain.wait_above(1)
        assert [progress.height for progress, _ in made.done] == [1, 2]


async def test_a_restart_executes_what_was_final(tmp_path: Path) -> None:
    stored = StoredChain(tmp_path / "chain")
    transfer = stored.transfer(0, 1, 5)
    stored.keep([transfer])
    block = stored.next_block([transfer])
    stored.finalise(block)
    stored.store.close()
    async with running_chain(tmp_path, stored.world) as made:
        assert made.chain.executed.height == 1  # it has started when that is done
        assert made.done[0][1].receipts[0].id == transfer.id


async def test_a_body_that_is_not_here_is_pulled_and_nothing_overtakes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    async with running_chain(tmp_path) as made:
        transfer, asked = made.stored.transfer(0, 1, 5), list[Sequence[bytes]]()
        await made.final(transfer, kept=False)

        async def obtain(ids: Sequence[bytes]) -> None:
            asked.append(ids)
            if len(asked) == 3:
                made.stored.keep([transfer])

        await until(lambda: made.chain.is_waiting)
        assert made.chain.executed.height == 0
        made.chain.obtain = obtain
        await made.chain.wait_above(0)
        assert asked == [[transfer.id]] * 3
        assert not made.chain.is_waiting


async def test_what_is_remembered_of_a_transaction_is_no_word_for_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proposed in vain, and again when its bytes have gone from the disk: whoever executes it from memory alone has them for nobody."""
    monkeypatch.setattr("qnode.store.chain.bodies.LOOSE_BLOCKS", 4)
    monkeypatch.setattr(module, "READY_BLOCKS", 2)
    async with running_chain(tmp_path) as made:
        transfer = made.stored.transfer(0, 1, 5)
        made.stored.raws[transfer.id] = transfer
        await made.chain.keep([(raw_of(transfer), transfer)])
        await made.blocks(2)
        assert made.chain.ready(transfer.id) == transfer
        await made.blocks(3)
        assert made.chain.ready(transfer.id) is None
        made.stored.keep([])
        assert made.stored.store.transaction(transfer.id) is None
        await made.chain.keep([(raw_of(transfer), transfer)])
        await made.final(transfer, kept=False)
        await made.chain.wait_above(5)
        assert made.stored.store.transaction(transfer.id) == raw_of(transfer)


async def test_what_is_remembered_is_bounded_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_chain(tmp_path) as made:
        transfers = [made.stored.transfer(0, 1, amount) for amount in range(1, 5)]
        monkeypatch.setattr(module, "READY_MAX_BYTES", 2 * transfers[0].size + 100)
        for transfer in (*transfers, transfers[-1]):
            await made.chain.keep([(raw_of(transfer), transfer)])
        assert [transfer for transfer in transfers if made.chain.ready(transfer.id)] == transfers[2:]
        assert made.chain._ready_bytes == sum(transfer.size for transfer in transfers[2:])


async def test_the_newest_states_are_held_as_they_were(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as made:
        for _ in range(VIEWS_KEPT + 3):
            await made.block(made.stored.transfer(0, 1, 1))
        newest = made.chain.executed.height
        assert made.chain.view_at(newest - VIEWS_KEPT) is None
        for height in range(newest - VIEWS_KEPT + 1, newest + 1):
            view = made.chain.view_at(height)
            assert view is not None
            assert view.height == height
        kept = made.chain.view_at(newest - 5)
        assert kept is not None
        progress = kept.get(bytes([Table.PROGRESS]))
        assert progress is not None
        assert kept.root == made.stored.store.root(newest - 5)


async def test_no_state_is_held_for_longer_and_pages_are_used_again(tmp_path: Path) -> None:
    """LMDB uses no page again that was replaced after the oldest state that anybody looks at."""
    async with running_chain(tmp_path) as made:
        environment, sizes = made.stored.store._environment, []
        for _ in range(5):
            for _ in range(VIEWS_KEPT):
                await made.block(made.stored.transfer(0, 1, 1))
            newest = made.chain.executed.height
            with environment._lock:
                held = [reading.progress for reading in environment._readings]
            assert all(progress is not None and progress.height > newest - VIEWS_KEPT for progress in held)
            sizes.append(environment.info()["used_bytes"])
        assert (sizes[4] - sizes[3]) * 3 < sizes[1] - sizes[0], sizes


async def test_a_database_that_grows_while_a_block_is_executed_costs_no_state_for_ever(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as made:
        await made.block(made.stored.transfer(0, 1, 1))
        store, environment = made.stored.store, made.stored.store._environment
        before = made.chain.newest()
        block = made.made(made.stored.transfer(1, 2, 1))
        made.stored.finalise(block)  # behind the service's back: it has not been told of what the store has executed
        made.stored.execute(block)
        assert made.chain.newest() is before
        environment.grow(environment.info()["map_bytes"] + (1 << 20))
        newer = made.chain.newest()
        assert (newer.height, made.chain.executed.height) == (2, 1)
        assert made.chain.newest() is newer is made.chain.view_at(2)
        assert len([reading for reading in environment._readings if reading.progress == store.executed]) <= 2


async def test_a_disk_that_takes_nothing_is_waited_for_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    async with running_chain(tmp_path) as made:
        real, refusals = made.stored.store.finalise, [fault("E-DISK-FULL", "no room")] * 3

        def finalise(*arguments: Any) -> Future[None]:
            if refusals:
                raise refusals.pop()
            return real(*arguments)

        monkeypatch.setattr(made.stored.store, "finalise", finalise)
        seen: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.final)
            await until(lambda: made.chain.trouble is not None)
            seen.append(made.chain.trouble.code if made.chain.trouble else "")
            await made.chain.wait_above(0)
        assert seen == ["E-DISK-FULL"]
        assert made.chain.trouble is None


async def test_what_a_later_version_knows_stops_it_and_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others were two thirds, and have voted for it. Nothing is executed, nothing ends, and the code says what to do."""
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    async with running_chain(tmp_path) as made:
        key = made.world.people[0]
        body = msgspec.msgpack.encode([made.world.genesis.chain, made.world.account(0), 0, 100, 1, [25, b"news"]])
        raw = encode(Transaction(body, key.public, key.sign("transaction", body)))
        name, known = transaction_id(raw), made.stored.transfer(0, 1, 5)
        made.stored.store.keep_transactions([(name, raw)]).result()
        await made.final(replace(known, id=name), kept=False)
        await until(lambda: made.chain.trouble is not None)
        assert made.chain.trouble is not None
        assert made.chain.trouble.code == "E-LEDGER-KIND"
        assert (made.chain.head.height, made.chain.executed.height) == (1, 0)


async def test_what_was_put_on_the_disk_is_executed_without_being_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_chain(tmp_path) as made:
        transfer = made.stored.transfer(0, 1, 5)
        await made.chain.keep([(raw_of(transfer), transfer)])
        assert made.chain.ready(transfer.id) is transfer
        monkeypatch.setattr(module, "checked_of", lambda _raw: pytest.fail("it is remembered"))
        await made.final(transfer, kept=False)
        await made.chain.wait_above(0)
        assert made.chain.transactions == 1
        assert made.chain.store.transaction(transfer.id) == raw_of(transfer)


async def test_what_waits_here_and_nobody_put_on_the_disk_is_put_there_before_it_is_executed(tmp_path: Path) -> None:
    """Others made the block final before this node had judged it."""
    async with running_chain(tmp_path) as made:
        transfer = made.stored.transfer(0, 1, 5)
        made.chain.waiting = lambda name: (raw_of(transfer), transfer) if name == transfer.id else None
        await made.final(transfer, kept=False)
        await made.chain.wait_above(0)
        assert made.chain.store.transaction(transfer.id) == raw_of(transfer)


async def test_rotations_and_their_keys_are_the_states(tmp_path: Path) -> None:
    async with running_chain(tmp_path) as made:
        entry = made.chain.rotation(1)
        assert entry is not None
        assert len(made.chain.vote_keys(1)) == len(entry.seats) == 4
        assert made.chain.rotation(9) is None
        assert isinstance(made.chain.parameters, Parameters)
        assert isinstance(made.chain.executed, Progress)


def test_a_transaction_that_a_quorum_has_verified_is_taken_as_it_is() -> None:
    world = LedgerWorld()
    checked = world.checked(world.people[0], Transfer(world.account(1), 5))
    assert checked_of(raw_of(checked)) == checked
