"""The registry over the chain's state: the same answers as any registry, one height at a time, and what changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace
from support.ledger_world import CHAIN, DAY_MS, START_MS, LedgerWorld, MemoryReader, key
from support.registry_contract import (
    Expected,
    answers_every_question,
    assigns_by_the_rule,
    epochs_follow_genesis,
    refuses_unknown_names,
)

from qnode.core.ledger.state import State
from qnode.service import registry as under_test
from qnode.service.peers_known import KnownNodes
from qnode.service.registry import ChainRegistry
from qustream.errors import QuStreamError
from qustream.identity.enrolment import state_hpke_key
from qustream.model.ids import IdKind, to_text
from qustream.model.network import DeviceEntry, Grant, NodeClass, QrngServerRecord, UserRecord
from qustream.model.state import EpochEntry, GrantOf, Licence, LicenceStatus, NodeEntry, Progress, Table, UserEntry
from qustream.registry import ChangeKind
from qustream.wire.codec import encode

EPOCH_MS = 3 * DAY_MS
SERVER = QrngServerRecord(key("qrng").public, "first light", True, True)


def device(number: int) -> DeviceEntry:
    return DeviceEntry(hashlib.sha256(b"device %d" % number).digest(), False)


def user(name: str, *devices: DeviceEntry) -> UserRecord:
    master = key(name)
    return UserRecord(master.public, state_hpke_key(master, hashlib.shake_256(name.encode()).digest(1216)), devices or (device(0),))


def grant(owner: UserRecord, number: int, epoch: int) -> Grant:
    name = hashlib.sha256(b"grant %d" % number).digest()
    return Grant(name, owner.master.id, hashlib.sha256(name).digest(), 1000, 2, epoch, DAY_MS, None)


class World:
    """A chain's state, and the registry that follows it. `views`: how many are open."""

    def __init__(self) -> None:
        self.ledger = LedgerWorld(validators=2, nodes=3, idle=2, people=1)
        self.alice, self.bob = user("alice"), user("bob")
        self.views = 0
        self.height, self.epoch = 0, 0
        self.apply(self._entries)
        self.registry = ChainRegistry(self.view, self.ledger.genesis)

    @contextmanager
    def view(self) -> Iterator[MemoryReader]:
        self.views += 1
        try:
            yield self.ledger.reader.copy()
        finally:
            self.views -= 1

    def _entries(self, state: State) -> None:
        state.put(Table.QRNG_SERVER, SERVER.key.id, SERVER)
        self.put_user(state, self.alice)
        self.put_user(state, self.bob)
        self.begin_epoch(state, 1)
        for number, epoch in ((1, 0), (2, 1), (3, 0)):
            self.put_grant(state, grant(self.alice, number, epoch))

    def apply(self, change) -> dict[bytes, bytes | None]:
        """What a block does."""
        self.height += 1
        state = State(self.ledger.reader)
        change(state)
        state.put(Table.PROGRESS, b"", self.progress())
        changes = state.changes()
        self.ledger.reader.apply(changes)
        return changes

    def progress(self) -> Progress:
        return Progress(self.height, bytes(32), START_MS + 1000 * self.height, self.epoch, 1, 1, bytes(32), False)

    def block(self, change=lambda state: None) -> list[tuple[ChangeKind, bytes]]:
        """A block that is executed; what the registry says has changed."""
        before = self.registry.height
        self.registry.executed(self.apply(change), self.progress())
        assert self.views == 1
        assert all(each.height == self.height for each in self.registry.changes(before))
        return [(each.kind, each.id) for each in self.registry.changes(before)]

    @staticmethod
    def put_user(state: State, record: UserRecord, alias: bytes | None = None) -> None:
        state.put(Table.USER, record.master.id, UserEntry(encode(record), 0, alias, False))

    @staticmethod
    def put_grant(state: State, each: Grant) -> None:
        state.put(Table.GRANT, each.grant, each)
        state.put(Table.GRANT_OF, each.owner + each.epoch.to_bytes(8, "big") + each.grant, GrantOf(bytes(20)))

    def begin_epoch(self, state: State, number: int) -> None:
        self.epoch = number
        seed = hashlib.sha256(b"epoch %d" % number).digest()
        state.put(Table.EPOCH, number.to_bytes(8, "big"), EpochEntry(self.height, START_MS + number * EPOCH_MS + 700, seed))

    def licence(self, number: int) -> tuple[bytes, Licence]:
        name = self.ledger.licences[number]
        return name, self.ledger.state().must(Table.LICENCE, name, Licence)


@pytest.fixture
def world() -> World:
    return World()


def expected(world: World) -> Expected:
    records = [world.registry.node(key("node", number).id) for number in range(5)]
    grants = [grant(world.alice, number, epoch) for number, epoch in ((1, 0), (2, 1), (3, 0))]
    return Expected(1, CHAIN, START_MS, EPOCH_MS, records, SERVER, [world.alice, world.bob], grants)


