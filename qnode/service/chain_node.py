"""Everything of the chain on one node, put together: store, execution, registry, mempool, consensus (`proto/spec/node.md`, "Chain")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import trio

from qnode.api.chain import chain_folders
from qnode.api.chain_status import AccusationStatus, ChainStatus, MempoolStatus, VotingStatus
from qnode.api.status import Condition, condition
from qnode.api.sync_status import StrangersStatus, SyncStatus
from qnode.core.ledger.state import Reader
from qnode.core.mempool_limits import BOUNDS
from qnode.net.answers import Desk
from qnode.net.strangers import Kind, Strangers
from qnode.service.accusing import Accusation
from qnode.service.asked import Asked
from qnode.service.chain import Chain
from qnode.service.chain_pages import source_of
from qnode.service.consensus import ConsensusService, Place
from qnode.service.duty import duty_conditions, duty_of
from qnode.service.gossip import Judge
from qnode.service.light import LIGHT_TAGS, LightAnswers
from qnode.service.mempool import Mempool
from qnode.service.mempool_bundles import bundled
from qnode.service.mempool_given import GIVE_MS, GIVEN_TAGS, Giver, Taker
from qnode.service.mempool_pull import MEMPOOL_TAGS
from qnode.service.peers import PeerService
from qnode.service.registry import ChainRegistry
from qnode.service.snapshot_serve import SNAPSHOT_TAGS, SnapshotAnswers
from qnode.service.sync import Sync
from qnode.service.verify import Verifier
from qnode.service.voter import Voter
from qnode.store.chain import ChainStore
from qustream.aio.http import Folder
from qustream.aio.logs import logger
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.identity.signing import SigningKey
from qustream.model.genesis import Genesis
from qustream.model.state import Parameters, Progress, Table
from qustream.wire.codec import decode
from qustream.wire.gossip import Topic
from qustream.wire.mempool import TRANSACTION_TAKEN_MAX_BYTES

__all__ = ["FOLDER", "GENESIS_MAX_BYTES", "ChainNode", "read_genesis"]

FOLDER = "chain"  # in the data directory
# 4,732 licences with nodes and votes are 17 MB, 65,536 accounts 2 MB.
GENESIS_MAX_BYTES = 24 << 20
# A block may be half a second ahead of the slowest clock of a quorum; two seconds are a clock that somebody should look at.
CLOCK_BEHIND_MS = 2_000


def read_genesis(path: Path, chain: str) -> Genesis:
    """The document that the configuration names. Errors: `E-FILE`, `E-CONFIG`."""
    try:
        genesis = decode(files.read(path, GENESIS_MAX_BYTES, private=False), Genesis, max_bytes=GENESIS_MAX_BYTES)
    except QuStreamError as error:
        if error.code.startswith("E-WIRE"):
            raise fault("E-CONFIG", f"genesis_file: {path} is no genesis document: {error.detail}") from None
        raise
    if genesis.chain != chain:
        raise fault("E-CONFIG", f"chain: {path} begins the chain {genesis.chain!r}, not {chain!r}")
    return genesis


class _Executed:
    """The chain, as far as it has been executed, for the mempool: it looks at an account for every transaction, so no state is opened for
    it."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @property
    def parameters(self) -> Parameters:
        return self._chain.parameters

    def view(self) -> AbstractContextManager[Reader]:
        return nullcontext(self._chain.newest())


