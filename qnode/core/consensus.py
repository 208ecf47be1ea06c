"""Consensus: one rotation of Simplex, as one validator (or somebody who looks on) sees it (`proto/spec/consensus.md`).

`step(state, event, now_ms) -> effects`. Theory of operation. What is heard is looked at (§6: does it matter?), verified by somebody else,
and put into its view. Then everything that has become possible is done, in `_advance`, until nothing more is: certificates form (C6),
views are left (C1), blocks become final (C7), the current view's block is voted for (C3) or built (C2). Each of these is a question about
what is known, so nothing depends on the order in which messages came.

Signing is asked for after `Persist`, and what is signed is said when `Signed` comes. Nothing here holds a key or checks a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from qnode.core import consensus_events as events
from qnode.core import consensus_limits as limits
from qnode.core.consensus_blocks import Block, Blocks
from qnode.core.consensus_catchup import Catchup
from qnode.core.consensus_chain import parent_for, stands
from qnode.core.consensus_events import Base, Effect, Event, OwnVotes, RotationBegan, SignState
from qnode.core.consensus_hearing import key_of, matters, rotation_of, view_of
from qnode.core.consensus_view import View, certificate, voters_of
from qustream.rules.rotation import quorum
from qustream.wire.consensus import NO_DIGEST, Certificate, ConsensusAsk, Kind, Proposal, Statement, Vote, header_digest

__all__ = ["Consensus", "step"]

# Later than any clock.
_NEVER_MS = 1 << 62


class Consensus:
    """The state of one node's consensus. Use `step`; what has no underscore is for displays, tests and the other modules of the core.

    `begun`: the rotation that runs; `view`: the current view, 0 before the first rotation and between two; `final_view`: the view of the
    last final block of this rotation, 0 for its base; `views`, `blocks`: what is known; `orphans`: blocks whose parent is not here;
    `quorum`: what decides."""

    begun: RotationBegan
    quorum: int
    final_view: int
    views: dict[int, View]
    blocks: Blocks
    orphans: dict[bytes, Proposal]

    def __init__(self) -> None:
        self.view = 0
        self._out: list[Effect] = []
        self._is_news = False  # whether the last event can have made anything possible: a vote that decides nothing does not
        self._wake_ms = _NEVER_MS

    # --- beginning

    def rotation_began(self, event: RotationBegan, now_ms: int) -> None:
        """C1: view 1 begins with the rotation; after a restart we are behind what is final, and certificates lead on from there."""
        self.begun, self.quorum = event, quorum(event.weights)
        self.blocks = Blocks(event.base, event.edge_ms, event.reached)
        is_same = event.had.rotation == event.rotation
        self._had: Mapping[int, OwnVotes] = event.had.votes if is_same else {}
        self._floor = event.had.final_view if is_same else 0  # below it nothing is signed any more: what was is not remembered
        self.views = {}
        self._verifying: set[tuple[object, ...]] = set()
        self.orphans = {}
        self.final_view = self.blocks.last_final.view
        self._built: dict[bytes, events.BlockBuilt] = {}
        self._catchup = Catchup(len(event.weights), event.me)
        self._wake_ms = _NEVER_MS
        self._enter(self.final_view + 1, pause_ms=0, now_ms=now_ms)
        self._went_on(now_ms)
        self._advance(now_ms)

    @property
    def sizes(self) -> dict[str, int]:
        """How much of everything bounded there is."""
        return {
            "views": len(self.views), "blocks": len(self.blocks), "verifying": len(self._verifying), "orphans": len(self.orphans),
        }  # fmt: skip

    def leader(self, view: int) -> int:
        """The validator who leads this view."""
        leads = self.begun.leads
        return leads[(view - 1) % len(leads)]

    def _view(self, number: int) -> View:
        """The view of this number, made if it is new."""
        view = self.views.get(number)
        if view is None:
            view = self.views[number] = View(number, self._had.get(number, OwnVotes(skipped=not self.may_sign(number))))
        return view

    def may_sign(self, number: int) -> bool:
        """Whether all that we signed in this view is remembered."""
        return number >= self._floor

    # --- hearing (§6)

    def heard(self, event: events.Heard, now_ms: int) -> None:
        message = event.message
        rotation = rotation_of(message)
        if rotation > self.begun.rotation:
            self._out += self._catchup.overtaken(event.peer, self, now_ms)
        elif isinstance(message, ConsensusAsk):
            self._out += self._catchup.answer(event.peer, message, self, now_ms)
        elif rotation < self.begun.rotation:
            return
        elif len(self._verifying) < limits.VERIFYING_MAX and matters(self, message):
            key = key_of(message)
            if key not in self._verifying:
                self._verifying.add(key)
                self._out.append(events.Verify(message))

    def verified(self, event: events.Verified, now_ms: int) -> None:
        """What somebody signed is known to be his."""
        message = event.message
        self._verifying.discard(key_of(message))
        if not event.good or rotation_of(message) != self.begun.rotation:
            return
        match message:
            case Proposal():
                self._take_proposal(message)
                self._is_behind(message.header.view, now_ms)
            case Vote():
                self._take_vote(self._view(message.view), message.kind, message.digest, (message.validator, message.signature))
                self._is_behind(message.view, now_ms)
            case Certificate():
                view = self._view(message.view)
                for voter, signature in zip(voters_of(message), message.signatures, strict=True):
                    self._take_vote(view, message.kind, message.digest, (voter, signature))
                self._certify(view, message)
        if self._is_news:
            self._advance(now_ms)

    def _is_behind(self, number: int, now_ms: int) -> None:
        if number > self.view and self._catchup.behind(now_ms):
            self._plan(now_ms)

    def _take_proposal(self, message: Proposal) -> None:
        header = message.header
        view, digest = self._view(header.view), header_digest(header)
        for other, earlier in view.proposals.items():
            if other != digest:
                first = (self._statement(header.view, Kind.PROPOSAL, other), earlier.signature)
                second = (self._statement(header.view, Kind.PROPOSAL, digest), message.signature)
                self._out.append(events.Accuse(header.proposer, first, second))
        if digest in view.proposals or (len(view.proposals) >= limits.DIGESTS_MAX and digest not in (view.notarised, view.final)):
            return
        view.proposals[digest] = message
        self._is_news = True
        self._out.append(events.Keep(message))
        self._attach(digest, message)

    def _attach(self, digest: bytes, message: Proposal) -> None:
        """Put a block where it belongs, and those that waited for it."""
        due = [(digest, message)]
        while due:
            digest, message = due.pop()
            if view_of(message) <= self.final_view:
                continue
            if self.blocks.add(digest, message.header, message.ids) is None:
                self.orphans[digest] = message
                continue
            self.orphans.pop(digest, None)
            due += [(child, each) for child, each in self.orphans.items() if each.header.parent == digest]

    def _take_vote(self, view: View, kind: Kind, digest: bytes, vote: tuple[int, bytes]) -> None:
        for other_kind, other_digest, other_signature in view.add(kind, digest, vote, self.begun.weights[vote[0]]):
            first = (self._statement(view.number, other_kind, other_digest), other_signature)
            self._out.append(events.Accuse(vote[0], first, (self._statement(view.number, kind, digest), vote[1])))
        if view.weights.get((kind, digest), 0) >= self.quorum and not view.has_certificate(kind, digest):
            votes = list(view.votes[kind, digest].items())
            self._certify(view, certificate(self.begun.rotation, view.number, kind, digest, votes))

    def _certify(self, view: View, message: Certificate) -> None:
        """C6."""
        if view.has_certificate(message.kind, message.digest):
            return
        view.certify(message.kind, message.digest)
        self._is_news = True
        self._out.append(events.Keep(message))

    # --- what has become possible

    def _advance(self, now_ms: int) -> None:
        self._is_news = False
        while self.view:
            if not (self._leave(now_ms) or self._finish(now_ms)):
                break
        if not self.view:
            return
        self._finals()
        self._propose(now_ms)
        self._notarise()
        self._out += self._catchup.pull(self, now_ms)
        self._plan(now_ms)

    def _leave(self, now_ms: int) -> bool:
        """C1: out of the current view, by the certificate of the highest view there is."""
        best = max((view for view in self.views.values() if view.notarised or view.skipped), key=lambda view: view.number, default=None)
        if best is None or best.number < self.view or best.number - self.final_view > limits.VIEWS_MAX:
            return False
        if best.skipped and not best.notarised:
            pause_ms = 0
        else:
            block = self.blocks.get(best.notarised)
            is_empty = block is None or not block.ids
            pause_ms = self.begun.idle_ms if is_empty else self.begun.interval_ms
        self._enter(best.number + 1, pause_ms=pause_ms, now_ms=now_ms)
        return True

    def _enter(self, number: int, *, pause_ms: int, now_ms: int) -> None:
        self.view, self._entered_ms, self._pause_ms = number, now_ms, pause_ms
        self._build_asked = False
        self._catchup.entered(now_ms)
        slow = self._slowness(number)
        self._proposal_due_ms = now_ms + pause_ms + min(limits.TIMER_MAX_MS, limits.PROPOSAL_DELTAS * slow)
        self._notarisation_due_ms = now_ms + pause_ms + min(limits.TIMER_MAX_MS, limits.NOTARISATION_DELTAS * slow)

    def _slowness(self, number: int) -> int:
        """Δ, a fifth longer for each view since the last final one."""
        slow = self.begun.delta_ms
        for _ in range(number - 1 - self.final_view):
            slow = slow * limits.GROWTH_NUMERATOR // limits.GROWTH_DENOMINATOR
            if slow >= limits.TIMER_MAX_MS:
                break
        return slow

    def _went_on(self, now_ms: int) -> None:
        """The next block should be final a pause and a view from now."""
        self._catchup.went_on(now_ms + self.begun.idle_ms + limits.NOTARISATION_DELTAS * self.begun.delta_ms)

    def _finish(self, now_ms: int) -> bool:
        """C7."""
        found = sorted((view.number for view in self.views.values() if view.final and view.number > self.final_view), reverse=True)
        chains = ((number, self.blocks.chain_to(self.views[number].final)) for number in found)
        number, chain = next(((number, chain) for number, chain in chains if not isinstance(chain, bytes)), (0, ()))
        if not chain:
            return False
        self.final_view = number
        self._went_on(now_ms)
        self._out.append(events.Finalise(self.blocks.finalise(chain), number))
        for old in [old for old in self.views if old <= number - limits.FINAL_VIEWS_KEPT]:
            del self.views[old]
        self.orphans = {digest: each for digest, each in self.orphans.items() if view_of(each) > number}
        if self.blocks.last_final.is_over:
            self._end(chain)
        return True

    def _end(self, chain: Sequence[Block]) -> None:
        boundary = next(block for block in chain if block.is_over)
        self.view = 0
        base = Base(boundary.digest, boundary.height, boundary.time_ms, boundary.executed)
        self._out.append(events.RotationOver(base, self.final_view, self.views[self.final_view].final))

    def _finals(self) -> None:
        """C4."""
        for view in self.views.values():
            own = view.own
            is_ours = view.notarised and own.notarised == view.notarised
            if view.number >= self.final_view and is_ours and not own.skipped and not own.finalised:
                self._sign(view, replace(own, finalised=view.notarised), Kind.FINAL, view.notarised)

    def _notarise(self) -> None:
        """C3."""
        view = self._view(self.view)
        if self.begun.me is None or view.own.notarised or view.own.skipped:
            return
        for digest, proposal in view.proposals.items():
            header = proposal.header
            parent = self.blocks.get(header.parent)
            if parent is None or not stands(self, header) or not self.blocks.fits(header, parent):
                continue
            if view.is_judged.get(digest):
                self._sign(view, replace(view.own, notarised=digest), Kind.NOTAR, digest)
                return
            if digest not in view.is_judged and digest not in view.judging:
                view.judging.add(digest)
                self._out.append(events.Judge(digest, header, proposal.ids))

    def _propose(self, now_ms: int) -> None:
        """C2."""
        number = self.view
        own = self._view(number).own
        if self.leader(number) != self.begun.me or own.proposed or own.skipped or self._build_asked:
            return
        parent = parent_for(self, number)
        if isinstance(parent, int):
            return
        self._build_asked = True
        until_ms = self._entered_ms + self._pause_ms
        from_ms = min(until_ms, max(now_ms, parent.time_ms + self.begun.interval_ms))
        height = parent.height + (0 if parent.is_over else 1)
        self._out.append(events.Build(number, parent.digest, parent.view, height, from_ms, until_ms, parent.is_over))

    def block_built(self, event: events.BlockBuilt, now_ms: int) -> None:
        header = event.header
        if not self.view or header.rotation != self.begun.rotation or header.view != self.view:
            return
        view = self._view(self.view)
        if view.own.proposed or view.own.skipped:
            return
        digest = header_digest(header)
        self._built[digest] = event
        self._sign(view, replace(view.own, proposed=digest), Kind.PROPOSAL, digest)
        self._plan(now_ms)

    def judged(self, event: events.Judged, now_ms: int) -> None:
        for view in self.views.values():
            if event.digest in view.judging:
                view.judging.discard(event.digest)
                view.is_judged[event.digest] = event.valid
        self._advance(now_ms)

    # --- signing

    def _statement(self, view: int, kind: Kind, digest: bytes) -> Statement:
        return Statement(self.begun.chain, self.begun.rotation, view, kind, digest)

    def _sign(self, view: View, own: OwnVotes, kind: Kind, digest: bytes) -> None:
        view.own = own
        self._out.append(events.Persist(self.sign_state()))
        self._out.append(events.Sign(self._statement(view.number, kind, digest)))

    def sign_state(self) -> SignState:
        """What must not be forgotten."""
        votes = {number: own for number, own in self._had.items() if number >= self.final_view and number not in self.views}
        votes |= {view.number: view.own for view in self.views.values() if view.own != OwnVotes() and view.number >= self.final_view}
        floor = max(self._floor, self.final_view)
        return SignState(self.begun.rotation, floor, {number: own for number, own in votes.items() if number >= floor})

    def signed(self, event: events.Signed, now_ms: int) -> None:
        """Say it, and count it."""
        statement, me = event.statement, self.begun.me
        if statement.rotation != self.begun.rotation or me is None or not self.view:
            return
        if statement.kind is Kind.PROPOSAL:
            built = self._built.pop(statement.digest, None)
            if built is None:
                return
            proposal = Proposal(built.header, built.ids, event.signature)
            self._out.append(events.Broadcast(proposal))
            self._take_proposal(proposal)
        else:
            vote = Vote(statement.rotation, statement.view, statement.kind, statement.digest, me, event.signature)
            self._out.append(events.Broadcast(vote))
            self._take_vote(self._view(statement.view), vote.kind, vote.digest, (me, vote.signature))
        if self._is_news:
            self._advance(now_ms)

    # --- time

    def ticked(self, event: events.Ticked, now_ms: int) -> None:
        if now_ms >= self._wake_ms:  # else it is one that was overtaken by an earlier: the next is planned already
            self._wake_ms = _NEVER_MS
        self._time_out(now_ms)
        self._out += self._catchup.beat(self, event.draw, now_ms)
        self._advance(now_ms)

    def _time_out(self, now_ms: int) -> None:
        """C5."""
        view = self._view(self.view)
        late = now_ms >= self._notarisation_due_ms or (now_ms >= self._proposal_due_ms and not view.proposals)
        if late and self.begun.me is not None and not view.own.skipped and not view.own.finalised:
            self._sign(view, replace(view.own, skipped=True), Kind.SKIP, NO_DIGEST)

    def _plan(self, now_ms: int) -> None:
        dues = (self._proposal_due_ms, self._notarisation_due_ms, self._catchup.due_ms)
        at_ms = min((due for due in dues if due > now_ms), default=_NEVER_MS)
        if at_ms < self._wake_ms:
            self._wake_ms = at_ms
            self._out.append(events.Wake(at_ms))

    def take_effects(self) -> list[Effect]:
        """The effects of the last event, in order."""
        out, self._out = self._out, []
        return out


_HANDLERS: dict[type, Callable[..., None]] = {
    RotationBegan: Consensus.rotation_began,
    events.Heard: Consensus.heard,
    events.Verified: Consensus.verified,
    events.Judged: Consensus.judged,
    events.BlockBuilt: Consensus.block_built,
    events.Signed: Consensus.signed,
    events.Ticked: Consensus.ticked,
}


def step(state: Consensus, event: Event, now_ms: int) -> list[Effect]:
    """Take an event; return what it leads to, in order. Between two rotations all but `RotationBegan` is ignored."""
    if not state.view and not isinstance(event, RotationBegan):
        return []
    _HANDLERS[type(event)](state, event, now_ms)
    return state.take_effects()
