"""Consensus on a node: one term after the other, who its validators are, and what operators see of it (`proto/spec/consensus.md`).

    chain: executed as far as it is final ─▶ which rotation is it, who votes ─▶ peers: mesh and channel
                                                     └▶ a seat is ours ─▶ Term, until the rotation is over or the chain is ahead of it

A node without a vote key, or without a seat, keeps step with rotations all the same; blocks come to it by who catches up.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from qnode.core.consensus_blocks import Blocks
from qnode.core.consensus_events import Base, Final, RotationBegan
from qnode.core.consensus_hearing import rotation_of
from qnode.core.ledger import rotations
from qnode.net.session import Session
from qnode.service.accusing import Accusing
from qnode.service.ballots import Ballots
from qnode.service.building import Building
from qnode.service.chain import Chain
from qnode.service.judging import Judging
from qnode.service.meeting import Meeting
from qnode.service.mempool import Mempool
from qnode.service.mempool_pull import Obtained
from qnode.service.peers import PeerService
from qnode.service.term import Duties, Term
from qnode.service.verify import Verifier
from qnode.service.verifying import Verifying
from qnode.service.voter import Voter, forgotten
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.state import Licence, LicenceStatus, RotationEntry, Table
from qustream.wire.consensus import Certificate, ConsensusAsk, ConsensusMessage, Kind, Proposal, Vote

__all__ = ["ConsensusService", "Place"]

# What is said of the next rotation before ours is over here: a proposal and some votes of each of a hundred validators.
EARLY_MAX, EARLY_PEER_MAX = 1024, 16
# Who is asked for a transaction that is missing: one after the other, so that three of them may be silent.
PULLED_FROM_MAX = 4
# Before a node that was just started votes: so long it waits to be linked to a quorum, who say how far they are ...
MEET_S = 10.0
# ... and so many times as long as a message takes at most for what they have of its own votes ...
ANSWER_DELTAS = 2
# ... and more than so many blocks behind, it catches up first. Whoever was put back to an old state would else vote on old views again.
BEHIND_MAX = 3
# Several things are waited for at once; one that nobody tells of is looked at so often.
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """Where the chain is. `nodes`: of the rotation's validators, by number, None for one that has no node any more; `me`: our number;
    `reached`: the last final block of this rotation, None if that is its base."""

    rotation: int
    entry: RotationEntry
    base: Base
    nodes: tuple[bytes | None, ...]
    me: int | None
    reached: Final | None


class ConsensusService:
    """One node's. `run` it beside the peer service and the chain. `voter`: None for a node without a vote key; `silent`: why a validator
    with a seat does not vote, empty if it does."""

    def __init__(
        self, chain: Chain, mempool: Mempool, verifier: Verifier, peers: PeerService, *, key: SigningKey, voter: Voter | None,
        clock_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self.voter, self.silent = voter, ""
        self.term: Term | None = None
        self.place: Place | None = None
        self._chain, self._mempool, self._verifier, self._peers, self._key = chain, mempool, verifier, peers, key
        self._clock_ms = clock_ms
        self._ballots = Ballots(peers.hub, chain.store, self._spawn)
        self.accusing = Accusing(chain, mempool, key, self._spawn)
        self._early: deque[tuple[bytes, ConsensusMessage]] = deque()
        self._served: set[int] = set()  # rotations of which this process has seen the beginning, or has begun to vote in
        self._sat_out = -1
        self._is_catching_up = False
        self._meeting: Meeting | None = None
        self._nursery: trio.Nursery | None = None
        self._log = logger("consensus")
        peers.take_consensus = self._hear
        chain.obtain = self._obtain
        self._mesh(self._look())  # or whoever is linked first would be refused what it says

    # -- running ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. The chain must be running."""
        async with trio.open_nursery() as self._nursery:
            while True:
                await self._chain.wait_above(self._chain.store.final.height - 1)
                self.place = place = self._look()
                self._mesh(place)
                term = self.term = await self._open_term(place)
                async with trio.open_nursery() as nursery:
                    if term is not None:
                        nursery.start_soon(self._run_term, term, place)
                        self._pass_on_early(term)
                    await self._until_over(place, term)
                    nursery.cancel_scope.cancel()

    def _spawn(self, act: Callable[..., object], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(act, *args)  # type: ignore[arg-type]

    async def _until_over(self, place: Place, term: Term | None) -> None:
        """Until the rotation is over, others have made more final than this term has seen, or it must not vote any more."""
        while True:
            progress, final = self._chain.executed, self._chain.store.final
            if progress.rotation > place.rotation or (progress.rotation == place.rotation and progress.over):
                return
            if term is not None and (final.height > term.height or (term.twin and term.begun.me is not None)):
                return
            if self._is_catching_up and not self._is_behind(place):
                return
            with trio.move_on_after(LOOK_S):
                await self._chain.wait_above(progress.height)

    # -- where the chain is -----------------------------------------------------------------------------------------------

    def _look(self) -> Place:
        chain, progress = self._chain, self._chain.executed
        number = progress.rotation + 1 if progress.over else progress.rotation
        entry = chain.rotation(number)
        assert entry is not None, "the state has the rotation that runs"
        nodes = self._nodes(number)
        me = None
        if self.voter is not None:
            seats = enumerate(zip(entry.seats, nodes, strict=True))
            me = next((n for n, (seat, node) in seats if seat.vote_key == self.voter.key.id and node == self._key.id), None)
        return Place(number, entry, self._base(entry), nodes, me, None if progress.over else self._reached(number))

    def _base(self, entry: RotationEntry) -> Base:
        header = self._chain.store.header_at(entry.base_height)
        if header is None:
            return Base(entry.base, entry.base_height, self._chain.genesis.time_ms, 0)
        return Base(entry.base, entry.base_height, header.time_ms, header.executed)

    def _reached(self, rotation: int) -> Final | None:
        final = self._chain.store.final
        if final.header is None or final.header.rotation != rotation:
            return None
        return Final(final.digest, final.header, tuple(self._chain.store.ids_at(final.height) or ()))

    def _nodes(self, number: int) -> tuple[bytes | None, ...]:
        """The nodes of a rotation's validators; empty if the state has no such rotation."""
        state = self._chain.state()
        entry = rotations.find(state, number)
        licences = [state.get(Table.LICENCE, seat.licence, Licence) for seat in entry.seats] if entry is not None else []
        return tuple(each.node if each is not None and each.status is LicenceStatus.ACTIVE else None for each in licences)

    def _mesh(self, place: Place) -> None:
        """Those of this rotation and the next are linked to each other; those of the last may still ask how it ended."""
        coming, before = set(self._nodes(place.rotation + 1)), set(self._nodes(place.rotation - 1))
        nodes = frozenset(node for node in coming | set(place.nodes) if node is not None)
        voters = nodes | {node for node in before if node is not None}
        self._ballots.nodes = place.nodes
        # Who has no seat may have one by blocks that are not here yet: what others then send is no lie.
        self._peers.mesh(nodes, voters - {self._key.id} if self._key.id in nodes else None)

    # -- a term -----------------------------------------------------------------------------------------------------------

    async def _open_term(self, place: Place) -> Term | None:
        if place.me is None:
            self.silent = ""
            return None
        final_view = 0 if place.reached is None else place.reached.header.view
        kept = [each for each in self._chain.store.kept(place.rotation, max(0, final_view - 1)) if _is_of_use(each, final_view)]
        voter = self.voter
        assert voter is not None, "who has a seat has a key"
        if is_unsure := not self._served or self._is_catching_up:
            await self._meet(place, voter)
        self._is_catching_up = is_unsure and self._is_behind(place)
        words = [] if self._meeting is None else [each for each in self._meeting.words if each.rotation == place.rotation]
        was, self.silent = self.silent, self._why_silent(place, [*kept, *words], voter)
        if self.silent and self.silent != was:
            self._log.warning("this validator does not vote", rotation=place.rotation, reason=self.silent)
        begun = self._begun(place, None if self.silent else place.me)
        self._served.add(place.rotation)
        duties = Duties(self._chain, self._ballots, voter, self._peers.steady_ms, self._lied, self.accusing.accuse)
        return Term(begun, kept, duties)

    def _why_silent(self, place: Place, known: Sequence[Proposal | Certificate | Vote], voter: Voter) -> str:
        """Whoever has forgotten, or may have, what it signed in this rotation, signs nothing more in it."""
        had, before = voter.had, self.term
        lost = forgotten(had, place.rotation, place.me or 0, known) if had.rotation <= place.rotation else None
        if lost is not None and self._sat_out != place.rotation:
            self._sat_out = place.rotation
            return f"it has signed a {lost.kind.name.lower()} of view {lost.view} that it does not remember"
        if self._is_catching_up and self._sat_out != place.rotation:
            return "others are ahead; it catches up first"
        if before is not None and before.twin and before.begun.rotation == place.rotation:
            self._sat_out = place.rotation
            return before.twin
        if self._sat_out == place.rotation:
            return self.silent
        if had.rotation > place.rotation:
            return f"it has voted in rotation {had.rotation} already, and the chain here is in {place.rotation}"
        if had.rotation < place.rotation and place.reached is not None and not self._served:
            self._sat_out = place.rotation
            return f"what it remembers is of rotation {had.rotation}, and {place.rotation} had begun before it was started"
        return ""

    async def _meet(self, place: Place, voter: Voter) -> None:
        """Wait for others, and for what they have of our votes."""
        assert place.me is not None, "who has no seat meets nobody"
        seats, view = place.entry.seats, 0 if place.reached is None else place.reached.header.view
        weights = {node: seat.weight for seat, node in zip(seats, place.nodes, strict=True) if node is not None and node != self._key.id}
        self._meeting = Meeting(self._ballots, voter.key, self._chain.genesis.chain, place.me)
        answer_s = ANSWER_DELTAS * self._chain.parameters.delta_ms / 1000
        ask = ConsensusAsk(place.rotation, view + 1, view, ())
        await self._meeting.hold(weights, seats[place.me].weight, ask, meet_s=MEET_S, answer_s=answer_s)

    def _is_behind(self, place: Place) -> bool:
        """Whether validators of more than a third of the weight said, when they were linked, that they are further."""
        height = self._chain.store.final.height + BEHIND_MAX
        ahead = [link for link in self._ballots.sessions() if link.height > height]
        peers = {session.peer for session in ahead}
        weight = sum(seat.weight for seat, node in zip(place.entry.seats, place.nodes, strict=True) if node in peers)
        return 3 * weight > sum(seat.weight for seat in place.entry.seats)

    def _begun(self, place: Place, me: int | None) -> RotationBegan:
        entry, parameters = place.entry, self._chain.parameters
        assert self.voter is not None
        return RotationBegan(
            self._chain.genesis.chain, place.rotation, tuple(seat.weight for seat in entry.seats), rotations.order(entry), place.base,
            entry.edge_ms, me, self.voter.had, delta_ms=parameters.delta_ms, interval_ms=parameters.interval_ms,
            idle_ms=parameters.idle_ms, reached=place.reached,
        )  # fmt: skip

    async def _run_term(self, term: Term, place: Place) -> None:
        chain, begun, voter = self._chain, term.begun, self.voter
        assert voter is not None

        def blocks() -> Blocks:
            return term.core.blocks

        verifying = Verifying(self._verifier, begun.chain, chain.vote_keys(begun.rotation), term.told)
        judging = Judging(chain, self._mempool, blocks, self._pull, self._clock_ms)
        building = None
        if begun.me is not None:
            licence = place.entry.seats[begun.me].licence
            building = Building(
                chain, self._mempool, voter.chains, begun, licence, blocks=blocks, now_ms=self._peers.steady_ms, clock_ms=self._clock_ms,
            )  # fmt: skip
        await term.run(verifying, judging, building)

    # -- sessions ---------------------------------------------------------------------------------------------------------

    def _hear(self, session: Session, messages: Sequence[ConsensusMessage]) -> None:
        """What a validator says. What is of the next rotation is kept for a moment: others are there a little sooner."""
        place = self.place
        if place is None:
            return
        for message in messages:
            is_early = rotation_of(message) == place.rotation + 1 and len(self._early) < EARLY_MAX
            if is_early and sum(peer == session.peer for peer, _ in self._early) < EARLY_PEER_MAX:
                self._early.append((session.peer, message))
        if self._meeting is not None:
            self._meeting.hear(session.peer, messages)
        if self.term is not None:
            self.term.hear(session.peer, messages)

    def _pass_on_early(self, term: Term) -> None:
        early, self._early = self._early, deque()
        for peer, message in early:
            if rotation_of(message) == term.begun.rotation:
                term.hear(peer, [message])

    def _lied(self, peer: bytes, why: str) -> None:
        link = self._peers.hub.link_to(peer)
        if link is not None:  # what becomes of a link that breaks becomes of it
            link.connection.close_soon("E-SIGNATURE", why)

    # -- transactions that are missing ------------------------------------------------------------------------------------

    async def _pull(self, ids: Sequence[bytes], proposer: int) -> Obtained:
        """From whoever made the block, then from other validators."""
        sessions = self._ballots.sessions()
        secrets.SystemRandom().shuffle(sessions)
        leader = self._ballots.nodes[proposer] if proposer < len(self._ballots.nodes) else None
        sessions.sort(key=lambda session: session.peer != leader)
        return await self._mempool.obtain(ids, sessions[:PULLED_FROM_MAX])

    async def _obtain(self, ids: Sequence[bytes]) -> None:
        """Of a final block, which a quorum has had: from whomever we are linked to."""
        links = list(self._peers.hub.links)
        secrets.SystemRandom().shuffle(links)
        found = await self._mempool.obtain(ids, links[:PULLED_FROM_MAX])
        try:
            await self._chain.keep(list(found.found.values()))
        except QuStreamError:
            return  # the store says so; it is asked for again


def _is_of_use(message: Proposal | Certificate, final_view: int) -> bool:
    """What is above the last final block, and the finalisation of that."""
    if isinstance(message, Proposal):
        return message.header.view > final_view
    return message.view > final_view or (message.view == final_view and message.kind is Kind.FINAL)
