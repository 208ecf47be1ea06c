"""Pages made of the executed state alone (`proto/spec/chain-api.md`, §3): accounts, licences, nodes, the market, grants, users, money.

All take a `State` over a view that stands still, and look at a bounded number of entries.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import asdict

from qnode.api.chain_text import account_text, hex_or_empty, node_text
from qnode.core.ledger.state import State
from qustream.errors import QuStreamError, fault
from qustream.model.base import Noun
from qustream.model.genesis import LICENCES_MAX
from qustream.model.ids import ACCOUNT_BYTES, IdKind, licence_text, to_text
from qustream.model.network import Grant, QrngServerRecord, UserRecord
from qustream.model.state import (
    Account,
    EpochEntry,
    Incident,
    Licence,
    NodeEntry,
    Parameters,
    Pool,
    PoolEntry,
    Table,
    Totals,
    UnbondBatch,
    UnbondEntry,
    UserEntry,
    Validator,
)
from qustream.registry.chain_records import user_record
from qustream.wire.chain_entries import (
    AccountPage,
    BatchPart,
    EpochPage,
    GrantLine,
    GrantsPage,
    IncidentLine,
    IncidentsPage,
    LicenceLine,
    LicencesPage,
    ListingLine,
    MarketPage,
    NodeLine,
    NodesPage,
    ParametersPage,
    ServerLine,
    ServersPage,
    SupplyPage,
    UserPage,
    amount,
)
from qustream.wire.codec import encode

__all__ = [
    "MONEY_PARAMETERS", "PAGE_MAX", "account_page", "epoch_page", "grant_line", "grants_page", "incidents_page", "licence_line",
    "licences_page", "market_page", "missing", "node_line", "nodes_page", "paged", "parameters_page", "servers_page", "supply_page",
    "user_page",
]  # fmt: skip

# Lines a page: what a screen takes, and a few milliseconds of work.
PAGE_MAX = 100
# All licences there are: what the market may have to look at.
LICENCES_SCAN_MAX = LICENCES_MAX + 1
MONEY_PARAMETERS = ("fee_byte", "fee_gas", "stake", "delegation_min", "price_request", "price_megabyte_day")
_DAY_BYTES = 4
_N = TypeVar("_N", bound=Noun)
_L = TypeVar("_L")


def missing(what: str) -> QuStreamError:
    """Nothing of that name."""
    return fault("E-LEDGER-UNKNOWN", f"the chain knows no such {what}")


def paged(found: list[tuple[bytes, _N]], limit: int, line: Callable[[bytes, _N], _L]) -> tuple[tuple[_L, ...], str]:
    """Lines of at most `limit` of the entries found, one more of which were asked for, and what to ask next."""
    shown = found[:limit]
    return tuple(line(name, noun) for name, noun in shown), shown[-1][0].hex() if len(found) > limit else ""


def scanned(state: State, table: Table, kind: type[_N], after: bytes, limit: int, *, prefix: bytes = b"") -> list[tuple[bytes, _N]]:
    """One entry more than a page takes."""
    return [(name, noun) for name, noun in state.scan(table, prefix, limit + 1, after=after) if isinstance(noun, kind)]


def licence_line(state: State, name: bytes, licence: Licence) -> LicenceLine:
    """A licence as text."""
    validator = state.get(Table.VALIDATOR, name, Validator)
    return LicenceLine(
        licence_text(name), licence.node_class.name.lower(), account_text(licence.owner), licence.site, licence.status.name.lower(),
        node_text(licence.node), account_text(licence.payee), licence.since_epoch, amount(licence.staked), licence.locked_until_ms,
        licence.top_up_by_ms, amount(licence.unbonding), licence.free_ms, licence.unstaked_ms,
        amount(licence.price) if licence.price else None, licence.incidents, licence.removals, licence.returns_ms,
        validator is not None and not validator.leaves_ms,
    )  # fmt: skip


def licences_page(state: State, after: bytes, limit: int, *, owner: bytes | None = None) -> LicencesPage:
    """Licences by id; of one owner if he is named."""
    if owner is None:
        lines, following = paged(
            scanned(state, Table.LICENCE, Licence, after, limit), limit, lambda name, noun: licence_line(state, name, noun)
        )
        return LicencesPage(lines, following)
    names = [name[ACCOUNT_BYTES:] for name, _ in state.scan(Table.OWNED, owner, limit + 1, after=owner + after if after else b"")]
    shown = names[:limit]
    owned = tuple(licence_line(state, name, state.must(Table.LICENCE, name, Licence)) for name in shown)
    return LicencesPage(owned, shown[-1].hex() if len(names) > limit else "")


def account_page(state: State, account: bytes, next_nonce: int) -> AccountPage:
    """An account; one that nobody has heard of has nothing. `next_nonce`: with what waits."""
    held = state.get(Table.ACCOUNT, account, Account) or Account(0, 0)
    licences = licences_page(state, b"", PAGE_MAX, owner=account)
    unbonding, staked = list(_unbonding(state, account)), sum(int(line.staked.units) for line in licences.licences)
    return AccountPage(
        account_text(account), amount(held.liquid), held.nonce, max(held.nonce, next_nonce), held.nonce > 0, amount(staked),
        licences.licences, bool(licences.next), tuple(unbonding[:PAGE_MAX]), len(unbonding) > PAGE_MAX,
    )  # fmt: skip


def _unbonding(state: State, account: bytes) -> Iterator[BatchPart]:
    for name, noun in state.scan(Table.UNBOND, account, PAGE_MAX + 1):
        assert isinstance(noun, UnbondEntry)
        batch = state.must(Table.UNBOND_BATCH, name[ACCOUNT_BYTES:], UnbondBatch)
        licence, day = name[ACCOUNT_BYTES:-_DAY_BYTES], int.from_bytes(name[-_DAY_BYTES:], "big")
        units = noun.shares * batch.units // batch.shares if batch.shares else 0
        yield BatchPart(licence_text(licence), day, str(noun.shares), amount(units), batch.free_ms)


def node_line(state: State, name: bytes, entry: NodeEntry) -> NodeLine:
    """A node and its licence."""
    licence = state.must(Table.LICENCE, entry.licence, Licence)
    line = licence_line(state, entry.licence, licence)
    key = base64.b64encode(encode(entry.key)).decode()
    return NodeLine(
        node_text(name), line.id, line.node_class, line.owner, line.status, line.staked, line.validates, entry.addresses, key
    )  # fmt: skip


def nodes_page(state: State, after: bytes, limit: int) -> NodesPage:
    """Nodes by id."""
    found = scanned(state, Table.NODE, NodeEntry, after, limit)
    return NodesPage(*paged(found, limit, lambda name, noun: node_line(state, name, noun)))


def market_page(state: State) -> MarketPage:
    """All that is for sale. Looks at every licence: whoever serves it does not do so too often."""
    parameters = state.must(Table.PARAMETERS, b"", Parameters)
    found = [(noun.price, name, noun) for name, noun in state.scan(Table.LICENCE, b"", LICENCES_SCAN_MAX)
             if isinstance(noun, Licence) and noun.price]  # fmt: skip
    lines = tuple(
        ListingLine(licence_text(name), licence.node_class.name.lower(), account_text(licence.owner), amount(price))
        for price, name, licence in sorted(found, key=lambda each: each[:2])
    )
    return MarketPage(lines, parameters.market_fee_bp)


def grant_line(grant: Grant) -> GrantLine:
    """A grant as text."""
    return GrantLine(
        to_text(IdKind.GRANT, grant.grant), to_text(IdKind.USER, grant.owner), grant.root.hex(), grant.count, grant.stripes, grant.epoch,
        grant.lifetime_max_ms, licence_text(grant.pinned) if grant.pinned is not None else "",
    )  # fmt: skip


def grants_page(state: State, user: bytes, after: bytes, limit: int) -> GrantsPage:
    """A user's grants, by epoch."""
    found = list(state.scan(Table.GRANT_OF, user, limit + 1, after=user + after if after else b""))
    shown = [name[len(user) :] for name, _ in found[:limit]]
    grants = tuple(grant_line(state.must(Table.GRANT, name[8:], Grant)) for name in shown)
    return GrantsPage(grants, shown[-1].hex() if len(found) > limit else "")


