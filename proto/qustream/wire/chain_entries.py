"""What a node's pages say of the entries of the chain's state (`proto/spec/chain-api.md`): the shapes of their JSON.

Ids are text, digests and roots hexadecimal, times Unix ms, amounts `Amount`. Numbers that can exceed 2^53, which are units and shares
alone, are text: programs whose numbers are floats would round them. A reader skips fields it does not know.
"""

from __future__ import annotations

from msgspec import Struct

from qustream.model.amount import amount_text

__all__ = [
    "AccountPage", "Amount", "BatchPart", "DelegationLine", "DelegationsPage", "EpochPage", "EvidenceLine", "EvidencePage", "GrantLine",
    "GrantsPage", "IncidentLine", "IncidentsPage", "LicenceLine", "LicencesPage", "ListingLine", "MarketPage", "NodeLine", "NodesPage",
    "Page", "ParametersPage", "RotationPage", "SeatLine", "ServerLine", "ServersPage", "SupplyPage", "UserPage", "ValidatorLine",
    "ValidatorsPage", "amount",
]  # fmt: skip


class Page(Struct, frozen=True):
    """What is on a page, or part of one."""


class Amount(Page, frozen=True):
    """Money, twice: `qst` with nine decimals, `units` of 10^-9 QST."""

    qst: str
    units: str


def amount(units: int) -> Amount:
    """Units as JSON has them."""
    return Amount(amount_text(units), str(units))


class BatchPart(Page, frozen=True):
    """Something undelegated that is on its way back."""

    licence: str
    day: int
    shares: str
    amount: Amount
    free_ms: int


class LicenceLine(Page, frozen=True):
    """A licence: the noun of the state, as text."""

    id: str
    node_class: str
    owner: str
    site: str
    status: str
    node: str
    payee: str
    since_epoch: int
    staked: Amount
    locked_until_ms: int
    top_up_by_ms: int
    unbonding: Amount
    free_ms: int
    unstaked_ms: int
    price: Amount | None
    incidents: int
    removals: int
    returns_ms: int
    validates: bool


class LicencesPage(Page, frozen=True):
    """`/licences`, by id. `next`: what to ask with `after`, "" at the end; of all lists below likewise."""

    licences: tuple[LicenceLine, ...]
    next: str


class AccountPage(Page, frozen=True):
    """An account. `known`: it has sent something, so that its key need not come along; `next_nonce`: with what waits in this node;
    `staked`, `licences`: of the first ⚙ 100 licences it owns, `more_licences`: there are others."""

    account: str
    balance: Amount
    nonce: int
    next_nonce: int
    known: bool
    staked: Amount
    licences: tuple[LicenceLine, ...]
    more_licences: bool
    unbonding: tuple[BatchPart, ...]
    more_unbonding: bool


class DelegationLine(Page, frozen=True):
    """Somebody's part of a validator. `amount`: what his shares are worth now; `rewards`: earned and not claimed."""

    licence: str
    account: str
    shares: str
    amount: Amount
    rewards: Amount


class DelegationsPage(Page, frozen=True):
    """An account's delegations, or a validator's."""

    delegations: tuple[DelegationLine, ...]
    next: str


class NodeLine(Page, frozen=True):
    """A node and the licence it runs under."""

    id: str
    licence: str
    node_class: str
    owner: str
    status: str
    staked: Amount
    validates: bool
    addresses: tuple[str, ...]
    key: str


class NodesPage(Page, frozen=True):
    """`/nodes`, by id."""

    nodes: tuple[NodeLine, ...]
    next: str


class ValidatorLine(Page, frozen=True):
    """A validator. `weight`: own stake and what is delegated; `history`: its last views as leader, the newest first, `1` a miss;
    `seat`: in the rotation that runs, -1 if it has none; `leads`: it is in its order of leaders; `coming_from`: 0, or the rotation from
    which on its commission is `coming_commission_bp` and, unless `coming_links` is 0, its hash chain one of so many links."""

    licence: str
    owner: str
    node: str
    vote_key: str
    commission_bp: int
    weight: Amount
    own_stake: Amount
    delegated: Amount
    shares: str
    earned: Amount
    on_duty: bool
    since_ms: int
    leaves_ms: int
    history: str
    suspended_until_ms: int
    suspensions: int
    links: int
    seat: int
    leads: bool
    coming_from: int
    coming_commission_bp: int
    coming_links: int


