"""Actions that somebody else than the sender has to sign as well: a node, a vote key, a user's master (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from qustream.identity.enrolment import state_hpke_key
from qustream.identity.signing import SigningKey
from qustream.identity.words import UserSecrets
from qustream.model.base import Signed
from qustream.wire.codec import encode
from qustream.wire.transactions import (
    Activate,
    ActivateStatement,
    AddDevice,
    DeviceStatement,
    MergeStatement,
    MergeUsers,
    RegisterUser,
    RegisterValidator,
    RevokeDevice,
    UserStatement,
    ValidatorStatement,
)

__all__ = [
    "CONSENT", "Binding", "VoteSigner", "activate", "agree_to_merge", "change_device", "entered", "merge_users", "register_user",
    "register_validator",
]  # fmt: skip

CONSENT = "user-consent"


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a statement holds: on one chain, for one owner, and once, with the transaction of this nonce."""

    chain: str
    owner: bytes
    nonce: int


class VoteSigner(Protocol):
    """A vote key (`qustream.identity.voting`)."""

    @property
    def public(self) -> bytes: ...

    def sign_registration(self, statement: ValidatorStatement) -> bytes: ...


def activate(binding: Binding, licence: bytes, node: SigningKey, *, payee: bytes, addresses: Sequence[str]) -> Activate:
    """Bind a licence to `node`, which is paid at `payee`."""
    statement = ActivateStatement(binding.chain, licence, binding.owner, payee, binding.nonce)
    return Activate(licence, node.public, payee, tuple(addresses), node.sign("activate", encode(statement)))


def register_validator(
    binding: Binding, licence: bytes, node: SigningKey, vote: VoteSigner, *, anchor: bytes, links: int, commission_bp: int
) -> RegisterValidator:
    """Let a licence vote: node key and vote key say that they are each other's."""
    statement = ValidatorStatement(binding.chain, licence, binding.owner, vote.public, anchor, links, binding.nonce)
    by_node, by_vote = node.sign("validator", encode(statement)), vote.sign_registration(statement)
    return RegisterValidator(licence, node.public, vote.public, anchor, links, commission_bp, by_node, by_vote)


def register_user(chain: str, user: UserSecrets, devices: Sequence[bytes]) -> RegisterUser:
    """Enter a user with these devices (ids)."""
    return entered(chain, user.master, state_hpke_key(user.master, user.hpke.public), devices)


def entered(chain: str, master: SigningKey, hpke: Signed, devices: Sequence[bytes]) -> RegisterUser:
    """Likewise, with the statement of the HPKE key that is there already."""
    listed = tuple(sorted(devices))
    statement = UserStatement(chain, master.id, hpke, listed)
    return RegisterUser(master.public, hpke, listed, master.sign(CONSENT, encode(statement)))


def change_device(chain: str, master: SigningKey, device: bytes, sequence: int, *, revoked: bool) -> AddDevice | RevokeDevice:
    """Add or revoke one device. `sequence`: the user's next."""
    statement = DeviceStatement(chain, master.id, device, sequence, revoked)
    kind = RevokeDevice if revoked else AddDevice
    return kind(master.public, device, sequence, master.sign(CONSENT, encode(statement)))


def agree_to_merge(chain: str, master: SigningKey, user: bytes, into: bytes) -> bytes:
    """The consent of either of two users, `master`'s, to making `user` an alias of `into`."""
    return master.sign(CONSENT, encode(MergeStatement(chain, user, into)))


def merge_users(chain: str, master: SigningKey, into: SigningKey) -> MergeUsers:
    """Make the user of `master` an alias of the user of `into`."""
    first, second = (agree_to_merge(chain, each, master.id, into.id) for each in (master, into))
    return MergeUsers(master.public, into.public, first, second)
