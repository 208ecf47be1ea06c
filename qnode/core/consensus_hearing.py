"""Which messages are worth their verification (`proto/spec/consensus.md`, §6): everything else costs a look and nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qnode.core import consensus_limits as limits
from qnode.core.consensus_view import voters_of
from qustream.wire.consensus import NO_DIGEST, Certificate, ConsensusMessage, Kind, Proposal, Vote, header_digest

if TYPE_CHECKING:
    from qnode.core.consensus import Consensus

__all__ = ["key_of", "matters", "rotation_of", "view_of"]


def view_of(message: Proposal | Vote | Certificate) -> int:
    """The view a message is of."""
    return message.header.view if isinstance(message, Proposal) else message.view


def rotation_of(message: ConsensusMessage) -> int:
    """The rotation a message is of."""
    return message.header.rotation if isinstance(message, Proposal) else message.rotation


def key_of(message: Proposal | Vote | Certificate) -> tuple[object, ...]:
    """What is verified once at a time."""
    match message:
        case Proposal():
            return (Kind.PROPOSAL, header_digest(message.header), message.signature)
        case Vote():
            return (message.view, message.kind, message.digest, message.validator, message.signature)
        case Certificate():
            return (message.view, message.kind, message.digest, message.voters, message.signatures)


def matters(core: Consensus, message: Proposal | Vote | Certificate) -> bool:
    """Whether anything follows if its signatures hold."""
    number = view_of(message)
    if not max(1, core.final_view - limits.FINAL_VIEWS_KEPT + 1) <= number <= core.final_view + limits.VIEWS_MAX:
        return False
    match message:
        case Proposal():
            return _proposal_matters(core, message)
        case Vote():
            return _vote_matters(core, message)
        case Certificate():
            return _certificate_matters(core, message)


def _is_near(core: Consensus, number: int) -> bool:
    return number <= core.view + limits.AHEAD_MAX


def _vote_matters(core: Consensus, message: Vote) -> bool:
    if message.kind is Kind.PROPOSAL or message.validator >= len(core.begun.weights) or not _is_near(core, message.view):
        return False
    if (message.kind is Kind.SKIP) != (message.digest == NO_DIGEST):
        return False
    view = core.views.get(message.view)
    return view is None or view.matters(message.kind, message.digest, message.validator)


def _proposal_matters(core: Consensus, message: Proposal) -> bool:
    header, number = message.header, message.header.view
    if header.proposer != core.leader(number) or header.chain != core.begun.chain or len(message.ids) != header.count:
        return False
    view = core.views.get(number)
    if view is None:
        return _is_near(core, number)
    digest = header_digest(header)
    if digest in view.proposals:
        return False
    return digest in (view.notarised, view.final) or (_is_near(core, number) and len(view.proposals) < limits.DIGESTS_MAX)


def _certificate_matters(core: Consensus, message: Certificate) -> bool:
    voters, weights = voters_of(message), core.begun.weights
    if message.kind is Kind.PROPOSAL or (message.kind is Kind.SKIP) != (message.digest == NO_DIGEST):
        return False
    if not voters or voters[-1] >= len(weights) or len(voters) != len(message.signatures):
        return False
    if sum(weights[voter] for voter in voters) < core.quorum:
        return False
    view = core.views.get(message.view)
    return view is None or not view.has_certificate(message.kind, message.digest)