class ValidatorsPage(Page, frozen=True):
    """`/validators`, by licence."""

    validators: tuple[ValidatorLine, ...]
    next: str


class SeatLine(Page, frozen=True):
    """A seat of a rotation. `views`: how many of the order of leaders are its."""

    number: int
    licence: str
    vote_key: str
    weight: Amount
    leads: bool
    views: int


class RotationPage(Page, frozen=True):
    """A rotation. `order`: who leads views 1, 2, …, by number, again and again; `quorum`: the weight that decides."""

    number: int
    seats: tuple[SeatLine, ...]
    weight: Amount
    quorum: Amount
    seed: str
    base: str
    base_height: int
    edge_ms: int
    views: int
    skipped: int
    order: tuple[int, ...]


class ListingLine(Page, frozen=True):
    """A licence for sale."""

    licence: str
    node_class: str
    owner: str
    price: Amount


class MarketPage(Page, frozen=True):
    """`/market`: all that is for sale, the cheapest first; at most as many as there are licences."""

    listings: tuple[ListingLine, ...]
    fee_bp: int


class GrantLine(Page, frozen=True):
    """A grant (`proto/spec/grants.md`)."""

    id: str
    owner: str
    root: str
    count: int
    stripes: int
    epoch: int
    lifetime_max_ms: int
    pinned: str


class GrantsPage(Page, frozen=True):
    """A user's grants, by epoch."""

    grants: tuple[GrantLine, ...]
    next: str


class UserPage(Page, frozen=True):
    """A user. `sequence`: how many changes its master has signed; `alias`: the user it was merged into."""

    id: str
    master: str
    sequence: int
    alias: str
    devices: tuple[str, ...]
    revoked: tuple[str, ...]


class ServerLine(Page, frozen=True):
    """A QRNG server."""

    id: str
    name: str
    emulated: bool
    active: bool
    key: str


class ServersPage(Page, frozen=True):
    """`/qrng`, by id."""

    servers: tuple[ServerLine, ...]
    next: str


class IncidentLine(Page, frozen=True):
    """An offence and what follows."""

    id: str
    kind: str
    licence: str
    rotation: int
    view: int
    time_ms: int
    escrow: Amount
    reporter: str
    appeal_until_ms: int
    open: bool


class IncidentsPage(Page, frozen=True):
    """`/incidents`, by id."""

    incidents: tuple[IncidentLine, ...]
    next: str


class EvidenceLine(Page, frozen=True):
    """Two votes that this node has seen and that prove an offence. `id`: of the incident it is evidence of; `state`: `sent`, `known` to the
    chain, or why this node did not send it; `action`: the canonical `DoubleSign` in hexadecimal, on a page of its own alone."""

    chain: str
    id: str
    licence: str
    rotation: int
    view: int
    first: str
    second: str
    state: str
    action: str


class EvidencePage(Page, frozen=True):
    """`/evidence`, the oldest first."""

    evidence: tuple[EvidenceLine, ...]


class ParametersPage(Page, frozen=True):
    """The chain's ⚙ figures, by name; those that are money as amounts as well."""

    parameters: dict[str, int]
    amounts: dict[str, Amount]


class SupplyPage(Page, frozen=True):
    """Where all money is: minted − burned = liquid + staked + unbonding + pools, and `each` pool."""

    minted: Amount
    burned: Amount
    liquid: Amount
    staked: Amount
    unbonding: Amount
    pools: Amount
    each: dict[str, Amount]


class EpochPage(Page, frozen=True):
    """An epoch's boundary."""

    number: int
    height: int
    time_ms: int
    seed: str
