"""A node that begins with the state of others: real links, real signatures, and every lie there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.giving import BLOCKS, Lie, giving
from support.peers_town import until

from qnode.service import joining as module
from qnode.service.chain import Chain
from qnode.service.joining import Joining
from qnode.service.light import LightAnswers
from qnode.service.peers import PeerService
from qnode.store.chain import ChainStore
from qustream.errors import QuStreamError
from qustream.rules import radix_plan
from qustream.rules.radix_plan import PlanNode, StateEntry
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, VOTE_SIGNATURE_BYTES, Kind, Vote, header_digest
from qustream.wire.light import HandOversAsk, ProvenEntry, SetTold, VoteKeys
from qustream.wire.snapshot import ChunkTold, SnapshotTold

DAY_MS = 86_400_000
WHOLE_STATE = 1 << 30


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 KiB, so that there are many."""
    monkeypatch.setattr(radix_plan, "CHUNK_BYTES", 4096)


def check(directory: Path, place: Any) -> None:
    """The store there goes on after the snapshot's block, with that state and nothing else."""
    with ChainStore.open(directory / "new" / "chain", place.chain.world.genesis) as store:
        height = store.final.height
        assert 25 < height < BLOCKS
        assert height == store.first_height == store.executed.height == place.givers[0].snapshots.heights[-1]
        assert store.root(height) == place.chain.store.root(height)
        assert store.final.digest == place.chain.blocks[height - 1].digest
        with store.state() as view:
            assert len(view.scan(b"", b"", WHOLE_STATE)) > 150


async def test_who_is_taken_for_a_validator_is_cut_off_by_no_vote(tmp_path: Path) -> None:
    """The others have it among them by what they have executed, and send it a vote with each of their answers."""
    vote = encode(Vote(3, 7, Kind.SKIP, NO_DIGEST, 1, bytes(VOTE_SIGNATURE_BYTES)))
    async with giving(tmp_path, 3) as place:
        new, sent = place.town.nodes[-1], 0

        def voting(service: PeerService) -> Lie:
            def vote_and_tell(answer: Any) -> Any:
                nonlocal sent
                link = service.hub.link_to(new.id)
                if link is not None and link.is_validators:
                    sent += link.vote(vote)
                return answer

            return vote_and_tell

        for giver in place.givers:
            giver.node.service.take_consensus = lambda _session, _messages: None
            giver.node.service.mesh(frozenset(), frozenset({new.id}))
            giver.lie = voting(giver.node.service)
        joining = await place.join()
        await until(joining.done.is_set)
        assert sent > 10
        assert "E-PEER-UNLICENSED" not in new.service.ended
        await place.leave()


async def test_it_joins_with_what_several_give(tmp_path: Path) -> None:
    async with giving(tmp_path, 3) as place:
        joining = await place.join()
        await until(joining.done.is_set)
        assert joining.charged == 0
        assert joining.core.taken > 10
        assert sum(giver.asked > 2 for giver in place.givers) >= 2
        await place.leave()
        check(tmp_path, place)
        with ChainStore.open(tmp_path / "new" / "chain", place.chain.world.genesis) as store:
            chain = Chain(store, place.chain.world.genesis)
            with pytest.raises(QuStreamError, match="E-CHAIN-STALE"):  # it cannot say how the first rotation ended
                await LightAnswers(chain, None).answer(encode(HandOversAsk(1)))  # type: ignore[arg-type]
            with pytest.raises(QuStreamError, match="E-NOT-HELD"):  # and the running one has not
                await LightAnswers(chain, None).answer(encode(HandOversAsk(store.executed.rotation + 1)))  # type: ignore[arg-type]
            chain.close()
        again = Joining.open(tmp_path / "new", place.chain.world.genesis, place.pinned, clock_ms=place.now_ms)
        assert again is None, "where there is a chain nothing is looked for"


async def test_one_that_was_ended_in_the_middle_asks_for_what_is_missing(tmp_path: Path) -> None:
    async with giving(tmp_path, 1) as place:
        given = 0

        def stops(answer: Any) -> Any:
            nonlocal given
            given += isinstance(answer, ChunkTold)
            return answer if given <= 7 else b"\xc0"

        place.givers[0].lie = stops
        joining = await place.join()
        await until(lambda: joining.charged)
        await until(lambda: "7 of" in joining.taking)
        joining.done.set()  # and it runs no more
        await until(lambda: joining._nursery is None or joining._nursery.cancel_scope.cancel_called)
        await place.leave()
        place.givers[0].lie = lambda answer: answer
        again = await place.join()
        await until(again.done.is_set)
        total = int(again.taking.split(" of ")[-1].split()[0])
        assert again.core.taken == total - 7
        await place.leave()
        check(tmp_path, place)


def _header(told: SnapshotTold) -> SnapshotTold:
    """A header of its own, that names a root of its own."""
    assert told.offer is not None
    header = msgspec.structs.replace(told.offer.headers[-1], time_ms=told.offer.headers[-1].time_ms + 1)
    return msgspec.structs.replace(told, offer=msgspec.structs.replace(told.offer, headers=(*told.offer.headers[:-1], header)))


