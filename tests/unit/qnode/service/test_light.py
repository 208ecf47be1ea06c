"""What a node tells light clients leads them to what stands in its chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from support.ledger_world import CHAIN, QST, LedgerWorld, key, voter

from qnode.core.consensus_events import Final
from qnode.core.consensus_view import certificate
from qnode.core.ledger import rotations
from qnode.service.chain import Chain
from qnode.service.light import LightAnswers, first_checkpoint, listed_grants, listed_nodes
from qnode.service.registry import ChainRegistry
from qnode.store.chain import ChainStore
from qustream.errors import QuStreamError
from qustream.identity.voting import verify_vote
from qustream.light.registry import LightRegistry
from qustream.model.network import Grant, NodeClass
from qustream.model.state import Table
from qustream.wire.codec import encode
from qustream.wire.consensus import Kind, Statement, header_digest
from qustream.wire.light import (
    GRANTS_LISTED_MAX,
    LIGHT_ANSWER_MAX_BYTES,
    CheckpointAsk,
    HandOversAsk,
    KeysAsk,
    NodesAsk,
    NodesListed,
    SetAsk,
    checkpoint_digest,
)


class Town:
    """A chain on the disk whose validators sign what the test has them sign."""

    def __init__(self, world: LedgerWorld, chain: Chain) -> None:
        self.world, self.chain = world, chain
        self.registry = ChainRegistry(chain.view, world.genesis)
        chain.followers.append(self.registry.executed)
        self.answers = LightAnswers(chain, self.registry)

    async def grow(self, blocks: int) -> None:
        """Empty blocks, each final by a certificate of its own."""
        for _ in range(blocks):
            state, store = self.chain.state(), self.chain.store
            header = self.world.header(())
            header = replace(header, executed_root=store.root(header.executed), next_set=rotations.next_set(state, header.rotation))
            digest = header_digest(header)
            self.world.follow(header)
            statement = Statement(CHAIN, header.rotation, header.view, Kind.FINAL, digest)
            entry = rotations.current(state, header.rotation)
            voters = {seat.licence: number for number, seat in enumerate(entry.seats)}
            votes = [(voters[self.world.licences[number]], voter(number).sign(statement)) for number in range(3)]
            await self.chain.finalise([Final(digest, header, ())], certificate(header.rotation, header.view, Kind.FINAL, digest, votes))
            await self.chain.wait_above(header.height - 1)

    def light(self, pinned: bytes) -> LightRegistry:
        """To be used in a thread."""
        return LightRegistry(CHAIN, pinned, Asked(self.answers), verify=verify_vote, clock_ms=lambda: self.chain.head.time_ms + 500)


class Asked:
    """A node that is asked from a thread (`light.registry.Nodes`)."""

    def __init__(self, answers: LightAnswers) -> None:
        self.answers = answers

    def __len__(self) -> int:
        return 1

    def ask(self, number: int, body: bytes) -> bytes:
        return trio.from_thread.run(self.answers.answer, body)


@asynccontextmanager
async def town(tmp_path: Path, **given: int) -> AsyncIterator[Town]:
    world = LedgerWorld(validators=4, nodes=3, idle=2, people=2, **given)
    with ChainStore.open(tmp_path, world.genesis) as store:
        chain = Chain(store, world.genesis)
        async with trio.open_nursery() as nursery:
            await nursery.start(chain.run)
            here = Town(world, chain)
            yield here
            nursery.cancel_scope.cancel()
        here.registry.close()
        chain.close()


async def in_thread(look: Callable[[], object]) -> object:
    return await trio.to_thread.run_sync(look)


async def test_a_light_client_reads_the_chain_from_the_first_checkpoint(tmp_path: Path) -> None:
    async with town(tmp_path, rotation_ms=6_000) as here:
        await here.grow(20)
        light = here.light(checkpoint_digest(first_checkpoint(here.world.genesis)))

        def look() -> None:
            assert light.node(key("node", 5).id) == here.registry.node(key("node", 5).id)
            assert light.epoch(here.chain.head.time_ms) == here.registry.epoch(here.chain.head.time_ms)
            assert list(light.nodes(NodeClass.COMMUNITY)) == list(here.registry.nodes(NodeClass.COMMUNITY))
            with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
                light.node(key("nobody").id)

        await in_thread(look)
        assert here.chain.executed.rotation >= 3


async def test_the_newest_checkpoint_is_of_the_rotation_that_runs(tmp_path: Path) -> None:
    async with town(tmp_path, rotation_ms=5_000) as here:
        assert here.answers.checkpoint == first_checkpoint(here.world.genesis)
        await here.grow(12)
        newest = here.answers.checkpoint
        assert newest.rotation == 3
        assert await here.answers.answer(encode(CheckpointAsk(checkpoint_digest(newest)))) == encode(newest)
        assert await here.answers.answer(encode(CheckpointAsk(bytes(32)))) == encode(newest)
        await here.grow(2)
        light = here.light(checkpoint_digest(newest))
        await in_thread(lambda: light.node(key("node", 0).id))


async def test_it_says_what_it_does_not_have(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        for question in (CheckpointAsk(b"\x01" * 32), HandOversAsk(1), SetAsk(99), KeysAsk((b"\x01" * 32,))):
            with pytest.raises(QuStreamError) as caught:
                await here.answers.answer(encode(question))
            assert caught.value.code == "E-NOT-HELD"
        light = here.light(checkpoint_digest(first_checkpoint(here.world.genesis)))
        with pytest.raises(QuStreamError) as caught:  # nothing is final yet
            await in_thread(lambda: light.node(key("node", 0).id))
        assert caught.value.code == "E-CHAIN-STALE"
        with pytest.raises(QuStreamError) as caught:
            await here.answers.answer(b"\xff" * 50)
        assert caught.value.code == "E-WIRE-MALFORMED"


async def test_a_list_of_nodes_ends_and_holds_the_active_ones(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        page = await here.answers.answer(encode(NodesAsk(bytes(32))))
        last = max(key("node", number).id for number in range(7))
        assert all(key("node", number).id in page for number in range(7))
        assert await here.answers.answer(encode(NodesAsk(last))) == encode(NodesListed(()))


def test_the_first_checkpoint_is_of_the_genesis() -> None:
    one, other = LedgerWorld().genesis, LedgerWorld(wealth=QST).genesis
    assert first_checkpoint(one) == first_checkpoint(replace(one))
    assert first_checkpoint(one).rotation == 1
    assert first_checkpoint(replace(other, seed=b"\x09" * 32)) != first_checkpoint(other)


def test_small_grants_that_somebody_else_buys_for_a_user_crowd_out_none_of_his_own() -> None:
    def grant(number: int, count: int, epoch: int) -> Grant:
        return Grant(number.to_bytes(32, "big"), b"u" * 32, bytes(32), count, 1, epoch, 1_000, None)

    own, older, ended = grant(9_000, 500, 6), grant(9_001, 400, 5), grant(9_002, 1 << 20, 4)
    spam = [grant(number, 1, 6) for number in range(4_000)]
    listed = listed_grants([*spam, ended, older, own], 6)
    assert len(listed) == GRANTS_LISTED_MAX
    assert listed[:3] == (own.grant, older.grant, spam[0].grant)
    assert listed_grants([ended, own], 6) == (own.grant, ended.grant)


def test_nodes_with_addresses_of_the_longest_make_more_pages_and_hide_nobody() -> None:
    """Texts are bounded in characters, of which each may have four bytes."""
    world = LedgerWorld(validators=1, nodes=120, idle=0, wealth=1_000 * QST)
    for number in range(100):
        node = key("node", number).id
        world.change(Table.NODE, node, addresses=(chr(0x1F600) * 256,) * 8)
    listed, after, pages = [], bytes(32), 0
    while page := listed_nodes(world.state(), after):
        assert len(encode(NodesListed(page))) <= LIGHT_ANSWER_MAX_BYTES
        listed += [node.id for node in page]
        after, pages = page[-1].id, pages + 1
    assert listed == sorted(key("node", number).id for number in range(121))
    assert 1 < pages < 5