def test_it_keeps_the_contract_of_every_registry(world: World) -> None:
    answers_every_question(world.registry, expected(world))
    refuses_unknown_names(world.registry)
    epochs_follow_genesis(world.registry, expected(world))
    for each in expected(world).grants:
        assigns_by_the_rule(world.registry, each, {})
    assert world.registry.trouble is None


def test_a_node_is_what_its_licence_makes_it(world: World) -> None:
    first, other = world.registry.node(key("node", 0).id), world.registry.node(key("node", 1).id)
    assert (first.node_class, first.operator) == (NodeClass.FOUNDATION, "site 0")
    owner = world.licence(1)[1].owner
    assert (other.node_class, other.operator) == (NodeClass.COMMUNITY, to_text(IdKind.ACCOUNT, owner))
    assert (other.weight, other.active, other.licence) == (1, True, world.ledger.licences[1])
    assert other.addresses == ("127.9.0.2:7400",)
    assert len(world.registry.nodes(NodeClass.FOUNDATION)) + len(world.registry.nodes(NodeClass.COMMUNITY)) == 5


def test_a_removed_node_stays_known_and_serves_nothing(world: World) -> None:
    name, licence = world.licence(3)
    node = key("node", 3).id
    (each,) = [found for found in world.registry.grants_of(world.alice.master.id) if found.epoch == 1]

    def serving() -> set[bytes]:
        return {record.key.id for record in world.registry.assignment(each, 7)[NodeClass.COMMUNITY]}

    assert node in serving()
    assert world.registry.nodes_height == 1
    told = world.block(lambda state: state.put(Table.LICENCE, name, replace(licence, status=LicenceStatus.REMOVED)))
    assert told == [(ChangeKind.NODE_CHANGED, node)]
    assert world.registry.nodes_height == 2
    assert world.registry.node(node).active is False
    assert node not in serving()
    told = world.block(lambda state: state.put(Table.LICENCE, name, replace(licence, staked=5)))  # active again
    assert told == [(ChangeKind.NODE_CHANGED, node)]
    assert node in serving()
    assert world.block(lambda state: state.put(Table.LICENCE, name, replace(licence, staked=6))) == []
    assert (world.registry.nodes_height, world.registry.height) == (3, 4)


def test_a_node_comes_serves_later_grants_and_goes(world: World) -> None:
    name, licence = world.licence(5)
    node = key("node", 5).public

    def activate(state: State) -> None:
        state.put(Table.NODE, node.id, NodeEntry(name, node, ("127.9.0.77:7400",)))
        active = replace(licence, status=LicenceStatus.ACTIVE, node=node.id, payee=licence.owner, since_epoch=1)
        state.put(Table.LICENCE, name, active)

    assert world.block(activate) == [(ChangeKind.NODE_ADDED, node.id)]
    assert world.registry.node(node.id).addresses == ("127.9.0.77:7400",)
    for each in world.registry.grants_of(world.alice.master.id):
        assigns_by_the_rule(world.registry, each, {node.id: 1})

    def retire(state: State) -> None:
        state.delete(Table.NODE, node.id)
        state.put(Table.LICENCE, name, licence)

    assert world.block(retire) == [(ChangeKind.NODE_REMOVED, node.id)]
    with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
        world.registry.node(node.id)
    assert world.block(activate) == [(ChangeKind.NODE_ADDED, node.id)]
    other = key("node", 6).public

    def rebind(state: State) -> None:
        retire(state)
        state.put(Table.NODE, other.id, NodeEntry(name, other, ()))
        state.put(Table.LICENCE, name, replace(licence, status=LicenceStatus.ACTIVE, node=other.id))

    assert sorted(world.block(rebind)) == sorted([(ChangeKind.NODE_REMOVED, node.id), (ChangeKind.NODE_ADDED, other.id)])
    moved = replace(world.licence(5)[1], owner=bytes(20))
    assert world.block(lambda state: state.put(Table.LICENCE, name, moved)) == [(ChangeKind.NODE_CHANGED, other.id)]


def test_users_devices_and_grants_change(world: World) -> None:
    alice, registry = world.alice, world.registry
    assert registry.user(alice.master.id) == alice  # and is kept from now on
    more = replace(alice, devices=(DeviceEntry(alice.devices[0].device, True), device(9)))
    told = world.block(lambda state: world.put_user(state, more))
    assert told[0] == (ChangeKind.USER_CHANGED, alice.master.id)
    assert sorted(told[1:]) == sorted([(ChangeKind.DEVICE_REVOKED, alice.devices[0].device), (ChangeKind.DEVICE_ADDED, device(9).device)])
    assert {each.user for each in registry.changes(1)[1:]} == {alice.master.id}
    assert registry.user(alice.master.id) == more
    carol = user("carol", device(3))
    assert world.block(lambda state: world.put_user(state, carol)) == [
        (ChangeKind.USER_ADDED, carol.master.id),
        (ChangeKind.DEVICE_ADDED, device(3).device),
    ]
    new = grant(carol, 8, 1)
    assert world.block(lambda state: world.put_grant(state, new)) == [(ChangeKind.GRANT_ADDED, new.grant)]
    assert registry.grant(new.grant) == new

    def end(state: State) -> None:
        state.delete(Table.GRANT, new.grant)
        state.delete(Table.GRANT_OF, new.owner + new.epoch.to_bytes(8, "big") + new.grant)

    assert world.block(end) == [(ChangeKind.GRANT_REMOVED, new.grant)]
    with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
        registry.grant(new.grant)
    assert list(registry.grants_of(carol.master.id)) == []
    assert world.block(lambda state: state.put(Table.QRNG_SERVER, SERVER.key.id, replace(SERVER, active=False))) == [
        (ChangeKind.QRNG_SERVER_CHANGED, SERVER.key.id)
    ]
    assert registry.qrng_server(SERVER.key.id).active is False
    assert [each.kind for each in registry.changes(0)] == [ChangeKind.EVERYTHING]


