"""Saying again what may have been lost, and pulling what is missing (`proto/spec/consensus.md`, §6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qnode.core import consensus_limits as limits
from qnode.core.consensus_chain import is_skipped, parent_for, wanted_blocks
from qnode.core.consensus_events import Broadcast, Effect, OwnVotes, SendEnd, SendKept, SendTo, Sign
from qnode.core.consensus_view import View
from qustream.wire.consensus import NO_DIGEST, WANTS_MAX, ConsensusAsk, Kind, Statement, Vote, Want

if TYPE_CHECKING:
    from qnode.core.consensus import Consensus

__all__ = ["Catchup", "words_of"]

# Later than any clock.
_NEVER_MS = 1 << 62


class Catchup:
    """When what is said again. `due_ms`: when to be asked next."""

    def __init__(self, validators: int, me: int | None) -> None:
        self.due_ms = 0
        self._validators, self._me = validators, me
        self._stuck_ms = 0
        self._pause_ms = limits.RESEND_MS
        self._pulled_ms = -limits.DELTA_MS
        self._behind_ms = _NEVER_MS  # when to ask those who are in a later view
        self._overtaken_ms = 0  # when to ask, again, somebody who says that it is in a later view or rotation
        self._tell_ms = _NEVER_MS  # when to tell the leader which view this is, if it seems not to know
        self._answered_ms: dict[bytes, int] = {}

    def went_on(self, next_ms: int) -> None:
        """Something became final; by `next_ms` the next should be."""
        self._pause_ms = limits.RESEND_MS
        self._stuck_ms = next_ms + limits.RESEND_MS
        self.due_ms = min(self._stuck_ms, self._behind_ms, self._tell_ms)

    def behind(self, now_ms: int) -> bool:
        """Somebody has voted in a later view, so he has a certificate that we have not; if it does not come by itself, we ask him for it.
        Whether that was not known yet."""
        if self._behind_ms != _NEVER_MS:
            return False
        self._behind_ms = now_ms + limits.DELTA_MS
        self.due_ms = min(self.due_ms, self._behind_ms)
        return True

    def entered(self, now_ms: int) -> None:
        """A view has begun."""
        self._tell_ms = now_ms + limits.DELTA_MS
        self.due_ms = min(self.due_ms, self._tell_ms)

    def overtaken(self, peer: bytes, core: Consensus, now_ms: int) -> list[Effect]:
        """This peer speaks of a later view or rotation, so it knows how ours ended, if it speaks the truth: to ask costs nothing."""
        if now_ms < self._overtaken_ms:
            return []
        self._overtaken_ms = now_ms + limits.DELTA_MS
        return [SendTo(peer, _ask(core, list(wanted(core))[:WANTS_MAX]))]

    def pull(self, core: Consensus, now_ms: int) -> list[Effect]:
        """Ask the leader, who must have it, for what keeps us from voting for his block, or from knowing what is final."""
        wants = list(wanted(core))[:WANTS_MAX]
        if not wants or now_ms < self._pulled_ms + limits.DELTA_MS:
            return []
        self._pulled_ms = now_ms
        self.due_ms = min(self.due_ms, now_ms + limits.DELTA_MS)
        leader = core.leader(core.view)
        return [SendTo(leader, _ask(core, wants))] if leader != self._me else []

    def beat(self, core: Consensus, draw: int, now_ms: int) -> list[Effect]:
        """Time has passed."""
        if now_ms < self.due_ms:
            return []
        wants = list(wanted(core))[:WANTS_MAX]
        out: list[Effect] = []
        asked: list[int] = []
        if now_ms >= self._stuck_ms:
            out += said_again(core)
            self._stuck_ms = now_ms + self._pause_ms
            self._pause_ms = min(limits.RESEND_MAX_MS, self._pause_ms * 3 // 2)
            asked += _drawn(range(self._validators), draw)
        elif wants:
            asked += _drawn(range(self._validators), draw)
        if now_ms >= self._behind_ms:
            ahead = voters_ahead(core)
            asked += _drawn(ahead, draw)
            self._behind_ms = now_ms + limits.DELTA_MS if ahead else _NEVER_MS
        if now_ms >= self._tell_ms:
            self._tell_ms = _NEVER_MS
            view = core.views.get(core.view)
            asked += [core.leader(core.view)] if self._me is not None and (view is None or not view.proposals) else []
        out += [SendTo(other, _ask(core, wants)) for other in dict.fromkeys(asked) if other != self._me]
        self.due_ms = min(self._stuck_ms, self._behind_ms, self._tell_ms, now_ms + limits.DELTA_MS if wants else _NEVER_MS)
        return out

    def answer(self, peer: bytes, ask: ConsensusAsk, core: Consensus, now_ms: int) -> list[Effect]:
        """What we have of it. An answer a second and peer."""
        if ask.rotation == core.begun.rotation and ask.view > core.view:
            return self.overtaken(peer, core, now_ms)
        if now_ms - self._answered_ms.get(peer, -limits.ANSWER_MS) < limits.ANSWER_MS:
            return []
        if len(self._answered_ms) >= limits.QUESTIONS_MAX:
            self._answered_ms.pop(next(iter(self._answered_ms)))
        self._answered_ms[peer] = now_ms
        out: list[Effect] = []
        rotation = core.begun.rotation
        if ask.rotation < rotation:
            return _answer_late(peer, ask)
        final = core.views.get(core.final_view)
        if ask.final_view < core.final_view and final is not None and final.final:
            out.append(SendKept(peer, rotation, core.final_view, Kind.FINAL, final.final))
        last = core.views.get(core.view - 1)
        if ask.view < core.view and last is not None:
            kind = Kind.NOTAR if last.notarised else Kind.SKIP
            out.append(SendKept(peer, rotation, last.number, kind, last.certified(kind)))
        for want in ask.wants:
            view = core.views.get(want.view)
            if want.kind is Kind.PROPOSAL:
                out.append(SendKept(peer, rotation, want.view, Kind.PROPOSAL, want.digest))
            elif view is not None and (digest := view.certified(want.kind)):
                out.append(SendKept(peer, rotation, want.view, want.kind, digest))
        return list(dict.fromkeys(out))


def words_of(core: Consensus, validator: int) -> list[Vote]:
    """What this validator has said, as far as we have it, the newest views first: so that who was given an old memory learns of it before
    he votes."""
    out: list[Vote] = []
    for number in sorted(core.views, reverse=True):
        for (kind, digest), votes in core.views[number].votes.items():
            if validator in votes and len(out) < limits.REMINDED_MAX:
                out.append(Vote(core.begun.rotation, number, kind, digest, validator, votes[validator]))
    return out


def _drawn(numbers: Sequence[int], draw: int) -> list[int]:
    """A few of them."""
    return [numbers[(draw + turn * (draw >> 32 | 1)) % len(numbers)] for turn in range(min(limits.ASKED_AT_ONCE, len(numbers)))]


def voters_ahead(core: Consensus) -> list[int]:
    """Who has voted in a view after the current one, or proposed a block."""
    later = [view for view in core.views.values() if view.number > core.view]
    leaders = {core.leader(view.number) for view in later if view.proposals}
    return sorted(leaders | {voter for view in later for votes in view.votes.values() for voter in votes})


def _answer_late(peer: bytes, ask: ConsensusAsk) -> list[Effect]:
    """Somebody is still in an earlier rotation: how it ended, and blocks of it."""
    blocks = [SendKept(peer, ask.rotation, want.view, want.kind, want.digest) for want in ask.wants if want.kind is Kind.PROPOSAL]
    return [SendEnd(peer, ask.rotation), *blocks]


def _ask(core: Consensus, wants: list[Want]) -> ConsensusAsk:
    return ConsensusAsk(core.begun.rotation, core.view, core.final_view, tuple(wants))


def wanted(core: Consensus) -> Iterator[Want]:
    """What is missing for the current view's block, or for blocks that are final or notarised."""
    for number, digest in wanted_blocks(core):
        yield Want(number, Kind.PROPOSAL, digest)
    view = core.views.get(core.view)
    for proposal in list(view.proposals.values()) if view is not None else ():
        header = proposal.header
        below = core.views.get(header.parent_view)
        if header.parent_view > core.final_view and (below is None or below.notarised != header.parent):
            yield Want(header.parent_view, Kind.NOTAR, NO_DIGEST)
        yield from _skips(core, header.parent_view, header.view)
    if core.leader(core.view) == core.begun.me:
        parent = parent_for(core, core.view)
        if isinstance(parent, int):
            yield Want(parent, Kind.NOTAR, NO_DIGEST)
            yield Want(parent, Kind.SKIP, NO_DIGEST)


