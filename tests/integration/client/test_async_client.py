"""The trio client against the same nodes: the same flows, cancellation, many calls at once."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.lies import COMMUNITY, FOUNDATION, HONEST_MS, LETTER, another_block, answering, refusing, silent
from support.village import PASSPHRASE, Cut, Node, User, Village

from qustream.aio import AsyncClient
from qustream.aio.asking import run_operation
from qustream.client.asking import Gather
from qustream.errors import QuStreamError, Unavailable, fault
from qustream.wire.keys import AcknowledgeBody, KeyBody, RevokeBody


@asynccontextmanager
async def client_of(user: User, *, timeout_ms: int = 60_000) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(user.device, user.registry(), clock_ms=user.village.clock_ms, timeout_ms=timeout_ms) as client:
        yield client


async def sealed(alice: User, bob: User) -> bytes:
    out = io.BytesIO()
    async with client_of(alice) as client:
        await client.encrypt(io.BytesIO(LETTER), out, to=[bob.text])
    return out.getvalue()


@pytest.mark.parametrize("pad", [False, True])
async def test_a_letter_goes_there_and_back(net: Village, alice: User, bob: User, tmp_path: Path, pad: bool) -> None:
    letter, envelope, copy = (tmp_path / name for name in ("letter", "letter.qs", "copy"))
    letter.write_bytes(LETTER)
    async with client_of(alice) as client:
        done = await client.encrypt(letter, envelope, to=[bob.text], pad=pad)
        again = await client.encrypt(letter, tmp_path / "second.qs", to=[bob.text])
    assert len(done.blocks) == 6
    assert (done.suspects, done.unacknowledged) == ((), ())
    assert again.index == done.index + 1
    async with await AsyncClient.from_home(bob.home, passphrase=PASSPHRASE) as client:
        report = await client.verify(envelope, blocks=True)
        assert len(report.blocks) == 6
        opened = await client.open(envelope, copy)
        assert opened.sender == alice.device.user
    assert copy.read_bytes() == LETTER


async def test_a_liar_is_named_and_the_next_rank_serves(net: Village, alice: User, bob: User) -> None:
    liar = alice.next_ranks()[COMMUNITY][0]
    liar.twist = answering(another_block)
    async with client_of(alice) as client:
        done = await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code, suspect.is_fault) for suspect in done.suspects] == [(liar.id, "E-BLOCK-OPEN", True)]


async def test_a_lost_answer_is_asked_for_again(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[FOUNDATION][1]

    async def lose_the_first(node: Node, body: Any, honest: Any) -> bytes:
        data = await honest()
        if len(node.asked) == 1:
            raise Cut
        return bytes(data)

    node.twist = lose_the_first
    async with client_of(alice) as client:
        done = await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert done.suspects == ()
    first, second = node.asked_for(KeyBody)
    assert first.seed_hash == second.seed_hash


async def test_connections_serve_again_and_a_dead_one_is_replaced(net: Village, alice: User, bob: User) -> None:
    async with client_of(alice) as client:
        await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
        node = alice.next_ranks()[COMMUNITY][0]
        await trio.to_thread.run_sync(node.stop)
        await trio.to_thread.run_sync(node.start)
        for _ in range(3):
            done = await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
            assert done.suspects == ()


async def test_a_class_that_is_down_is_named(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    for node in net.of(COMMUNITY):
        await trio.to_thread.run_sync(node.stop)
    async with client_of(alice) as client:
        with pytest.raises(Unavailable) as caught:
            await client.encrypt(io.BytesIO(LETTER), tmp_path / "letter.qs", to=[bob.text])
    assert caught.value.code == "E-CLASS-SHORT"
    assert caught.value.detail.count("E-PEER-UNREACHABLE") == 5
    assert list(tmp_path.iterdir()) == []
    assert all(len(node.asked_for(RevokeBody)) == len(node.asked_for(KeyBody)) for node in net.of(FOUNDATION))


async def test_slow_and_refusing_nodes_are_passed_over(net: Village, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gather, "patience_ms", HONEST_MS)
    ranks = alice.next_ranks()
    ranks[FOUNDATION][0].twist = silent
    ranks[COMMUNITY][2].twist = refusing("E-ENTROPY-SHORT")
    async with client_of(alice, timeout_ms=120_000) as client:
        with trio.fail_after(100):  # nobody waits for the silent one's answer
            done = await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert {(suspect.node, suspect.code) for suspect in done.suspects} == {
        (ranks[FOUNDATION][0].id, "E-DEADLINE"),
        (ranks[COMMUNITY][2].id, "E-ENTROPY-SHORT"),
    }


async def test_addresses_are_tried_in_turn(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[COMMUNITY][0]
    try:
        for addresses, served in [(("no..host:1", "127.0.0.1:1", node.address), True), (("127.0.0.1:1", "no..host:1"), False)]:
            net.writer.set_node_addresses(node.id, addresses)
            net.writer.write()
            async with client_of(alice) as client:
                gather = client._flows._plan.alerts(0)
                gather._nodes = [client.registry.node(node.id)]
                await run_operation(gather, client._nodes)  # type: ignore[arg-type]
            assert (node.id in gather.answers) is served
    finally:
        net.writer.set_node_addresses(node.id, (node.address,))
        net.writer.write()
    assert gather.errors[node.id].code == "E-PEER-UNREACHABLE"
    assert "no..host:1: no..host does not resolve" in gather.errors[node.id].detail


async def test_no_answer_within_the_deadline(net: Village, alice: User, bob: User) -> None:
    node = alice.next_ranks()[FOUNDATION][0]
    node.twist = silent
    async with client_of(alice, timeout_ms=HONEST_MS) as client:
        done = await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])
    assert [(suspect.node, suspect.code) for suspect in done.suspects] == [(node.id, "E-DEADLINE")]
    assert len(node.asked_for(KeyBody)) == 2


async def test_many_calls_at_once(net: Village, alice: User, bob: User) -> None:
    outs = [io.BytesIO() for _ in range(5)]
    async with client_of(alice) as client, trio.open_nursery() as nursery:
        for out in outs:
            nursery.start_soon(lambda out=out: client.encrypt(io.BytesIO(LETTER), out, to=[bob.text]))
    copies = [io.BytesIO() for _ in outs]
    async with client_of(bob) as client, trio.open_nursery() as nursery:
        for out, copy in zip(outs, copies, strict=True):
            nursery.start_soon(client.open, io.BytesIO(out.getvalue()), copy)
    assert [copy.getvalue() for copy in copies] == [LETTER] * 5


async def test_revoke_alerts_and_grants(net: Village, alice: User, bob: User) -> None:
    envelope = await sealed(alice, bob)
    async with client_of(alice) as client:
        assert (await client.revoke(io.BytesIO(envelope))).holds
        assert await client.alerts() == []
        assert (await client.grants())[0][1] > 0
    async with client_of(bob) as client:
        with pytest.raises(QuStreamError, match="revoked"):
            await client.open(io.BytesIO(envelope), io.BytesIO())


async def test_cancelled_while_asking_leaves_no_file(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    for node in net.nodes:
        node.twist = silent
    async with client_of(alice, timeout_ms=60_000) as client:
        with trio.move_on_after(0.3) as scope:
            await client.encrypt(io.BytesIO(LETTER), tmp_path / "letter.qs", to=[bob.text])
        assert scope.cancelled_caught
        assert list(tmp_path.iterdir()) == []
        await trio.to_thread.run_sync(net.heal)
        await client.encrypt(io.BytesIO(LETTER), tmp_path / "letter.qs", to=[bob.text])


async def test_cancelled_amid_the_content_stops_soon_and_leaves_no_file(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    big = 64 << 20
    source = tmp_path / "big"
    with source.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, big)
    shown: list[int] = []
    with trio.CancelScope() as scope:

        def progress(done_bytes: int) -> None:
            shown.append(done_bytes)
            scope.cancel()

        async with client_of(alice) as client:
            await client.encrypt(source, tmp_path / "big.qs", to=[bob.text], progress=progress)
    assert scope.cancelled_caught
    assert shown[0] < big / 4
    assert len(shown) == 1
    assert list(tmp_path.iterdir()) == [source]
    assert not any(node.asked_for(AcknowledgeBody) for node in net.nodes)


async def test_progress_is_shown_in_trios_thread(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    seen: list[tuple[int, trio.lowlevel.Task]] = []
    source = tmp_path / "source"
    source.write_bytes(bytes(4 << 20))

    def progress(done_bytes: int) -> None:
        seen.append((done_bytes, trio.lowlevel.current_task()))

    async with client_of(alice) as client:
        await client.encrypt(source, io.BytesIO(), to=[bob.text], progress=progress)
    assert [done for done, _ in seen][-1] == 4 << 20


async def test_an_error_leaves_as_it_is(net: Village, alice: User, bob: User) -> None:
    async def fail(error: Exception) -> None:
        async with client_of(alice) as client:
            await client.encrypt(io.BytesIO(LETTER), io.BytesIO(), to=[bob.text])  # so that connections are there to be closed
            raise error

    for error in (fault("E-PAD-SIZE"), ZeroDivisionError()):
        with pytest.raises(type(error)):
            await fail(error)
    async with client_of(alice) as client:
        with pytest.raises(QuStreamError) as caught:
            await client.encrypt(io.BytesIO(bytes(200_000)), io.BytesIO(), to=[bob.text], pad=True)
        assert caught.value.code == "E-PAD-SIZE"


async def test_a_client_is_used_inside_its_block_and_entered_once(alice: User) -> None:
    client = AsyncClient(alice.device, alice.registry())
    with pytest.raises(RuntimeError, match="inside"):
        await client.alerts()
    async with client:
        with pytest.raises(RuntimeError, match="once"):
            await client.__aenter__()