def _certificate(told: SnapshotTold) -> SnapshotTold:
    """Signed by nobody."""
    assert told.offer is not None
    certificate = told.offer.certificate
    forged = msgspec.structs.replace(certificate, signatures=tuple(bytes(len(each)) for each in certificate.signatures))
    return msgspec.structs.replace(told, offer=msgspec.structs.replace(told.offer, certificate=forged))


def _minority(told: SnapshotTold) -> SnapshotTold:
    assert told.offer is not None
    certificate = told.offer.certificate
    forged = msgspec.structs.replace(certificate, voters=b"\x80", signatures=certificate.signatures[:1])
    return msgspec.structs.replace(told, offer=msgspec.structs.replace(told.offer, certificate=forged))


def _root(told: SnapshotTold) -> SnapshotTold:
    return msgspec.structs.replace(told, root=header_digest(told.offer.block)) if told.offer is not None else told


def _block(told: SnapshotTold) -> SnapshotTold:
    assert told.offer is not None
    return msgspec.structs.replace(told, offer=msgspec.structs.replace(told.offer, block=told.offer.headers[0]))


def _progress(told: SnapshotTold) -> SnapshotTold:
    assert told.offer is not None
    entry = ProvenEntry(told.offer.progress.value + b"\0", told.offer.progress.proof)  # type: ignore[operator]
    return msgspec.structs.replace(told, offer=msgspec.structs.replace(told.offer, progress=entry))


def _no_offer(told: SnapshotTold) -> SnapshotTold:
    return msgspec.structs.replace(told, offer=None)


def _plan(told: SnapshotTold) -> SnapshotTold:
    last = told.nodes[-1]
    return msgspec.structs.replace(told, nodes=(*told.nodes[:-1], PlanNode(last.prefix, last.node[:-1] + bytes((last.node[-1] ^ 1,)))))


def _count(told: SnapshotTold) -> SnapshotTold:
    return msgspec.structs.replace(told, count=len(told.nodes) - 1)


def _chunk(told: ChunkTold) -> ChunkTold:
    last = told.entries[-1]
    return ChunkTold((*told.entries[:-1], StateEntry(last.key, last.value + b"\0")))


def _fewer(told: ChunkTold) -> ChunkTold:
    return ChunkTold(told.entries[1:])


def _more(told: ChunkTold) -> ChunkTold:
    return ChunkTold((*told.entries, StateEntry(b"\x05" + bytes(20), b"")))


def _set(told: SetTold) -> SetTold:
    return msgspec.structs.replace(told, seed=bytes(32))


def _keys(told: VoteKeys) -> VoteKeys:
    return VoteKeys(told.keys[::-1])


def when(kind: type, lie: Lie) -> Lie:
    return lambda answer: lie(answer) if isinstance(answer, kind) else answer


@pytest.mark.parametrize(
    ("kind", "lie"),
    [
        *[(SnapshotTold, lie) for lie in (_header, _certificate, _minority, _root, _block, _progress, _no_offer, _plan, _count)],
        *[(ChunkTold, lie) for lie in (_chunk, _fewer, _more)],
        (SetTold, _set),
        (VoteKeys, _keys),
    ],
)
async def test_a_liar_loses_its_link_and_nothing_of_it_is_kept(kind: type, lie: Lie, tmp_path: Path) -> None:
    async with giving(tmp_path, 2) as place:
        place.givers[0].lie = when(kind, lie)
        place.town.cut([place.givers[1].node], [place.town.nodes[-1]])  # at first only the liar is there
        joining = await place.join()
        await until(lambda: joining.charged)
        assert not joining.done.is_set()
        place.town.heal([place.givers[1].node], [place.town.nodes[-1]])
        await until(joining.done.is_set)
        await place.leave()
        check(tmp_path, place)


async def test_an_old_checkpoint_begins_nothing(tmp_path: Path) -> None:
    async with giving(tmp_path, 1) as place:
        joining = await place.join(now_ms=place.now_ms() + 15 * DAY_MS)
        await until(lambda: joining.trouble)
        assert joining.trouble is not None
        assert joining.trouble.code == "E-CHECKPOINT-OLD"
        assert "15 days" in joining.trouble.detail
        assert [found.code for found in joining.conditions(0) if found.stops] == ["E-CHAIN-STALE", "E-CHECKPOINT-OLD"]
        assert joining.charged == 0
        assert joining.store.executed.height == 0
        await place.leave()


async def test_a_checkpoint_that_nobody_knows_begins_nothing(tmp_path: Path) -> None:
    async with giving(tmp_path, 1) as place:
        joining = await place.join(b"u" * 32)
        await until(lambda: joining.trouble)
        assert joining.trouble is not None
        assert joining.trouble.code == "E-CHAIN-STALE"
        assert joining.charged == 0
        assert joining.store.executed.height == 0
        await place.leave()


async def test_a_young_chain_is_followed_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a state yet, and the checkpoint is the beginning's."""
    monkeypatch.setattr(module, "YOUNG_S", 0.5)
    async with giving(tmp_path, 1) as place:
        genesis = place.chain.world.genesis
        place.givers[0].snapshots.close()
        other = await place.join()
        await until(lambda: other.core.is_refused)
        assert not other.done.is_set()
        other.done.set()
        await place.leave()
        joining = await place.join(module.checkpoint_digest(module.first_checkpoint(genesis)))
        await until(joining.done.is_set)
        assert joining.store.executed.height == 0
        await place.leave()
