"""Transactions, and what each asks the chain to do (`proto/spec/ledger.md`, §3). Message tag 100; actions have numbers of their own."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeAlias, get_args

import msgspec
from msgspec import Meta

from qustream.errors import QuStreamError, fault
from qustream.model.base import U63, Bytes16, Bytes32, Count32, HybridSignature, Label, Noun, Signed
from qustream.model.keys import PublicKey
from qustream.model.network import Addresses
from qustream.model.state import BasisPoints, Bytes20
from qustream.wire.codec import Message, decode
from qustream.wire.consensus import Statement, VoteSignature

__all__ = [
    "TRANSACTION_MAX_BYTES", "Action", "Activate", "ActivateStatement", "AddDevice", "AnyAction", "Body", "BuyGrant", "BuyLicence",
    "Claim", "Delegate", "DeviceStatement", "DoubleSign", "EditValidator", "ExitValidator", "ListLicence", "MergeStatement",
    "MergeUsers", "RegisterUser", "RegisterValidator", "Retire", "RevokeDevice", "RollOver", "Stake", "TopUp", "Transaction",
    "Transfer", "Undelegate", "UnlistLicence", "Unstake", "Unsuspend", "UpdateNode", "UserStatement", "ValidatorStatement",
    "open_body", "transaction_id",
]  # fmt: skip

# The largest is a user with 256 devices (11 KB) whose account and master keys come along, three signatures (10 KB), two keys (4 KB).
TRANSACTION_MAX_BYTES = 65_536
# FIPS 204: an ML-DSA-44 verification key.
VOTE_KEY_BYTES = 1312
VoteKeyBytes = Annotated[bytes, Meta(min_length=VOTE_KEY_BYTES, max_length=VOTE_KEY_BYTES)]
# A kind is one byte: so many there may ever be.
KIND_LAST = 255
_ID = b"qustream/1/transaction-id"


class Action(Noun, frozen=True, tag=True):
    """What a transaction does; the first element of its array is the action's number."""


class Transfer(Action, frozen=True, tag=1):
    """Give money to an account."""

    to: Bytes20
    amount: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]


class Activate(Action, frozen=True, tag=2):
    """Bind an idle licence of the sender's to a node. `node_proof`: the node's signature of the `ActivateStatement`, purpose `activate`."""

    licence: Bytes16
    node: PublicKey
    payee: Bytes20
    addresses: Addresses
    node_proof: HybridSignature


class ActivateStatement(Noun, frozen=True):
    """What a node signs to run under a licence. `nonce`: of the transaction, so that it is used once."""

    chain: Label
    licence: Bytes16
    owner: Bytes20
    payee: Bytes20
    nonce: U63


class Retire(Action, frozen=True, tag=3):
    """Free an active licence of its node."""

    licence: Bytes16


class UpdateNode(Action, frozen=True, tag=4):
    """Say where the node of a licence is reached."""

    licence: Bytes16
    addresses: Addresses


class ListLicence(Action, frozen=True, tag=5):
    """Offer an idle licence for sale, or change its price."""

    licence: Bytes16
    price: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]


class UnlistLicence(Action, frozen=True, tag=6):
    """Take it off the market."""

    licence: Bytes16


class BuyLicence(Action, frozen=True, tag=7):
    """Buy a licence at exactly the price it is offered for."""

    licence: Bytes16
    price: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]


class Stake(Action, frozen=True, tag=8):
    """Stake exactly the chain's stake (200,000 QST) on an active licence."""

    licence: Bytes16


class Unstake(Action, frozen=True, tag=9):
    """Begin to take the stake back."""

    licence: Bytes16


class TopUp(Action, frozen=True, tag=10):
    """Fill up a stake that was slashed. `amount`: exactly what is missing."""

    licence: Bytes16
    amount: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]


class RegisterValidator(Action, frozen=True, tag=11):
    """Let a staked licence vote. `anchor`: the end of a hash chain of `links` reveals; `node_proof`: the node's signature of the
    `ValidatorStatement`, purpose `validator`; `vote_proof`: the vote key's, context `qustream/1/validator`."""

    licence: Bytes16
    node: PublicKey
    vote_key: VoteKeyBytes
    anchor: Bytes32
    links: Annotated[int, Meta(ge=1, le=0xFFFFFFFF)]
    commission_bp: BasisPoints
    node_proof: HybridSignature
    vote_proof: VoteSignature


class ValidatorStatement(Noun, frozen=True):
    """What node key and vote key sign."""

    chain: Label
    licence: Bytes16
    owner: Bytes20
    vote_key: VoteKeyBytes
    anchor: Bytes32
    links: Count32
    nonce: U63


class EditValidator(Action, frozen=True, tag=12):
    """Another commission; another hash chain (`links` 0: keep the one there is)."""

    licence: Bytes16
    commission_bp: BasisPoints
    anchor: Bytes32
    links: Count32


class ExitValidator(Action, frozen=True, tag=13):
    """Vote no more."""

    licence: Bytes16


class Delegate(Action, frozen=True, tag=14):
    """Put money on a validator."""

    licence: Bytes16
    amount: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]


class Undelegate(Action, frozen=True, tag=15):
    """Begin to take shares back."""

    licence: Bytes16
    shares: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]