def test_who_was_merged_keeps_his_devices_and_is_written_to_as_the_other(world: World) -> None:
    alice, bob, registry = world.alice, world.bob, world.registry
    assert registry.user(bob.master.id) == bob
    assert registry.addressee(bob.master.id) == bob.master.id
    assert world.block(lambda state: world.put_user(state, bob, alice.master.id)) == [(ChangeKind.USER_CHANGED, bob.master.id)]
    assert registry.user(bob.master.id) == bob
    assert registry.addressee(bob.master.id) == registry.addressee(alice.master.id) == alice.master.id
    # A lost device of his is revoked in his own record, and what others change in theirs is theirs.
    changed = replace(bob, devices=(replace(bob.devices[0], revoked=True), *bob.devices[1:]))
    world.block(lambda state: world.put_user(state, changed, alice.master.id))
    assert registry.user(bob.master.id) == changed
    assert registry.user(alice.master.id) == alice
    with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
        registry.addressee(b"\x07" * 32)


def test_an_epoch_begins_with_its_first_block(world: World) -> None:
    registry = world.registry
    in_second_ms = START_MS + 2 * EPOCH_MS + 5
    assert registry.epoch(in_second_ms).number == 1  # its first block is still to come
    with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
        registry.epoch_at(2)
    world.block(lambda state: world.begin_epoch(state, 2))
    assert registry.epoch(in_second_ms).number == 2
    assert registry.epoch_at(2).boundary_ms == START_MS + 2 * EPOCH_MS
    world.block(lambda state: world.begin_epoch(state, 5))  # for two epochs there was no block
    assert registry.epoch(START_MS + 5 * EPOCH_MS).number == 5
    assert registry.epoch(START_MS + 3 * EPOCH_MS).number == 5  # whose clock is behind
    with pytest.raises(QuStreamError, match="E-REGISTRY-UNKNOWN"):
        registry.epoch_at(4)


def test_its_age_is_that_of_the_newest_block(world: World) -> None:
    assert world.registry.age_ms(START_MS + 9_000) == 8_000
    world.block()
    assert world.registry.age_ms(START_MS + 9_000) == 7_000
    assert world.registry.age_ms(START_MS) == 0


def test_answers_are_of_one_height_until_the_block_counts(world: World) -> None:
    more = replace(world.alice, devices=(device(0), device(5)))
    changes = world.apply(lambda state: world.put_user(state, more))  # in the store, and nobody has said so yet
    assert world.registry.user(world.alice.master.id) == world.alice
    assert world.registry.height == 1
    world.registry.executed(changes, world.progress())
    assert world.registry.user(world.alice.master.id) == more
    world.registry.close()
    assert world.views == 0


def test_what_is_kept_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "GRANTS_OF_MAX", 4)
    monkeypatch.setattr(under_test, "PAGE", 3)
    many = [grant(world.bob, 100 + number, number % 5) for number in range(12)]

    def sell(state: State) -> None:
        for each in many:
            world.put_grant(state, each)

    world.block(sell)
    newest = sorted(many, key=lambda each: (each.epoch, each.grant))[-4:]
    assert set(world.registry.grants_of(world.bob.master.id)) == set(newest)
    world.registry._grants._most = 5
    for each in many:
        assert world.registry.grant(each.grant) == each
    assert len(world.registry._grants) <= 5


async def test_the_node_looks_at_its_peers_only_when_they_changed(world: World) -> None:
    known = KnownNodes(world.registry, key("node", 0).id)
    news = known.look(START_MS + EPOCH_MS)
    assert news is not None
    assert (news.epoch, sorted(news.seeds), len(news.nodes)) == (1, [0, 1], 5)
    world.block(lambda state: world.put_user(state, replace(world.bob, devices=())))
    assert known.look(START_MS + EPOCH_MS + 1) is None
    name, licence = world.licence(3)
    world.block(lambda state: state.put(Table.LICENCE, name, replace(licence, status=LicenceStatus.REMOVED)))
    news = known.look(START_MS + EPOCH_MS + 2)
    assert news is not None
    assert len(news.nodes) == 4
