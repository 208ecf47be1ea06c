"""What the chain says of this node's duty as a validator, and what its operator should look at (`proto/spec/node.md`, "Chain")."""

from __future__ import annotations

from dataclasses import dataclass

from qnode.api.chain_status import VotingStatus
from qnode.api.spans import span_text
from qnode.api.status import Condition, condition
from qnode.core.ledger.state import State
from qnode.core.ledger.suspensions import HISTORY_VIEWS
from qustream.model.ids import licence_text
from qustream.model.state import Licence, LicenceStatus, NodeEntry, Table, Validator, VoteKeyEntry

__all__ = ["REVEALS_LOW", "Duty", "duty_conditions", "duty_of"]

# At a hundredth of the views these are eleven days, and half a day where four lead by turns. A new chain takes one command and a restart.
REVEALS_LOW = 10_000
_PUNISHED = (LicenceStatus.REMOVED, LicenceStatus.BANNED)


@dataclass(frozen=True, slots=True)
class Duty:
    """The licence that votes, or may, with this node, and its validator entry; None without."""

    name: bytes = b""
    licence: Licence | None = None
    validator: Validator | None = None

    def state(self, vote_key: bytes, *, seated: bool) -> str:
        """One of `DUTIES`, for a node that holds this vote key."""
        if self.validator is None:
            return "none"
        if self.validator.vote_key != vote_key:
            return "other-key"
        if self.validator.leaves_ms:
            return "leaves"
        return "votes" if seated else "waits"

    def status(self, vote_key: bytes, *, seat: int, silent: str, signed: int, leads: bool) -> VotingStatus:
        """For the status; `leads`: with that seat."""
        found, duty = self.validator, self.state(vote_key, seated=seat >= 0)
        if found is None:
            return VotingStatus(seat, silent, signed, 0, 0, False, duty)
        slashed = self.licence is not None and (self.licence.status in _PUNISHED or self.licence.top_up_by_ms > 0)
        missed = (found.history & (1 << HISTORY_VIEWS) - 1).bit_count()
        return VotingStatus(
            seat, silent, signed, missed, found.led, found.suspended_until_ms > 0, duty, licence_text(self.name), found.commission_bp,
            found.links, found.suspended_until_ms, slashed, self.licence.top_up_by_ms if self.licence is not None else 0, leads,
        )  # fmt: skip


def duty_of(state: State, node: bytes, vote_key: bytes) -> Duty:
    """By the executed state, of whoever this vote key is registered for; if for nobody, of the node with this id. A slashed validator's
    licence has no node any more."""
    entry = state.get(Table.VOTE_KEY, vote_key, VoteKeyEntry) or state.get(Table.NODE, node, NodeEntry)
    if entry is None:
        return Duty()
    name = entry.licence
    return Duty(name, state.get(Table.LICENCE, name, Licence), state.get(Table.VALIDATOR, name, Validator))


def duty_conditions(voting: VotingStatus, now_ms: int) -> list[Condition]:
    """What costs a validator money, or soon will; none of it stops the node."""
    found: list[Condition] = []
    name = voting.licence
    if voting.duty == "other-key":
        found.append(condition("E-VOTE-KEY", f"licence {name} is registered with another vote key than that of vote_keystore"))
    if voting.suspended_until_ms:
        over = voting.suspended_until_ms <= now_ms
        when = "its suspension is over" if over else f"suspended for {span_text(voting.suspended_until_ms - now_ms)} more"
        found.append(condition("E-VOTE-SUSPENDED", f"{when}; then qnode validator unsuspend {name} lets it lead again"))
    if voting.slashed:
        left = span_text(max(0, voting.top_up_by_ms - now_ms))
        top_up = f"; without qnode stake top-up its stake is taken off in {left}" if voting.top_up_by_ms else ""
        found.append(condition("E-SLASHED", f"licence {name}: see qnode licence show{top_up}"))
    if voting.duty in ("waits", "votes") and voting.links < REVEALS_LOW:
        found.append(condition("E-VOTE-REVEALS", f"{voting.links} reveals are left; without any its blocks are not valid"))
    return found
