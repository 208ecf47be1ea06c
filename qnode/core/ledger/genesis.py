"""The chain's beginning: a genesis document made into the state of height 0 (`proto/spec/ledger.md`, §8)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

from qnode.core.ledger.state import State
from qustream.errors import fault
from qustream.model.genesis import Genesis, GenesisLicence
from qustream.model.state import (
    Account,
    EpochEntry,
    Grants,
    Licence,
    LicenceStatus,
    NodeEntry,
    Parameters,
    Pool,
    PoolEntry,
    Progress,
    RotationEntry,
    Seat,
    Table,
    Totals,
    Validator,
    VoteKeyEntry,
)
from qustream.wire.chain import genesis_digest, leaders_seed

__all__ = ["SUPPLY", "begin", "check"]

# The mission's: 10⁹ QST of 10⁹ units. Below 2^63, so that no sum of amounts ever leaves what a number holds.
SUPPLY = 10**18
# A hundred years of ms: a time of today and any two durations together stay far below 2^63.
DURATION_MAX_MS = 100 * 365 * 86_400_000
# §9: below these a chain of real machines cannot keep up with its own ends.
EPOCH_MIN_MS, ROTATION_MIN_MS, PACE_MIN_MS = 10_000, 5_000, 50
# And above this a block is late by any measure.
PACE_MAX_MS = 60_000
# A market fee above a tenth is a mistake of whoever wrote the document.
MARKET_FEE_MAX_BP = 1_000
_NOTHING = bytes(16)


def begin(state: State, genesis: Genesis) -> bytes:
    """Fill an empty state; the digest of block 0. Errors: those of `check`."""
    check(genesis)
    digest = genesis_digest(genesis)
    state.put(Table.PARAMETERS, b"", genesis.parameters)
    state.put(Table.PROGRESS, b"", Progress(0, digest, genesis.time_ms, 0, 0, 0, genesis.seed, True))
    state.put(Table.EPOCH, bytes(8), EpochEntry(0, genesis.time_ms, genesis.seed))
    for held in genesis.accounts:
        state.put(Table.ACCOUNT, held.account, Account(0, held.amount))
    for licence in genesis.licences:
        _enter(state, genesis, licence)
    for server in genesis.qrng_servers:
        state.put(Table.QRNG_SERVER, server.key.id, server)
    liquid, staked = _liquid(genesis), _staked(genesis)
    reserve = SUPPLY - liquid - staked
    for pool in Pool:
        state.put(Table.POOL, bytes([pool]), PoolEntry(reserve if pool is Pool.RESERVE else 0))
    state.put(Table.TOTALS, b"", Totals(SUPPLY, 0, liquid, staked, 0, reserve))
    _first_rotations(state, genesis, digest)
    return digest


def _first_rotations(state: State, genesis: Genesis, digest: bytes) -> None:
    """All stakes are equal and nobody has delegated: of equals the lower licences."""
    voting = [
        (licence.licence, licence.node.vote.vote_key) for licence in genesis.licences if licence.node is not None and licence.node.vote
    ]
    stake, most = genesis.parameters.stake, genesis.parameters.validators_max
    seats = tuple(Seat(licence, hashlib.sha256(key).digest(), stake, True) for licence, key in voting[:most])
    seed, edge_ms = leaders_seed(genesis.seed), genesis.time_ms + genesis.parameters.rotation_ms
    state.put(Table.ROTATION, (1).to_bytes(8, "big"), RotationEntry(seats, seed, 0, digest, edge_ms, 0, 0))
    state.put(Table.ROTATION, (2).to_bytes(8, "big"), RotationEntry(seats, seed, 0, bytes(32), 0, 0, 0))


def _liquid(genesis: Genesis) -> int:
    return sum(held.amount for held in genesis.accounts)


def _staked(genesis: Genesis) -> int:
    return genesis.parameters.stake * sum(licence.node is not None and licence.node.staked for licence in genesis.licences)


def _enter(state: State, genesis: Genesis, given: GenesisLicence) -> None:
    node, now = given.node, genesis.time_ms
    status = LicenceStatus.IDLE if node is None else LicenceStatus.ACTIVE
    staked = genesis.parameters.stake if node is not None and node.staked else 0
    state.put(
        Table.LICENCE,
        given.licence,
        Licence(
            node_class=given.node_class, owner=given.owner, site=given.site, status=status, node=None if node is None else node.key.id,
            payee=given.owner if node is None else node.payee, since_epoch=0, staked=staked,
            locked_until_ms=now + genesis.parameters.lock_ms if staked else 0, top_up_by_ms=0, unbonding=0, free_ms=0, unstaked_ms=0,
            price=given.price, incidents=0, removals=0, returns_ms=0,
        ),
    )  # fmt: skip
    state.put(Table.OWNED, given.owner + given.licence, Grants())
    if node is None:
        return
    state.put(Table.NODE, node.key.id, NodeEntry(given.licence, node.key, node.addresses))
    if node.vote is not None:
        vote, name = node.vote, hashlib.sha256(node.vote.vote_key).digest()
        state.put(Table.VOTE_KEY, name, VoteKeyEntry(given.licence, node.key.id, vote.vote_key))
        state.put(
            Table.VALIDATOR,
            given.licence,
            Validator(
                vote_key=name, anchor=vote.anchor, links=vote.links, commission_bp=vote.commission_bp, bonded=0, shares=0, index=_NOTHING,
                rest=_NOTHING, earned=0, since_ms=now, leaves_ms=0, history=0, led=0, suspended_until_ms=0, suspensions=0,
                coming_from=0, coming_bp=0, coming_anchor=bytes(32), coming_links=0,
            ),
        )  # fmt: skip


def check(genesis: Genesis) -> None:
    """Whether a chain may begin like this. Errors: `E-LEDGER-FORM`, which says what is wrong."""
    for fault_found in _faults(genesis):
        raise fault("E-LEDGER-FORM", f"genesis document: {fault_found}")


def _faults(genesis: Genesis) -> Iterator[str]:
    nodes = [licence.node for licence in genesis.licences if licence.node is not None]
    votes = [node.vote for node in nodes if node.vote is not None]
    yield from _bounds(genesis.parameters)
    if not genesis.chain:
        yield "the chain has no name"
    if genesis.time_ms > DURATION_MAX_MS:
        yield "a time later than 2069"
    if not _rises(held.account for held in genesis.accounts):
        yield "accounts are not in rising order, or one stands twice"
    if not _rises(licence.licence for licence in genesis.licences):
        yield "licences are not in rising order, or one stands twice"
    if not _rises(server.key.id for server in genesis.qrng_servers):
        yield "QRNG servers are not in rising order of their ids, or one stands twice"
    if len({node.key.id for node in nodes}) != len(nodes):
        yield "one node under two licences"
    if len({vote.vote_key for vote in votes}) != len(votes):
        yield "one vote key under two licences"
    if any(licence.price and licence.node is not None for licence in genesis.licences):
        yield "a licence that runs a node is for sale"
    if any(node.vote is not None and not node.staked for node in nodes):
        yield "a validator without a stake"
    if any(not vote.links for vote in votes):
        yield "a validator with an empty hash chain"
    if not votes:
        yield "nobody votes"
    if _liquid(genesis) + _staked(genesis) > SUPPLY:
        yield f"accounts and stakes are more than {SUPPLY} units"


def _rises(names: Iterable[bytes]) -> bool:
    return all(before < after for before, after in pairwise(names))


_DURATIONS = ("epoch_ms", "rotation_ms", "interval_ms", "idle_ms", "delta_ms", "lock_ms", "unbonding_ms", "evidence_ms", "top_up_ms",
              "removed_ms", "market_rest_ms", "appeal_ms", "suspension_ms", "lifetime_max_ms")  # fmt: skip
_AMOUNTS = ("fee_byte", "fee_gas", "stake", "delegation_min", "price_request", "price_megabyte_day")


def _bounds(parameters: Parameters) -> Iterator[str]:
    """§9."""
    for name in _DURATIONS:
        if getattr(parameters, name) > DURATION_MAX_MS:
            yield f"{name} is more than a hundred years"
    for name in _AMOUNTS:
        if getattr(parameters, name) > SUPPLY:
            yield f"{name} is more than there is money"
    if not parameters.stake:
        yield "stake is nothing"
    if parameters.epoch_ms < EPOCH_MIN_MS:
        yield f"epoch_ms is less than {EPOCH_MIN_MS}"
    if parameters.rotation_ms < ROTATION_MIN_MS:
        yield f"rotation_ms is less than {ROTATION_MIN_MS}"
    for name in ("interval_ms", "idle_ms", "delta_ms"):
        if not PACE_MIN_MS <= getattr(parameters, name) <= PACE_MAX_MS:
            yield f"{name} is not between {PACE_MIN_MS} and {PACE_MAX_MS}"
    answers_ms = parameters.evidence_ms + 2 * parameters.rotation_ms
    if answers_ms >= parameters.unbonding_ms:
        yield (
            f"unbonding_ms is {parameters.unbonding_ms}, and must be more than evidence_ms and two rotations together, {answers_ms}: "
            "who is removed keeps his seats of this rotation and the next, and what he does there is answered for"
        )
    if parameters.evidence_ms > parameters.market_rest_ms:
        yield "evidence_ms is more than market_rest_ms"
    if parameters.market_fee_bp > MARKET_FEE_MAX_BP:
        yield f"market_fee_bp is more than {MARKET_FEE_MAX_BP}"
    if parameters.nodes_bp + parameters.operations_bp > 10_000:
        yield "nodes_bp and operations_bp are more than the whole"
