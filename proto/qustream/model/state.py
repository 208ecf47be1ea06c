"""What the chain's state is made of: one noun a table, and the key under which each stands (`proto/spec/ledger.md`, §2).

The state is a map from keys to values. A key is the table's number (one byte) and the name of the entry; a value is the canonical
encoding of the table's noun. All amounts are units of 10⁻⁹ QST, all times Unix ms, all shares whole numbers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.model.base import U8, U16, U63, Bytes16, Bytes32, Count32, Label, Noun
from qustream.model.ids import ACCOUNT_BYTES
from qustream.model.keys import PublicKey
from qustream.model.network import Addresses, NodeClass

__all__ = [
    "Account", "Ban", "Bytes20", "Delegation", "EpochEntry", "GrantOf", "Grants", "Incident", "IncidentKind", "Licence", "LicenceStatus",
    "NodeEntry", "Parameters", "Pool", "PoolEntry", "Progress", "RotationEntry", "Seat", "Table", "Totals", "UnbondBatch", "UnbondEntry",
    "UserEntry", "Validator", "VoteKeyEntry",
]  # fmt: skip

Bytes20 = Annotated[bytes, Meta(min_length=ACCOUNT_BYTES, max_length=ACCOUNT_BYTES)]
# A commission in hundredths of a percent.
BasisPoints = Annotated[int, Meta(ge=0, le=10_000)]


class Table(IntEnum):
    """The first byte of a key. In brackets: what follows it."""

    PARAMETERS = 1  # []
    PROGRESS = 2  # []
    TOTALS = 3  # []
    POOL = 4  # [number 1]
    ACCOUNT = 5  # [account 20]
    ACCOUNT_KEY = 6  # [account 20]: PublicKey
    LICENCE = 7  # [licence 16]
    NODE = 8  # [node 32]
    VALIDATOR = 9  # [licence 16]
    VOTE_KEY = 10  # [SHA-256 of the vote key 32]
    DELEGATION = 11  # [licence 16 ‖ account 20]
    UNBOND_BATCH = 12  # [licence 16 ‖ day 4]
    UNBOND = 13  # [account 20 ‖ licence 16 ‖ day 4]
    GRANT = 14  # [grant 32]: network.Grant
    GRANT_OF = 15  # [user 32 ‖ epoch 8 ‖ grant 32]
    USER = 16  # [user 32]
    QRNG_SERVER = 17  # [server 32]: network.QrngServerRecord
    INCIDENT = 18  # [incident 32]
    EPOCH = 19  # [number 8]
    ROTATION = 20  # [number 8]
    EXPIRY = 21  # [time 8 ‖ the key that ends then]: nothing but the key
    OWNED = 22  # [owner's account 20 ‖ licence 16]: nothing but the key
    BANNED = 23  # [account 20, or node 32]


class Pool(IntEnum):
    """Where money is that is nobody's own."""

    NODES = 1  # 60 % of revenue: what running nodes share
    OPERATIONS = 2  # 30 %
    RESERVE = 3  # 10 %, market fees, dust
    REWARDS = 4  # fees that validators and delegators have earned and not claimed
    ESCROW = 5  # what was slashed, while it may be appealed against


class Parameters(Noun, frozen=True):
    """The chain's ⚙ figures; `proto/spec/ledger.md` §9 has bounds and reasons."""

    epoch_ms: U63
    rotation_ms: U63
    interval_ms: U63
    idle_ms: U63
    delta_ms: U63
    validators_max: Annotated[int, Meta(ge=1, le=100)]
    body_bytes_max: Annotated[int, Meta(ge=65_536, le=4_194_304)]
    fee_byte: U63
    fee_gas: U63
    stake: U63
    lock_ms: U63
    unbonding_ms: U63
    evidence_ms: U63
    top_up_ms: U63
    removed_ms: U63
    market_rest_ms: U63
    market_fee_bp: BasisPoints
    delegation_min: U63
    double_sign_bp: BasisPoints
    appeal_ms: U63
    suspension_ms: U63
    price_request: U63
    price_megabyte_day: U63
    roll_over_bp: BasisPoints
    lifetime_max_ms: U63
    nodes_bp: BasisPoints
    operations_bp: BasisPoints


class Progress(Noun, frozen=True):
    """How far the chain is: of the last executed block. `fold`: over all reveals; `rotation`: the one it belongs to; `view`: its view;
    `over`: it is its rotation's boundary block."""

    height: U63
    digest: Bytes32
    time_ms: U63
    epoch: U63
    rotation: U63
    view: U63
    fold: Bytes32
    over: bool


class Totals(Noun, frozen=True):
    """Where all money is. `minted` − `burned` = the sum of the rest, after every block."""

    minted: U63
    burned: U63
    liquid: U63
    staked: U63
    unbonding: U63
    pools: U63


class PoolEntry(Noun, frozen=True):
    """What a pool holds."""

    amount: U63


class Account(Noun, frozen=True):
    """Somebody's money. `nonce`: of the next transaction."""

    nonce: U63
    liquid: U63


class LicenceStatus(IntEnum):
    """What a licence is good for."""

    IDLE = 1
    ACTIVE = 2
    REMOVED = 3
    BANNED = 4