def _skips(core: Consensus, below: int, above: int) -> Iterator[Want]:
    for number in range(max(below, core.final_view) + 1, above):
        if not is_skipped(core, number):
            yield Want(number, Kind.SKIP, NO_DIGEST)


def said_again(core: Consensus) -> Iterator[Effect]:
    """Our own votes above the last final view, and our proposal of the current one. What was signed before a restart is signed again: the
    same statement is no second one."""
    me = core.begun.me
    if me is None:
        return
    numbers = sorted(number for number in core.views if number > core.final_view)[-limits.RESEND_VIEWS_MAX :]
    for number in numbers:
        view = core.views[number]
        for kind, digest in _own(view.own):
            if not core.may_sign(number):
                continue
            signature = view.votes.get((kind, digest), {}).get(me)
            if signature is None:
                yield Sign(Statement(core.begun.chain, core.begun.rotation, number, kind, digest))
            else:
                yield Broadcast(Vote(core.begun.rotation, number, kind, digest, me, signature))
    yield from _proposals(core.views.get(core.view), me, core)


def _own(own: OwnVotes) -> Iterator[tuple[Kind, bytes]]:
    if own.notarised:
        yield Kind.NOTAR, own.notarised
    if own.skipped:
        yield Kind.SKIP, NO_DIGEST
    if own.finalised:
        yield Kind.FINAL, own.finalised


def _proposals(view: View | None, me: int, core: Consensus) -> Iterator[Effect]:
    if view is not None and core.leader(view.number) == me and view.own.proposed in view.proposals:
        yield Broadcast(view.proposals[view.own.proposed])