class BuyGrant(Action, frozen=True, tag=16):
    """Buy requests for a user. `price_max`: what the sender is ready to pay."""

    user: Bytes32
    root: Bytes32
    count: Annotated[int, Meta(ge=1, le=1 << 20)]
    stripes: Annotated[int, Meta(ge=1, le=256)]
    lifetime_max_ms: U63
    pinned: Bytes16 | None
    price_max: U63


class RollOver(Action, frozen=True, tag=17):
    """Exchange what is unused of an ended grant for a new one, under another root."""

    grant: Bytes32
    root: Bytes32
    count: Annotated[int, Meta(ge=1, le=1 << 20)]
    stripes: Annotated[int, Meta(ge=1, le=256)]
    price_max: U63


class RegisterUser(Action, frozen=True, tag=18):
    """Enter a user. `consent`: the master's signature of the `UserStatement`, purpose `user-consent`."""

    master: PublicKey
    hpke: Signed
    devices: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]
    consent: HybridSignature


class UserStatement(Noun, frozen=True):
    """What a master signs to be entered."""

    chain: Label
    user: Bytes32
    hpke: Signed
    devices: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]


class AddDevice(Action, frozen=True, tag=19):
    """Enter a device of a user. `consent`: the master's signature of the `DeviceStatement`, purpose `user-consent`."""

    master: PublicKey
    device: Bytes32
    sequence: U63
    consent: HybridSignature


class RevokeDevice(Action, frozen=True, tag=20):
    """Revoke a device of a user, for ever. `consent`: as for `AddDevice`."""

    master: PublicKey
    device: Bytes32
    sequence: U63
    consent: HybridSignature


class DeviceStatement(Noun, frozen=True):
    """What a master signs about a device. `sequence`: the user's, so that it is used once."""

    chain: Label
    user: Bytes32
    device: Bytes32
    sequence: U63
    revoked: bool


class MergeUsers(Action, frozen=True, tag=21):
    """Make one user an alias of another. Both masters sign the `MergeStatement`, purpose `user-consent`."""

    master: PublicKey
    into: PublicKey
    consent: HybridSignature
    into_consent: HybridSignature


class MergeStatement(Noun, frozen=True):
    """What both masters sign."""

    chain: Label
    user: Bytes32
    into: Bytes32


class DoubleSign(Action, frozen=True, tag=22):
    """Two statements of one vote key that nobody signs who obeys the rules (`consensus.md` §7)."""

    vote_key: VoteKeyBytes
    first: Statement
    first_signature: VoteSignature
    second: Statement
    second_signature: VoteSignature


class Unsuspend(Action, frozen=True, tag=23):
    """Come back into the rotation of leaders when a suspension is over."""

    licence: Bytes16


class Claim(Action, frozen=True, tag=24):
    """Take what is the sender's with this licence: rewards earned, and stake and delegations whose unbonding is over."""

    licence: Bytes16


AnyAction: TypeAlias = (
    Transfer | Activate | Retire | UpdateNode | ListLicence | UnlistLicence | BuyLicence | Stake | Unstake | TopUp | RegisterValidator
    | EditValidator | ExitValidator | Delegate | Undelegate | BuyGrant | RollOver | RegisterUser | AddDevice | RevokeDevice | MergeUsers
    | DoubleSign | Unsuspend | Claim
)  # fmt: skip


class Body(Noun, frozen=True):
    """What the sender signs, purpose `transaction`. `expires`: the last height at which it may stand in a block; `fee`: what the sender
    pays, whatever comes of it."""

    chain: Label
    sender: Bytes20
    nonce: U63
    expires: U63
    fee: U63
    action: AnyAction


class Transaction(Message, frozen=True, tag=100):
    """A signed `Body`. `key`: the sender's, unless the executed state knows it."""

    body: Annotated[bytes, Meta(max_length=TRANSACTION_MAX_BYTES)]
    key: PublicKey | None
    signature: HybridSignature


def transaction_id(encoded: bytes) -> bytes:
    """The 32-byte id of a transaction's canonical bytes: all of them, the signature too."""
    return hashlib.sha256(bytes([len(_ID)]) + _ID + encoded).digest()


KIND_MAX = max(int(kind.__struct_config__.tag) for kind in get_args(AnyAction))
# What a body is whatever its action: kinds are added, and what stands around them stays.
_ANY_KIND = msgspec.msgpack.Decoder(tuple[Label, Bytes20, U63, U63, U63, tuple[Any, ...]])


def open_body(transaction: Transaction) -> Body:
    """What a transaction says. Errors: `E-LEDGER-KIND` for what a later version may understand; those of `decode`."""
    try:
        return decode(transaction.body, Body, max_bytes=TRANSACTION_MAX_BYTES)
    except QuStreamError:
        kind = _kind_of(transaction.body)
        if kind is None or not KIND_MAX < kind <= KIND_LAST:
            raise
    raise fault("E-LEDGER-KIND", f"an action of kind {kind}; this version knows 1 to {KIND_MAX}")


def _kind_of(encoded: bytes) -> int | None:
    try:
        action = _ANY_KIND.decode(encoded)[-1]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return action[0] if action and type(action[0]) is int else None