class ChainNode:
    """`open` it, `join` it with the peers, `run` it, `close` it. `judges`: of gossip; `on_servers`: QRNG servers of the chain changed."""

    def __init__(self, store: ChainStore, genesis: Genesis, key: SigningKey, voter: Voter | None, *, clock_ms: Callable[[], int]) -> None:
        self.store, self.genesis, self.key, self.voter = store, genesis, key, voter
        self.chain = Chain(store, genesis)
        self.verifier = Verifier(genesis.chain)
        self.registry = ChainRegistry(self.chain.view, genesis)
        self.mempool = Mempool(
            _Executed(self.chain), self.verifier, publish=self._publish, misled=self._misled, stored=store.transaction,
            height=self.chain.executed.height,
        )  # fmt: skip
        self.chain.waiting = self.mempool.get
        self.light = LightAnswers(self.chain, self.registry)
        self.strangers = Strangers()
        self.snapshots = SnapshotAnswers(self.chain, store.path, self.strangers)
        self.taker = Taker(self.mempool, self.strangers)
        self.judges: Mapping[Topic, Judge] = {Topic.TRANSACTION: self.mempool.judge}
        self.on_servers: Callable[[], None] = lambda: None
        self._clock_ms = clock_ms
        self._peers: PeerService | None = None
        self._asked: Asked | None = None
        self._giver = Giver(peers=self._givable, call=self._give, waits=lambda name: self.mempool.get(name) is not None)
        self._consensus: ConsensusService | None = None
        self._sync: Sync | None = None
        self.chain.followers += [self.registry.executed, self._follow]

    @classmethod
    def open(
        cls, directory: Path, genesis: Genesis, key: SigningKey, voter: Voter | None, *, clock_ms: Callable[[], int]
    ) -> ChainNode:  # fmt: skip
        """Open the chain's store in a data directory. Errors: of `ChainStore.open`."""
        with ExitStack() as opened:
            store = opened.enter_context(ChainStore.open(directory / FOLDER, genesis))
            if store.snapshots.incoming() is not None:  # begun with a checkpoint that the configuration names no more
                store.snapshots.abandon(genesis)
            if store.is_older:
                logger("chain").info("an earlier version has written this chain; with the next block only this one will open it")
            node = cls(store, genesis, key, voter, clock_ms=clock_ms)
            opened.pop_all()
        return node

    def close(self) -> None:
        """Let go of everything."""
        self.snapshots.close()
        self.registry.close()
        self.chain.close()
        self.store.close()

    def join(self, peers: PeerService, desk: Desk, asked: Asked | None = None) -> None:
        """Work with these peers from now on; `asked`: and whoever else can be asked."""
        self._peers, self._asked = peers, asked or Asked(peers)
        self._consensus = ConsensusService(
            self.chain, self.mempool, self.verifier, peers, key=self.key, voter=self.voter, clock_ms=self._clock_ms
        )  # fmt: skip
        self._sync = Sync(
            self.chain, self.verifier, self._asked, desk, self.strangers, held=self._waiting, is_validator=self._is_voting
        )  # fmt: skip
        desk.route(MEMPOOL_TAGS, self.mempool.answer)
        desk.route(GIVEN_TAGS, self.taker.answer)
        desk.route_strangers(GIVEN_TAGS, self.taker.answer_stranger)
        desk.route_open(LIGHT_TAGS, self.light.answer)
        for tags in SNAPSHOT_TAGS:
            desk.route(tags, self.snapshots.answer)
            desk.route_strangers(tags, self.snapshots.answer_stranger)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. It has started when what was final before is executed. The peers must have been joined."""
        assert self._consensus is not None, "peers come first"
        assert self._sync is not None, "as above"
        async with trio.open_nursery() as nursery:
            await nursery.start(self.verifier.run)
            await nursery.start(self.chain.run)
            nursery.start_soon(self.mempool.run)
            nursery.start_soon(self.snapshots.run)
            nursery.start_soon(self._consensus.run)
            nursery.start_soon(self._sync.run)
            nursery.start_soon(self._giver.run)
            if self._asked is not None and self._asked.outside is not None:
                nursery.start_soon(self._asked.outside.run)
            task_status.started()

    def folders(self) -> Mapping[str, Folder]:
        """The pages about the chain. In the event loop."""
        return chain_folders(source_of(self.chain, self.mempool, self._held))

    def _held(self) -> Sequence[Accusation]:
        return () if self._consensus is None else tuple(self._consensus.accusing.accusations.values())

    def stop(self) -> None:
        """Answer whoever waits for a block: there will be none."""
        if self._sync is not None:
            self._sync.close()

    # -- following --------------------------------------------------------------------------------------------------------

    def _follow(self, changes: Mapping[bytes, bytes | None], progress: Progress) -> None:
        self.mempool.executed(progress.height, changes)
        if any(key[0] == Table.QRNG_SERVER for key in changes):
            self.on_servers()

    def _publish(self, raws: Sequence[bytes]) -> bool:
        """By gossip, if somebody hears it; else they are given to nodes that answer strangers."""
        if self._peers is None or not self._peers.hub.links:
            return all([self._giver.give(raw) for raw in raws])  # noqa: C419 - each of them, whatever became of the first
        self._peers.gossip.publish(Topic.TRANSACTION, bundled(raws))
        return True

    def _givable(self) -> Collection[bytes]:
        return self._asked.outside.nodes if self._asked is not None and self._asked.outside is not None else ()

    async def _give(self, node: bytes, body: bytes) -> bytes:
        assert self._asked is not None, "somebody can be asked"
        return await self._asked.call(node, body, GIVE_MS, max_answer_bytes=TRANSACTION_TAKEN_MAX_BYTES)

    def _waiting(self, name: bytes) -> bytes | None:
        found = self.mempool.get(name)
        return None if found is None else found[0]

    def _is_voting(self) -> bool:
        return self._consensus is not None and self._consensus.term is not None

    def _misled(self, peer: bytes) -> None:
        if self._peers is not None:
            self._peers.gossip.misled(peer)

    # -- for operators ----------------------------------------------------------------------------------------------------

    def status(self) -> ChainStatus:
        """How the chain is, here and now."""
        chain, consensus = self.chain, self._consensus
        head, progress, counts = chain.head, chain.executed, self.mempool.counts()
        place, sizes = consensus.place if consensus is not None else None, self.store.sizes()
        entry = chain.rotation(place.rotation) if place is not None else None
        term = consensus.term if consensus is not None else None
        accusations = () if consensus is None else tuple(
            AccusationStatus(each.licence.hex(), each.rotation, each.view, each.state or "being sent")
            for each in consensus.accusing.accusations.values()
        )  # fmt: skip
        return ChainStatus(
            final=head.height, final_ms=head.time_ms, executed=progress.height, epoch=progress.epoch,
            rotation=place.rotation if place is not None else progress.rotation, view=term.core.view if term is not None else 0,
            validators=len(entry.seats) if entry is not None else 0, views=entry.views if entry is not None else 0,
            skipped=entry.skipped if entry is not None else 0, voting=self._voting(place),
            mempool=MempoolStatus(
                counts.transactions, counts.bytes, counts.refused, counts.dropped, BOUNDS.transactions, BOUNDS.bytes
            ), transactions=chain.transactions, verified=self.verifier.pool.checked, accusations=accusations,
            store_bytes=sizes["used_bytes"], free_bytes=sizes["free_bytes"], verify_starts=self.verifier.pool.starts,
            first=self.store.first_height, given=self.snapshots.heights, sync=self._sync_status(), strangers=self._strangers_status(),
        )  # fmt: skip

    def _sync_status(self) -> SyncStatus:
        if self._sync is None or self._asked is None:
            return SyncStatus()
        sync, outside = self._sync, self._asked.outside
        return SyncStatus(
            licensed=self._asked.is_licensed, behind=sync.behind, nodes=self._asked.counts(), fetched=dict(sync.fetched_from),
            refused=dict(sync.refused_by), known=outside.candidates if outside is not None else 0, charged=sync.charged,
            given=self._giver.given, given_refused=self._giver.refused,
        )  # fmt: skip

    def _strangers_status(self) -> StrangersStatus:
        known = self.strangers
        return StrangersStatus(
            answered={kind.value: known.answered[kind] for kind in Kind}, refused={kind.value: known.refused[kind] for kind in Kind},
            waiting=len(known.waits), shed=known.waits.shed_count, sent_bytes=known.sent,
        )  # fmt: skip

    def _voting(self, place: Place | None) -> VotingStatus | None:
        if self.voter is None or self._consensus is None:
            return None
        seat, leads = -1, False
        if place is not None and place.me is not None:
            seat, leads = place.me, place.entry.seats[place.me].leads
        silent = self._consensus.silent if seat >= 0 else ""
        duty = duty_of(self.chain.state(), self.key.id, self.voter.key.id)
        return duty.status(self.voter.key.id, seat=seat, silent=silent, signed=self.voter.signed, leads=leads)

    def conditions(self, now_ms: int) -> list[Condition]:
        """What an operator should look at; none of it stops the node by itself."""
        found: list[Condition] = []
        for trouble in (self.chain.trouble, self.store.trouble, self.voter.trouble if self.voter is not None else None):
            if trouble is not None and trouble.code not in {each.code for each in found}:
                found.append(condition(trouble.code, trouble.detail))
        behind_ms = self.chain.head.time_ms - now_ms
        if behind_ms > CLOCK_BEHIND_MS:
            found.append(condition("E-CLOCK", f"the newest block is {behind_ms} ms ahead of this clock"))
        if self._consensus is not None and self._consensus.silent:
            found.append(condition("E-VOTE-MEMORY", f"this validator does not vote in this rotation: {self._consensus.silent}"))
        if self.verifier.pool.is_short:
            found.append(condition("E-VERIFY-WORKER", "signatures are checked in the node itself, one after the other"))
        voting = self._voting(self._consensus.place if self._consensus is not None else None)
        return found if voting is None else found + duty_conditions(voting, now_ms)