def user_page(state: State, user: bytes) -> UserPage:
    """A user and its devices. Errors: `E-LEDGER-UNKNOWN`."""
    entry = state.get(Table.USER, user, UserEntry)
    if entry is None:
        raise missing("user")
    record: UserRecord = user_record(entry)
    listed = {revoked: tuple(to_text(IdKind.DEVICE, d.device) for d in record.devices if d.revoked is revoked) for revoked in (False, True)}
    alias = to_text(IdKind.USER, entry.alias) if entry.alias is not None else ""
    key = base64.b64encode(encode(record.master)).decode()
    return UserPage(to_text(IdKind.USER, user), key, entry.sequence, alias, listed[False], listed[True])


def servers_page(state: State, after: bytes, limit: int) -> ServersPage:
    """QRNG servers by id."""

    def line(name: bytes, server: QrngServerRecord) -> ServerLine:
        key = base64.b64encode(encode(server.key)).decode()
        return ServerLine(to_text(IdKind.QRNG, name), server.name, server.emulated, server.active, key)

    return ServersPage(*paged(scanned(state, Table.QRNG_SERVER, QrngServerRecord, after, limit), limit, line))


def incidents_page(state: State, after: bytes, limit: int) -> IncidentsPage:
    """Offences by id."""
    return IncidentsPage(*paged(scanned(state, Table.INCIDENT, Incident, after, limit), limit, incident_line))


def incident_line(name: bytes, incident: Incident) -> IncidentLine:
    """An offence as text."""
    return IncidentLine(
        name.hex(), incident.kind.name.lower().replace("_", "-"), licence_text(incident.licence), incident.rotation, incident.view,
        incident.time_ms, amount(incident.escrow), account_text(incident.reporter) if any(incident.reporter) else "",
        incident.appeal_until_ms, incident.open,
    )  # fmt: skip


def parameters_page(state: State) -> ParametersPage:
    """The chain's figures."""
    figures = asdict(state.must(Table.PARAMETERS, b"", Parameters))
    return ParametersPage(figures, {name: amount(figures[name]) for name in MONEY_PARAMETERS})


def supply_page(state: State) -> SupplyPage:
    """Where all money is."""
    totals = state.must(Table.TOTALS, b"", Totals)
    pools = {pool.name.lower(): state.get(Table.POOL, bytes([pool]), PoolEntry) or PoolEntry(0) for pool in Pool}
    each = {name: amount(entry.amount) for name, entry in pools.items()}
    return SupplyPage(
        amount(totals.minted), amount(totals.burned), amount(totals.liquid), amount(totals.staked), amount(totals.unbonding),
        amount(totals.pools), each,
    )  # fmt: skip


def epoch_page(state: State, number: int) -> EpochPage:
    """An epoch's boundary. Errors: `E-LEDGER-UNKNOWN`: it has not begun, or no block fell into it."""
    entry = state.get(Table.EPOCH, number.to_bytes(8, "big"), EpochEntry)
    if entry is None:
        raise missing("epoch")
    return EpochPage(number, entry.height, entry.time_ms, hex_or_empty(entry.seed))
