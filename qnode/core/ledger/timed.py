"""What time does: a block first ends what has ended by its time (`proto/spec/ledger.md`, §6)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.core.ledger import rotations, validators
from qnode.core.ledger.context import happened
from qnode.core.ledger.expiry import due
from qnode.core.ledger.licences import unbond
from qnode.core.ledger.money import Place, burn, from_pool, pay
from qnode.core.ledger.state import State
from qustream.model.network import Grant
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Incident, Licence, LicenceStatus, Parameters, Pool, Progress, Table

__all__ = ["end_due"]

# What ends in one block: a grant is two deletions, so a block of nothing else costs what 256 transfers do. More waits for the next.
ENDINGS_MAX = 256
# What a report costs: its bytes at most, and gas for the action and two signatures (ADR 13). Whoever copies another's gains nothing.
REPORT_BYTES, REPORT_GAS = 12_288, 3


def end_due(state: State, parameters: Parameters, now_ms: int) -> tuple[LedgerEvent, ...]:
    """End what has ended, the oldest first."""
    events: list[LedgerEvent] = []
    for _, table, name in due(state, now_ms, ENDINGS_MAX):
        match table:
            case Table.LICENCE:
                events += _licence(state, parameters, name, now_ms)
            case Table.INCIDENT:
                events += _incident(state, parameters, name, now_ms)
            case Table.GRANT:
                _grant(state, name)
            case _:
                raise AssertionError(f"nothing of {table.name} ends by itself")
    return tuple(events)


def _licence(state: State, parameters: Parameters, name: bytes, now_ms: int) -> list[LedgerEvent]:
    """A removed one may be used again; a stake that is short is taken off."""
    licence = state.must(Table.LICENCE, name, Licence)
    if licence.status is LicenceStatus.REMOVED and licence.returns_ms <= now_ms:
        state.put(Table.LICENCE, name, replace(licence, status=LicenceStatus.IDLE, returns_ms=0))
        return [happened("licence-returned", name, licence.owner)]
    if licence.top_up_by_ms and licence.top_up_by_ms <= now_ms and licence.staked:
        unbond(state, name, licence, parameters, now_ms)
        parent = state.must(Table.PROGRESS, b"", Progress)
        leaves_ms = rotations.current(state, parent.rotation + parent.over).edge_ms + parameters.rotation_ms
        validators.leave(state, name, max(leaves_ms, now_ms + 1))
        return [happened("unstaked", name, licence.owner, licence.staked)]
    return []


def _incident(state: State, parameters: Parameters, name: bytes, now_ms: int) -> list[LedgerEvent]:
    """Nobody has appealed: the reporter has back what it cost him, the rest is no more."""
    incident = state.must(Table.INCIDENT, name, Incident)
    if not incident.open or incident.appeal_until_ms > now_ms:
        return []
    state.put(Table.INCIDENT, name, replace(incident, open=False))
    licence = state.must(Table.LICENCE, incident.licence, Licence)
    state.put(Table.LICENCE, incident.licence, replace(licence, incidents=licence.incidents - 1))
    reward = min(incident.escrow, parameters.fee_byte * REPORT_BYTES + parameters.fee_gas * REPORT_GAS)
    from_pool(state, Pool.ESCROW, incident.escrow)
    pay(state, incident.reporter, reward, source=Place.POOLS)
    burn(state, incident.escrow - reward, source=Place.POOLS)
    return [happened("incident-closed", name, incident.reporter, reward), happened("burned", name, b"", incident.escrow - reward)]


def _grant(state: State, name: bytes) -> None:
    grant = state.get(Table.GRANT, name, Grant)
    if grant is not None:
        state.delete(Table.GRANT, name)
        state.delete(Table.GRANT_OF, grant.owner + grant.epoch.to_bytes(8, "big") + name)
