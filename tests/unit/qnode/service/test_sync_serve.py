"""Answers for those who are behind: which blocks, how much of them, how long they wait, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from support.peers_town import until
from support.signed_chain import SignedChain

from qnode.core.sync_events import Head
from qnode.core.sync_run import read
from qnode.net.answers import Quota
from qnode.net.strangers import LIMITS, Kind, Stranger, Strangers
from qnode.service import sync_serve
from qnode.service.sync_serve import SyncAnswers
from qustream.aio.admission import Bucket
from qustream.errors import QuStreamError
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import header_digest
from qustream.wire.sync import HEADERS_MAX, SYNC_ANSWER_MAX_BYTES, BlocksAnswer, BlocksAsk, BodyAnswer, BodyAsk
from qustream.wire.transactions import transaction_id

PEER: Any = SimpleNamespace(peer=b"p" * 32)
OTHER: Any = SimpleNamespace(peer=b"o" * 32)


class Place:
    """A chain, and its answers. `chain.store.final` moves when a block is added; `news` says so."""

    def __init__(self, directory: Path) -> None:
        self.signed = SignedChain(directory)
        self.store = self.signed.store
        self.news = trio.Event()
        self.answers = SyncAnswers(self, Strangers())  # type: ignore[arg-type]

    async def wait_final_above(self, height: int) -> None:
        while self.store.final.height <= height:
            await self.news.wait()

    def grow(self, blocks: int, **how: Any) -> None:
        self.signed.grow(blocks, **how)
        self.news.set()
        self.news = trio.Event()

    async def ask(self, message: BlocksAsk | BodyAsk, *, peer: Any = PEER, deadline_ms: int = 20_000) -> Any:
        said = await self.answers.answer(peer, encode(message), deadline_ms)
        assert len(said) <= SYNC_ANSWER_MAX_BYTES
        return decode(said, BlocksAnswer | BodyAnswer, max_bytes=SYNC_ANSWER_MAX_BYTES)

    async def blocks(self, above: int, most: int = HEADERS_MAX, wait_ms: int = 0) -> BlocksAnswer:
        answer = await self.ask(BlocksAsk(above, most, wait_ms))
        assert isinstance(answer, BlocksAnswer)
        return answer


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path / "chain")
    yield made
    made.store.close()


async def test_a_run_ends_where_a_finalisation_is(place: Place) -> None:
    place.grow(34)
    head, total = Head(0, place.signed.world.digest, 1, (200_000 * 10**9,) * 4), 0
    while head.height < 34:
        answer = await place.blocks(head.height)
        assert answer.height == 34
        assert len(answer.ids) == len(answer.headers)
        blocks = read(answer, head, place.signed.world.genesis.chain)
        assert not isinstance(blocks, str), blocks
        total += len(blocks)
        last = blocks[-1].header
        is_over = any(block.header.height == last.height + 1 and block.header.rotation > last.rotation for block in place.signed.blocks)
        head = Head(last.height, blocks[-1].digest, last.rotation + is_over, head.weights)
    assert total == 34
    assert (await place.blocks(34)).headers == ()
    assert (await place.blocks(99)).headers == ()


async def test_the_tail_of_a_boundary_block_comes_along(place: Place) -> None:
    place.grow(14, tail=True)
    answer = await place.blocks(1)
    heights = [header.height for header in answer.headers]
    assert heights[-3:] == [heights[-1]] * 3
    assert answer.certificate is not None
    assert answer.certificate.digest == header_digest(answer.headers[-1])
    assert len(answer.ids) == len(heights) - 2
    assert (await place.blocks(1, most=len(heights) - 1)).headers == ()  # not whole, so not at all


async def test_ids_stand_in_an_answer_as_far_as_there_is_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.grow(6, transactions=5)
    whole = await place.blocks(1)
    monkeypatch.setattr(sync_serve, "SYNC_ANSWER_MAX_BYTES", len(encode(whole)) - 1)
    cut = await place.blocks(1)
    assert cut.headers == whole.headers
    assert len(cut.ids) < len(whole.ids)
    assert len(encode(cut)) < len(encode(whole))


async def test_a_body_comes_in_parts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.grow(1, transactions=9)
    ids = place.signed.blocks[0].ids
    monkeypatch.setattr(sync_serve, "SYNC_ANSWER_MAX_BYTES", 4 * 6000)
    got: list[bytes] = []
    while len(got) < 9:
        answer = await place.ask(BodyAsk(1, len(got), 1200))
        assert answer.ids == (() if got else ids)
        assert 1 <= len(answer.transactions) < 9
        got += answer.transactions
    assert tuple(map(transaction_id, got)) == ids
    assert len((await place.ask(BodyAsk(1, 2, 1))).transactions) == 1


async def test_what_is_not_here_is_refused(place: Place) -> None:
    place.grow(2)
    for ask, code in ((BodyAsk(3, 0, 1), "E-NOT-HELD"), (BodyAsk(2, 1, 1), "E-REQUEST-INVALID")):
        with pytest.raises(QuStreamError, match=code):
            await place.ask(ask)
    for junk in (b"", b"\x91\x67", encode(BlocksAnswer(1, (), (), None))):
        with pytest.raises(QuStreamError, match="E-WIRE"):
            await place.answers.answer(PEER, junk, 1000)


async def test_who_is_at_the_head_waits_for_the_next_block(place: Place) -> None:
    place.grow(1)
    answers: list[BlocksAnswer] = []

    async def ask(most: int) -> None:
        answers.append(await place.blocks(1, most, wait_ms=20_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0)
        nursery.start_soon(ask, HEADERS_MAX)
        await until(lambda: place.answers.waiting == 2)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await place.blocks(1, wait_ms=1)  # a third of one peer
        assert answers == []
        place.grow(1)
    assert sorted(len(answer.headers) for answer in answers) == [0, 1]
    assert {answer.height for answer in answers} == {2}
    assert place.answers.waiting == 0


async def test_nobody_waits_longer_than_he_said_or_than_the_node_runs(place: Place, autojump_clock: trio.testing.MockClock) -> None:
    place.grow(1)
    began_s = trio.current_time()
    assert (await place.blocks(1, wait_ms=7_000)).headers == ()
    assert trio.current_time() - began_s == pytest.approx(7)
    await place.ask(BlocksAsk(1, 0, 20_000), deadline_ms=5_000)
    assert trio.current_time() - began_s == pytest.approx(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.ask, BlocksAsk(1, 0, 20_000))
        await trio.testing.wait_all_tasks_blocked()
        place.answers.close()
    assert trio.current_time() - began_s == pytest.approx(10)
    await place.ask(BlocksAsk(1, 0, 20_000))
    assert trio.current_time() - began_s == pytest.approx(10)


async def test_so_many_answers_a_minute(place: Place, autojump_clock: trio.testing.MockClock) -> None:
    place.grow(1)
    place.answers._more = Bucket(0, 0, 0.0)  # others have had it
    for _ in range(sync_serve.BLOCKS_MAX):
        await place.ask(BlocksAsk(0, 0, 0))
    for _ in range(sync_serve.BODIES_MAX):
        await place.ask(BodyAsk(1, 0, 1))
    for ask in (BlocksAsk(0, 0, 0), BodyAsk(1, 0, 1)):
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT") as caught:
            await place.ask(ask)
        assert caught.value.retry_after_ms
        await place.ask(ask, peer=OTHER)
    await trio.sleep(60)
    await place.ask(BlocksAsk(0, 0, 0))


async def test_who_needs_more_bodies_has_what_others_leave(place: Place, autojump_clock: trio.testing.MockClock) -> None:
    place.grow(1)
    place.answers._more = Bucket(6, 1, trio.current_time())
    size = len(encode(await place.ask(BodyAsk(1, 0, 1))))
    for _ in range(sync_serve.BODIES_MAX - 1 + 6 // (1 + size // sync_serve.MORE_BYTES)):
        await place.ask(BodyAsk(1, 0, 1))
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT") as caught:
        await place.ask(BodyAsk(1, 0, 1))
    assert caught.value.retry_after_ms == sync_serve.MORE_AGAIN_MS
    await place.ask(BodyAsk(1, 0, 1), peer=OTHER)  # its own is untouched
    await trio.sleep(sync_serve.MORE_AGAIN_MS / 1000)
    await place.ask(BodyAsk(1, 0, 1))


async def test_large_bodies_beside_ones_own_count_by_their_bytes(place: Place, autojump_clock: trio.testing.MockClock) -> None:
    place.grow(1, transactions=40)
    place.answers._bodies = Quota(0, sync_serve.SPAN_MS)
    place.answers._more = Bucket(2, 1, trio.current_time())
    size = len(encode(await place.ask(BodyAsk(1, 0, 40))))
    assert size > 8 * sync_serve.MORE_BYTES
    # On the test's own clock: until one is there again after the debt, and not a second sooner.
    due_s = 1 + size // sync_serve.MORE_BYTES + 1 - 2
    await trio.sleep(due_s - 1)
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
        await place.ask(BodyAsk(1, 0, 40))
    await trio.sleep(1)
    await place.ask(BodyAsk(1, 0, 40))


async def test_all_that_wait_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_serve, "WAITS_MAX", 1)
    place.grow(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.ask, BlocksAsk(1, 0, 20_000))
        await until(lambda: place.answers.waiting == 1)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await place.ask(BlocksAsk(1, 0, 20_000), peer=OTHER)
        place.answers.close()


def stranger(number: int, prefix: int = 1) -> Stranger:
    return Stranger(number.to_bytes(32, "big"), f"10.{prefix}.0.0/16")


async def test_a_stranger_gets_what_a_peer_gets_and_pays_for_it(place: Place, mock_clock: trio.testing.MockClock) -> None:
    place.grow(3)
    strangers = place.answers._strangers
    for ask, kind in ((BlocksAsk(1, HEADERS_MAX, 0), Kind.BLOCKS), (BodyAsk(2, 0, 9), Kind.BODIES)):
        said = await place.answers.answer_stranger(stranger(1), encode(ask), 20_000)
        assert said == await place.answers.answer(PEER, encode(ask), 20_000)
        assert strangers.answered[kind] == 1
        for _ in range(LIMITS[kind].key.most - 1):
            strangers.begin(stranger(1), kind)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await place.answers.answer_stranger(stranger(1), encode(ask), 20_000)
        assert len(await place.answers.answer(PEER, encode(ask), 20_000)) == len(said)
        assert len(await place.answers.answer_stranger(stranger(2, 2), encode(ask), 20_000)) == len(said)
    for junk in (b"", b"\x91\x67", b"\x91\x69"):
        with pytest.raises(QuStreamError, match="E-WIRE"):
            await place.answers.answer_stranger(stranger(3, 3), junk, 1000)


async def test_strangers_that_wait_are_few_and_go_first_when_a_link_needs_the_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.grow(1)
    answered: list[int] = []
    ask = encode(BlocksAsk(1, HEADERS_MAX, 20_000))

    async def wait(number: int) -> None:
        said = decode(
            await place.answers.answer_stranger(stranger(number, number), ask, 20_000), BlocksAnswer, max_bytes=SYNC_ANSWER_MAX_BYTES
        )
        answered.append(number if said.headers else -number)

    async def wait_known(number: int) -> None:
        said = await place.ask(BlocksAsk(1, HEADERS_MAX, 20_000), peer=SimpleNamespace(peer=number.to_bytes(32, "big")))
        assert said.headers, "a link's question waits until there is a block"

    async with trio.open_nursery() as nursery:
        for number in range(1, 6):
            nursery.start_soon(wait, number)
            await until(lambda number=number: place.answers.waiting == number)
        monkeypatch.setattr(sync_serve, "WAITS_MAX", 6)
        nursery.start_soon(wait_known, 100)
        await until(lambda: place.answers.waiting == 6)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):  # a stranger takes nobody's place
            await wait(9)
        for number in range(101, 106):  # links take those of all strangers, the oldest first
            nursery.start_soon(wait_known, number)
            await until(lambda number=number: len(answered) == number - 100)
            assert answered[-1] == -(number - 100)
        await until(lambda: place.answers.waiting == 6)
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await wait_known(107)
        place.grow(1)
    assert (place.answers.waiting, place.answers._strangers.waits.shed_count) == (0, 5)


async def test_a_stranger_that_waits_is_answered_when_there_is_a_block_or_the_node_stops(place: Place) -> None:
    place.grow(1)
    said: list[bytes] = []

    async def wait(above: int) -> None:
        said.append(await place.answers.answer_stranger(stranger(1), encode(BlocksAsk(above, 0, 20_000)), 20_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, 2)
        await until(lambda: place.answers.waiting == 2)
        place.grow(1)
        await until(lambda: len(said) == 1)
        place.answers.close()
    assert [decode(each, BlocksAnswer, max_bytes=999).height for each in said] == [2, 2]
    assert len(place.answers._strangers.waits) == 0
