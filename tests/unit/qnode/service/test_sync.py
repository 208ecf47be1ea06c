"""A node that gets the chain from others: real links, real signatures, real stores."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.peers_town import until
from support.signed_chain import SignedChain, SyncNode, signed_certificate, syncing
from support.stored_chain import raw_of

from qnode.service import sync_serve
from qnode.service.keys_workers import settled
from qustream.errors import fault
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import Certificate, Kind, header_digest
from qustream.wire.sync import SYNC_ANSWER_MAX_BYTES, BlocksAnswer, BodyAnswer

WHOLE_STATE = 1 << 30


def grown(directory: Path, blocks: int, **how: int) -> SignedChain:
    chain = SignedChain(directory)
    chain.grow(blocks, **how)
    chain.store.close()
    return chain


def state_of(node: SyncNode) -> dict[bytes, bytes]:
    with node.store.state() as view:
        return dict(view.scan(b"", b"", WHOLE_STATE))


def copied(chain: SignedChain, to: Path) -> SignedChain:
    """The same chain on another disk, or an earlier state of it."""
    if not to.exists():
        shutil.copytree(chain.directory, to)
    other = SignedChain.__new__(SignedChain)
    other.directory, other.world = to, chain.world
    return other


async def test_a_new_node_comes_from_genesis_to_the_head_and_follows(tmp_path: Path) -> None:
    chain = SignedChain(tmp_path / "later")
    chain.grow(45)
    chain.store.close()
    shutil.copytree(chain.directory, tmp_path / "chain")
    chain.reopen()
    chain.grow(3, transactions=4)
    chain.store.close()
    now = copied(chain, tmp_path / "chain")
    async with syncing(tmp_path, [now, None]) as (_, (full, new), nursery):
        await full.start(nursery)
        await new.start(nursery)
        await until(lambda: new.height == 45)
        assert new.root() == full.root()
        assert new.sync.fetched == 45
        for block in chain.blocks[45:]:  # blocks come while it follows
            await settled(full.store.keep_transactions([(name, raw_of(chain.raws[name])) for name in block.ids]))
            await full.chain.finalise([block], signed_certificate(block.header))
            await until(lambda block=block: new.height == block.header.height)
        assert new.root() == full.root()
        assert state_of(new) == chain.world.reader.entries
        assert (new.sync.charged, full.sync.charged) == (0, 0)
        await until(lambda: full.sync.answers.waiting >= 1, "the next question")


async def test_what_ends_a_rotation_by_a_descendant_is_proved_to_the_next_follower(tmp_path: Path) -> None:
    chain = grown(tmp_path / "chain", 25, tail=True)
    async with syncing(tmp_path, [chain, None, None]) as (t, (full, middle, last), nursery):
        await full.start(nursery)
        await middle.start(nursery)
        await until(lambda: middle.height == 25)
        assert [len(middle.store.tail_of(rotation)) for rotation in (1, 2)] == [2, 2]
        t.cut([full.node], [last.node])
        await last.start(nursery)
        await until(lambda: last.height == 25)
        assert last.root() == full.root()


async def test_a_node_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    chain = grown(tmp_path / "chain", 90, transactions=2)
    async with syncing(tmp_path, [chain, None]) as (_, (full, new), nursery):
        await full.start(nursery)
        for height in (15, 50):
            await new.start(nursery)
            await until(lambda height=height: new.height >= height)
            await new.stop()
        await new.start(nursery)
        before = new.chain.store.final.height
        assert before >= 50
        await until(lambda: new.height == 90)
        assert new.sync.fetched == 90 - before
        assert new.root() == full.root()


async def test_a_validator_that_was_left_behind_is_brought_forward(tmp_path: Path) -> None:
    chain = grown(tmp_path / "chain", 34)
    async with syncing(tmp_path, [chain, None]) as (_, (full, behind), nursery):
        behind.is_validator = True
        await full.start(nursery)
        await behind.start(nursery)
        await until(lambda: behind.height >= 34)


def _signature(answer: BlocksAnswer) -> BlocksAnswer:
    message = answer.certificate
    assert message is not None
    forged = bytearray(message.signatures[1])
    forged[100] ^= 1
    return msgspec.structs.replace(
        answer, certificate=msgspec.structs.replace(message, signatures=(message.signatures[0], bytes(forged), message.signatures[2]))
    )


def _few(answer: BlocksAnswer) -> BlocksAnswer:
    assert answer.certificate is not None
    return msgspec.structs.replace(answer, certificate=signed_certificate(answer.headers[-1], (0, 1)))


def _notarised(answer: BlocksAnswer) -> BlocksAnswer:
    made = signed_certificate(answer.headers[-1], kind=Kind.NOTAR)
    return msgspec.structs.replace(
        answer, certificate=Certificate(made.rotation, made.view, Kind.FINAL, made.digest, made.voters, made.signatures)
    )


def _another(answer: BlocksAnswer) -> BlocksAnswer:
    header = msgspec.structs.replace(answer.headers[0], executed_root=b"\x01" * 32)
    assert answer.certificate is not None
    message = msgspec.structs.replace(answer.certificate, digest=header_digest(header), view=header.view)
    return BlocksAnswer(answer.height, (header,), answer.ids[:1], message)


LIES: dict[str, Callable[[BlocksAnswer], BlocksAnswer]] = {
    "a signature that does not hold": _signature, "too few validators": _few, "notarised, and not final": _notarised,
    "another block": _another,
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_who_lies_loses_the_link_and_nobody_believes_it(lie: str, tmp_path: Path) -> None:
    chain = grown(tmp_path / "chain", 12)
    async with syncing(tmp_path, [chain, copied(chain, tmp_path / "liar"), None]) as (_, (full, liar, new), nursery):
        await liar.start(nursery)
        honest = liar.sync.answers.answer

        async def answer(session, body: bytes, deadline_ms: int) -> bytes:
            said = await honest(session, body, deadline_ms)
            if said[1] != BlocksAnswer.__struct_config__.tag:
                return said
            told = decode(said, BlocksAnswer, max_bytes=SYNC_ANSWER_MAX_BYTES)
            return encode(LIES[lie](told)) if told.headers else said

        routes = liar.node.service._desk._routes
        routes[:] = [(tags, answer if tags is sync_serve.SYNC_TAGS else each) for tags, each in routes]
        await new.start(nursery)
        await until(lambda: new.sync.charged)
        assert new.height == 0
        await until(lambda: new.node.service.ended["E-ANSWER-INVALID"])
        await full.start(nursery)
        await until(lambda: new.height == 12)
        assert new.root() == full.root()


async def test_transactions_that_are_not_those_of_the_block_are_a_lie(tmp_path: Path) -> None:
    chain = grown(tmp_path / "chain", 5)
    async with syncing(tmp_path, [chain, None]) as (_, (liar, new), nursery):
        await liar.start(nursery)
        lies = True
        honest = liar.sync.answers.answer

        async def answer(session, body: bytes, deadline_ms: int) -> bytes:
            said = await honest(session, body, deadline_ms)
            if said[1] == BodyAnswer.__struct_config__.tag and lies:
                told = decode(said, BodyAnswer, max_bytes=SYNC_ANSWER_MAX_BYTES)
                return encode(BodyAnswer(told.ids, tuple(each[:-1] + b"?" for each in told.transactions)))
            return said

        routes = liar.node.service._desk._routes
        routes[:] = [(tags, answer if tags is sync_serve.SYNC_TAGS else each) for tags, each in routes]
        await new.start(nursery)
        await until(lambda: new.sync.charged)
        assert new.height == 0


async def test_what_is_no_message_is_a_lie_and_a_refusal_is_none(tmp_path: Path) -> None:
    chain = grown(tmp_path / "chain", 5)
    async with syncing(tmp_path, [chain, None]) as (_, (odd, new), nursery):
        await odd.start(nursery)
        says: list[object] = [fault("E-NOT-HELD"), fault("E-PEER-LIMIT", retry_after_ms=10), fault("E-DEADLINE"), b"\xc1rubbish"]
        heard = 0

        async def answer(_session, _body: bytes, _deadline_ms: int) -> bytes:
            nonlocal heard
            heard += 1
            say = says[min(heard, len(says)) - 1]
            if isinstance(say, bytes):
                return say
            raise say  # type: ignore[misc]

        routes = odd.node.service._desk._routes
        routes[:] = [(tags, answer if tags is sync_serve.SYNC_TAGS else each) for tags, each in routes]
        await new.start(nursery)
        await until(lambda: new.sync.charged == 1)
        assert heard >= 4
