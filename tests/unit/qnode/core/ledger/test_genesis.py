"""The chain's beginning: `proto/spec/ledger.md`, §8 and §9."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec.structs import replace
from support.ledger_world import PARAMETERS, QST, START_MS, LedgerWorld, genesis, hash_chain, key, licence_id, voter

from qnode.core.ledger.genesis import SUPPLY, begin, check
from qnode.core.ledger.money import pool
from qustream.errors import QuStreamError
from qustream.model.genesis import Genesis, GenesisAccount
from qustream.model.network import QrngServerRecord
from qustream.model.state import (
    EpochEntry,
    Licence,
    LicenceStatus,
    Pool,
    Progress,
    RotationEntry,
    Table,
    Totals,
    Validator,
    VoteKeyEntry,
)
from qustream.wire.chain import genesis_digest, leaders_seed

DAY_MS = 86_400_000


def test_what_the_document_says_stands_in_the_state():
    world = LedgerWorld(validators=2, nodes=1, idle=1, people=3)
    state, document = world.state(), world.genesis
    world.audit()
    assert world.digest == genesis_digest(document)
    assert state.must(Table.PROGRESS, b"", Progress) == Progress(0, world.digest, START_MS, 0, 0, 0, document.seed, True)
    assert state.must(Table.EPOCH, bytes(8), EpochEntry) == EpochEntry(0, START_MS, document.seed)
    liquid, staked = 7 * 1_000_000 * QST, 2 * 200_000 * QST
    assert state.must(Table.TOTALS, b"", Totals) == Totals(SUPPLY, 0, liquid, staked, 0, SUPPLY - liquid - staked)
    assert pool(state, Pool.RESERVE) == SUPPLY - liquid - staked
    voting = state.must(Table.LICENCE, licence_id(0), Licence)
    assert (voting.status, voting.staked, voting.locked_until_ms) == (LicenceStatus.ACTIVE, 200_000 * QST, START_MS + 30 * DAY_MS)
    assert voting.node == key("node", 0).id
    running = state.must(Table.LICENCE, licence_id(2), Licence)
    assert (running.status, running.staked, running.locked_until_ms) == (LicenceStatus.ACTIVE, 0, 0)
    idle = state.must(Table.LICENCE, licence_id(3), Licence)
    assert (idle.status, idle.node, idle.payee) == (LicenceStatus.IDLE, None, idle.owner)
    validator = state.must(Table.VALIDATOR, licence_id(1), Validator)
    assert (validator.vote_key, validator.anchor) == (voter(1).id, hash_chain(1).anchor)
    assert state.must(Table.VOTE_KEY, voter(1).id, VoteKeyEntry) == VoteKeyEntry(licence_id(1), key("node", 1).id, voter(1).public)


def test_the_first_two_rotations_have_its_validators():
    world = LedgerWorld(validators=3, validators_max=2)
    state, seed = world.state(), leaders_seed(world.genesis.seed)
    first = state.must(Table.ROTATION, (1).to_bytes(8, "big"), RotationEntry)
    second = state.must(Table.ROTATION, (2).to_bytes(8, "big"), RotationEntry)
    assert [(seat.licence, seat.vote_key, seat.weight, seat.leads) for seat in first.seats] == [
        (licence_id(number), hashlib.sha256(voter(number).public).digest(), 200_000 * QST, True) for number in range(2)
    ]
    assert (first.seed, first.base_height, first.base, first.edge_ms) == (seed, 0, world.digest, START_MS + 3_600_000)
    assert (second.seats, second.seed, second.base, second.edge_ms) == (first.seats, seed, bytes(32), 0)


def test_another_document_has_another_digest():
    one = genesis(people=1)
    assert begin(LedgerWorld(one).state(), one) == genesis_digest(one) != genesis_digest(replace(one, time_ms=START_MS + 1))


def test_all_the_money_can_be_given_out_and_not_a_unit_more():
    document = genesis(people=1)
    rest = SUPPLY - sum(held.amount for held in document.accounts[1:]) - 4 * 200_000 * QST
    first = GenesisAccount(document.accounts[0].account, rest)
    whole = replace(document, accounts=(first, *document.accounts[1:]))
    assert pool(LedgerWorld(whole).state(), Pool.RESERVE) == 0
    refused(replace(document, accounts=(replace(first, amount=rest + 1), *document.accounts[1:])), "more than 1000000000000000000 units")
    refused(replace(document, accounts=tuple(replace(each, amount=(1 << 63) - 1) for each in document.accounts)), "more than")


def refused(document: Genesis, why: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        check(document)
    assert caught.value.code == "E-LEDGER-FORM"
    assert why in caught.value.detail


def test_order_and_duplicates():
    document = genesis()
    first, second, *_ = document.accounts
    refused(replace(document, accounts=(second, first)), "accounts are not in rising order")
    refused(replace(document, accounts=(first, first)), "accounts are not in rising order")
    licences = document.licences
    refused(replace(document, licences=(licences[1], licences[0])), "licences are not in rising order")
    refused(replace(document, licences=(licences[0], licences[0])), "licences are not in rising order")
    servers = [QrngServerRecord(key("server", number).public, "", True, True) for number in range(2)]
    servers.sort(key=lambda server: server.key.id)
    check(replace(document, qrng_servers=tuple(servers)))
    refused(replace(document, qrng_servers=(servers[1], servers[0])), "QRNG servers are not in rising order")
    refused(replace(document, qrng_servers=(servers[0], servers[0])), "QRNG servers are not in rising order")


def with_node(document: Genesis, number: int, **fields: Any) -> Genesis:
    licences = list(document.licences)
    licences[number] = replace(licences[number], node=replace(licences[number].node, **fields))
    return replace(document, licences=tuple(licences))


def test_keys_are_nobody_elses():
    document = genesis()
    refused(with_node(document, 1, key=key("node", 0).public), "one node under two licences")
    vote = document.licences[0].node.vote
    refused(with_node(document, 1, vote=vote), "one vote key under two licences")


def test_what_cannot_be():
    document = genesis(validators=2, nodes=1)
    refused(with_node(document, 0, staked=False), "a validator without a stake")
    refused(with_node(document, 0, vote=replace(document.licences[0].node.vote, links=0)), "an empty hash chain")
    nobody = with_node(with_node(document, 0, vote=None), 1, vote=None)
    refused(nobody, "nobody votes")
    licences = (replace(document.licences[0], price=1), *document.licences[1:])
    refused(replace(document, licences=licences), "a licence that runs a node is for sale")
    refused(replace(document, chain=""), "no name")
    refused(replace(document, time_ms=1 << 62), "later than 2069")


def test_an_idle_licence_may_be_for_sale_from_the_beginning():
    document = genesis(validators=1, idle=1)
    world = LedgerWorld(replace(document, licences=(document.licences[0], replace(document.licences[1], price=9))))
    assert world.licence(1).price == 9


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"epoch_ms": 9_999}, "epoch_ms is less than"),
        ({"rotation_ms": 4_999}, "rotation_ms is less than"),
        ({"interval_ms": 49}, "interval_ms is not between"),
        ({"idle_ms": 60_001}, "idle_ms is not between"),
        ({"delta_ms": 0}, "delta_ms is not between"),
        ({"evidence_ms": 28 * DAY_MS, "market_rest_ms": 28 * DAY_MS}, f"unbonding_ms is {28 * DAY_MS}, and must be more than"),
        ({"unbonding_ms": 21 * DAY_MS + 7_200_000}, f"two rotations together, {21 * DAY_MS + 7_200_000}"),
        ({"rotation_ms": 84 * 3_600_000}, "two rotations together"),
        ({"market_rest_ms": 21 * DAY_MS - 1}, "evidence_ms is more than market_rest_ms"),
        ({"market_fee_bp": 1_001}, "market_fee_bp is more than"),
        ({"nodes_bp": 7_001}, "more than the whole"),
        ({"stake": 0}, "stake is nothing"),
        ({"stake": SUPPLY + 1}, "stake is more than there is money"),
        ({"fee_gas": SUPPLY + 1}, "fee_gas is more than there is money"),
        ({"lock_ms": (1 << 63) - 1}, "lock_ms is more than a hundred years"),
    ],
)
def test_parameters_have_bounds(fields, why):
    check(genesis(parameters=PARAMETERS))
    check(genesis(parameters=replace(PARAMETERS, unbonding_ms=21 * DAY_MS + 7_200_001)))
    refused(genesis(parameters=replace(PARAMETERS, **fields)), why)