class Licence(Noun, frozen=True):
    """A node key of the mission's. `site`: of a foundation licence; `node`, `payee`: while it is active; `since_epoch`: the first epoch
    whose grants may be assigned to its node; `staked`: 0 or what is left of the stake; `top_up_by_ms`: 0, or when a stake that is short is
    taken off; `unbonding`: own stake on its way back, free at `free_ms`; `unstaked_ms`: since when it bears no stake; `price`: 0 unless it
    is for sale; `incidents`: open ones; `removals`: how often it was removed; `returns_ms`: when a removed one is idle again."""

    node_class: NodeClass
    owner: Bytes20
    site: Label
    status: LicenceStatus
    node: Bytes32 | None
    payee: Bytes20
    since_epoch: U63
    staked: U63
    locked_until_ms: U63
    top_up_by_ms: U63
    unbonding: U63
    free_ms: U63
    unstaked_ms: U63
    price: U63
    incidents: U16
    removals: U8
    returns_ms: U63


class NodeEntry(Noun, frozen=True):
    """The node that runs under a licence."""

    licence: Bytes16
    key: PublicKey
    addresses: Addresses


class Validator(Noun, frozen=True):
    """A licence that votes. `anchor`: the last reveal, `links`: how many are left; `bonded`: delegated units, `shares`: what they are
    divided into; `index`: reward a share so far in 2^-64 units, `rest`: what its last division left, both big endian; `earned`: the
    operator's own unclaimed part; `since_ms`: on duty; `leaves_ms`: 0, or when its duty is over; `history`: of its last views as leader,
    the newest lowest, 1 is a miss; `led`: how many of these bits count; `suspended_until_ms`, `suspensions`: out of rotation;
    `coming_from`: 0, or the rotation from which on `coming_bp` is the commission and, if `coming_links` is not 0, `coming_anchor` the
    hash chain."""

    vote_key: Bytes32
    anchor: Bytes32
    links: Count32
    commission_bp: BasisPoints
    bonded: U63
    shares: U63
    index: Bytes16
    rest: Bytes16
    earned: U63
    since_ms: U63
    leaves_ms: U63
    history: U16
    led: U8
    suspended_until_ms: U63
    suspensions: U8
    coming_from: U63
    coming_bp: BasisPoints
    coming_anchor: Bytes32
    coming_links: Count32


class VoteKeyEntry(Noun, frozen=True):
    """Whose a vote key is, or was: it is never anybody else's. `node`: that it was registered from, which a ban binds, too."""

    licence: Bytes16
    node: Bytes32
    key: Annotated[bytes, Meta(min_length=1312, max_length=1312)]


class Delegation(Noun, frozen=True):
    """Shares of a validator. `index`: the validator's when these were last settled; `earned`: settled and not claimed."""

    shares: U63
    index: Bytes16
    earned: U63


class UnbondBatch(Noun, frozen=True):
    """What delegators took from one validator on one day: still to be slashed for what happened before. `free_ms`: of the last of it."""

    units: U63
    shares: U63
    free_ms: U63


class UnbondEntry(Noun, frozen=True):
    """Somebody's part of a batch."""

    shares: U63


class Grants(Noun, frozen=True):
    """An entry that says all in its key."""


class GrantOf(Noun, frozen=True):
    """A grant of a user. `buyer`: who paid for it, and alone may roll it over."""

    buyer: Bytes20


class Ban(Noun, frozen=True):
    """An owner or a node that may not come back. `licence`: the one that was banned; `incident`: why."""

    licence: Bytes16
    incident: Bytes32


class UserEntry(Noun, frozen=True):
    """A user: `record` is the canonical `UserRecord`; `sequence`: how many changes the master has signed; `alias`: the user this one was
    merged into; `is_target`: others were merged into this one."""

    record: Annotated[bytes, Meta(max_length=16_384)]
    sequence: U63
    alias: Bytes32 | None
    is_target: bool


class IncidentKind(IntEnum):
    """What somebody did."""

    DOUBLE_SIGN = 1
    MISSED_PROPOSALS = 2


class Incident(Noun, frozen=True):
    """One offence and what follows. `escrow`: slashed units; `reporter`: has back what it cost at `appeal_until_ms`, when it is over."""

    kind: IncidentKind
    licence: Bytes16
    rotation: U63
    view: U63
    time_ms: U63
    escrow: U63
    reporter: Bytes20
    appeal_until_ms: U63
    open: bool


class EpochEntry(Noun, frozen=True):
    """The boundary of an epoch: the first block in it."""

    height: U63
    time_ms: U63
    seed: Bytes32


class Seat(Noun, frozen=True):
    """A validator in a rotation. `vote_key`: SHA-256 of it; `leads`: it is in the order of leaders."""

    licence: Bytes16
    vote_key: Bytes32
    weight: Annotated[int, Meta(ge=1, le=0x7FFFFFFFFFFFFFFF)]
    leads: bool


class RotationEntry(Noun, frozen=True):
    """Who votes in a rotation. `base`: its height and digest once it is known (height 0 and zeros before); `edge_ms` likewise; `views`,
    `skipped`: how many were counted and how many of them had no block."""

    seats: Annotated[tuple[Seat, ...], Meta(min_length=1, max_length=100)]
    seed: Bytes32
    base_height: U63
    base: Bytes32
    edge_ms: U63
    views: U63
    skipped: U63
