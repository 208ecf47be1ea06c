"""Every signature in a transaction, as data: who has to have signed what (`proto/spec/ledger.md`, §3). Checking them is somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from qustream.model.base import Noun
from qustream.model.keys import PublicKey
from qustream.wire.codec import encode
from qustream.wire.transactions import (
    Activate,
    ActivateStatement,
    AddDevice,
    Body,
    DeviceStatement,
    DoubleSign,
    MergeStatement,
    MergeUsers,
    RegisterUser,
    RegisterValidator,
    RevokeDevice,
    Transaction,
    UserStatement,
    ValidatorStatement,
)

__all__ = ["Claim", "claims"]

VOTE_CONTEXT, VALIDATOR_CONTEXT = b"qustream/1/vote", b"qustream/1/validator"


class Claim(msgspec.Struct, frozen=True):
    """A signature that must hold. `hybrid`: under the key `public`, with the short name of a purpose as `purpose`; `vote`: ML-DSA-44
    under the raw vote key `public`, with the whole context string as `purpose`."""

    kind: Literal["hybrid", "vote"]
    public: PublicKey | bytes
    purpose: str | bytes
    message: bytes
    signature: bytes


def claims(transaction: Transaction, body: Body, sender: PublicKey) -> list[Claim]:
    """The sender's first. `sender`: the key whose account `body.sender` is; whoever calls has looked at that."""
    return [Claim("hybrid", sender, "transaction", transaction.body, transaction.signature), *_of_action(body)]


def _of_action(body: Body) -> Iterator[Claim]:
    """As many as the action's rule has `signatures`."""
    chain, action = body.chain, body.action
    match action:
        case Activate():
            bound = ActivateStatement(chain, action.licence, body.sender, action.payee, body.nonce)
            yield _hybrid(action.node, "activate", bound, action.node_proof)
        case RegisterValidator():
            stated = ValidatorStatement(chain, action.licence, body.sender, action.vote_key, action.anchor, action.links, body.nonce)
            yield _hybrid(action.node, "validator", stated, action.node_proof)
            yield Claim("vote", action.vote_key, VALIDATOR_CONTEXT, encode(stated), action.vote_proof)
        case RegisterUser():
            consent = UserStatement(chain, action.master.id, action.hpke, action.devices)
            yield _hybrid(action.master, "user-consent", consent, action.consent)
            yield Claim("hybrid", action.master, "hpke-key", action.hpke.body, action.hpke.signature)
        case AddDevice() | RevokeDevice():
            revoked = isinstance(action, RevokeDevice)
            change = DeviceStatement(chain, action.master.id, action.device, action.sequence, revoked)
            yield _hybrid(action.master, "user-consent", change, action.consent)
        case MergeUsers():
            merged = MergeStatement(chain, action.master.id, action.into.id)
            yield _hybrid(action.master, "user-consent", merged, action.consent)
            yield _hybrid(action.into, "user-consent", merged, action.into_consent)
        case DoubleSign():
            yield Claim("vote", action.vote_key, VOTE_CONTEXT, encode(action.first), action.first_signature)
            yield Claim("vote", action.vote_key, VOTE_CONTEXT, encode(action.second), action.second_signature)
        case _:
            pass


def _hybrid(public: PublicKey, purpose: str, statement: Noun, signature: bytes) -> Claim:
    return Claim("hybrid", public, purpose, encode(statement), signature)
