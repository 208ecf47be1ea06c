"""Licences and their nodes: `proto/spec/ledger.md`, §3."""

from __future__ import annotations

import msgspec
import pytest
from support.ledger_world import QST, LedgerWorld, key

from qnode.core.ledger.money import Place, burn
from qustream.model.state import LicenceStatus, NodeEntry, Pool, Table
from qustream.wire.transactions import Activate, ListLicence, Retire, UpdateNode

UNSIGNED = bytes(3373)
NODE = key("another node")
PAYEE = bytes(range(20))


@pytest.fixture
def world() -> LedgerWorld:
    """Licences 0 and 1 vote, 2 runs a node, 3 and 4 are idle."""
    return LedgerWorld(validators=2, nodes=1, idle=2, people=1)


def activation(world: LedgerWorld, licence: int = 3, node=NODE) -> Activate:
    return Activate(world.licences[licence], node.public, PAYEE, ("127.0.0.1:7400",), UNSIGNED)


def test_an_idle_licence_gets_a_node(world):
    assert world.code(world.owners[3], ListLicence(world.licences[3], 5)) == ""
    done = world.block(world.checked(world.owners[3], activation(world)))
    assert [event.name for event in done.receipts[0].events] == ["licence-activated"]
    licence = world.licence(3)
    assert (licence.status, licence.node, licence.payee, licence.price) == (LicenceStatus.ACTIVE, NODE.id, PAYEE, 0)
    assert licence.since_epoch == world.progress.epoch + 1
    entry = world.state().must(Table.NODE, NODE.id, NodeEntry)
    assert entry == NodeEntry(world.licences[3], NODE.public, ("127.0.0.1:7400",))


def test_one_node_one_licence(world):
    assert world.code(world.owners[3], activation(world)) == ""
    assert world.code(world.owners[4], activation(world, 4)) == "E-LEDGER-KNOWN"
    assert world.code(world.owners[4], activation(world, 4, key("node", 2))) == "E-LEDGER-KNOWN"


def test_one_licence_one_node(world):
    assert world.code(world.owners[2], activation(world, 2)) == "E-LEDGER-STATUS"


def test_only_the_owner_and_only_what_there_is(world):
    for action in (activation(world), Retire(world.licences[2]), UpdateNode(world.licences[2], ())):
        assert world.code(world.people[0], action) == "E-LEDGER-OWNER"
        unknown = msgspec.structs.replace(action, licence=bytes(16))
        assert world.code(world.owners[3], unknown) == "E-LEDGER-UNKNOWN"


def test_retiring_frees_licence_and_node(world):
    assert world.code(world.owners[2], Retire(world.licences[2])) == ""
    licence = world.licence(2)
    assert (licence.status, licence.node, licence.payee) == (LicenceStatus.IDLE, None, licence.owner)
    assert world.state().get(Table.NODE, key("node", 2).id, NodeEntry) is None
    assert world.code(world.owners[3], activation(world, 3, key("node", 2))) == ""
    assert world.code(world.owners[2], Retire(world.licences[2])) == "E-LEDGER-STATUS"


def test_a_staked_licence_does_not_retire(world):
    assert world.code(world.owners[0], Retire(world.licences[0])) == "E-LEDGER-STATUS"


def test_what_the_operator_earned_is_paid_when_the_licence_retires(world):
    name = world.licences[0]
    world.change(Table.VALIDATOR, name, earned=70, leaves_ms=1)
    world.shift_pool(Pool.RESERVE, Pool.REWARDS, 70)
    world.change(Table.LICENCE, name, staked=0, payee=PAYEE)
    state = world.state()
    burn(state, world.parameters.stake, source=Place.STAKED)
    world.reader.apply(state.changes())
    done = world.block(world.checked(world.owners[0], Retire(name)))
    assert [(event.name, event.amount) for event in done.receipts[0].events] == [("licence-retired", 0), ("operator-paid", 70)]
    assert world.liquid(PAYEE) == 70
    world.audit()


def test_a_node_moves(world):
    assert world.code(world.owners[0], UpdateNode(world.licences[0], ("[::1]:7400",))) == ""
    assert world.state().must(Table.NODE, key("node", 0).id, NodeEntry).addresses == ("[::1]:7400",)
    assert world.code(world.owners[3], UpdateNode(world.licences[3], ())) == "E-LEDGER-STATUS"


def test_what_activating_costs_counts_its_signature(world):
    world = LedgerWorld(fee_byte=0, fee_gas=QST)
    assert world.body(world.owners[4], activation(world)).fee == 2 * QST
    assert world.body(world.owners[4], Retire(world.licences[0])).fee == QST
