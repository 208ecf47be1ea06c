"""Choices of grant, index, recipients and nodes; what a revocation achieved. No node runs here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from support.village import DAY_MS, EPOCH_MS, User, Village

from qustream.client.answers import CheckedBlock
from qustream.client.plan import ALERT_NODES, DEFAULT_LIFETIME_MS, FAREWELL_MS, Plan
from qustream.envelope import BlockReference, EnvelopeCore, Header
from qustream.errors import QuStreamError, fault
from qustream.identity.user import UserHome
from qustream.model.network import NodeClass
from qustream.wire.keys import Erasure

FOUNDATION, COMMUNITY = NodeClass.FOUNDATION, NodeClass.COMMUNITY


def plan_of(user: User, *, clock_ms: Any = None) -> Plan:
    return Plan(user.device, user.registry(), clock_ms or user.village.clock_ms)


def code_of(call: Any) -> str:
    with pytest.raises(QuStreamError) as caught:
        call()
    return caught.value.code


def test_recipients_are_named_by_text_or_id_each_once(alice: User, bob: User) -> None:
    plan = plan_of(alice)
    named = plan.recipients([bob.text, bob.device.user, alice.text])
    assert named == [(bob.device.user, bob.device.hpke.public), (alice.device.user, alice.device.hpke.public)]
    assert plan.recipients(bob.text) == plan.recipients(bob.device.user) == named[:1]
    assert code_of(lambda: plan.recipients([])) == "E-REQUEST-INVALID"
    assert code_of(lambda: plan.recipients(["bob"])) == "E-ID-TEXT"
    assert code_of(lambda: plan.recipients([b"n" * 32])) == "E-REGISTRY-UNKNOWN"
    assert code_of(lambda: plan.recipients([bytes([n]) * 32 for n in range(65)])) == "E-REQUEST-INVALID"


def test_an_index_is_reserved_before_anybody_is_asked(alice: User, bob: User) -> None:
    plan = plan_of(alice)
    recipients = plan.recipients([bob.text])
    orders = [plan.order(recipients, None) for _ in range(3)]
    assert [order.index for order in orders] == [orders[0].index, orders[0].index + 1, orders[0].index + 2]
    assert orders[0].recipients == (bob.device.user,)
    assert orders[0].lifetime_ms == DEFAULT_LIFETIME_MS
    assert orders[0].ruid != orders[1].ruid


def test_a_lifetime_defaults_to_what_the_grant_paid_for(net: Village, bob: User) -> None:
    plan = plan_of(net.user("short", lifetime_max_ms=DAY_MS))
    recipients = plan.recipients([bob.text])
    assert plan.order(recipients, None).lifetime_ms == DAY_MS
    assert plan.order(recipients, DAY_MS).lifetime_ms == DAY_MS
    assert code_of(lambda: plan.order(recipients, DAY_MS + 1)) == "E-LIFETIME"
    assert code_of(lambda: plan.order(recipients, 999)) == "E-REQUEST-INVALID"


def test_a_grant_that_paid_for_less_is_passed_over(net: Village, bob: User) -> None:
    user = net.user("two", lifetime_max_ms=DAY_MS)
    net.grant(user, 8, lifetime_max_ms=5 * DAY_MS)
    net.writer.write()
    plan = plan_of(user)
    long = next(grant for grant in user.registry().grants_of(user.device.user) if grant.lifetime_max_ms == 5 * DAY_MS)
    assert plan.order(plan.recipients([bob.text]), 3 * DAY_MS).grant == long.grant


def test_the_grant_that_ends_first_goes_first_and_then_the_next(net: Village, bob: User) -> None:
    user = net.user("three", requests=1)
    offer = user.device.new_grant_offer(1, net.clock_ms())
    later = net.writer.grant(offer, user.device.user, lifetime_max_ms=DAY_MS, epoch=1)
    net.writer.write()
    plan = plan_of(user, clock_ms=lambda: net.clock_ms() + EPOCH_MS)  # epoch 1: both are good
    recipients = plan.recipients([bob.text])
    assert plan.order(recipients, None).grant != later.grant
    assert plan.order(recipients, None).grant == later.grant
    assert code_of(lambda: plan.order(recipients, None)) == "E-GRANT-EXHAUSTED"


def test_grants_that_have_not_begun_or_have_ended_are_not_used(net: Village, bob: User) -> None:
    user = net.user("four", requests=4)
    for epochs, usable in [(0, 1), (1, 1), (2, 0)]:
        plan = plan_of(user, clock_ms=lambda epochs=epochs: net.clock_ms() + epochs * EPOCH_MS)
        assert len(plan.usable_grants()) == usable
    assert code_of(lambda: plan.order(plan.recipients([bob.text]), None)) == "E-GRANT-UNKNOWN"


def test_ended_grants_make_room_in_a_book_that_fills(net: Village, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qustream.identity.grants.FORGET_ABOVE", 0)
    user = net.user("ended", requests=4)
    for epochs, kept in [(0, 1), (1, 1), (2, 0)]:
        plan_of(user, clock_ms=lambda epochs=epochs: net.clock_ms() + epochs * EPOCH_MS).usable_grants()
        assert len(user.device.grants.records()) == kept


def test_a_grant_of_another_device_of_the_user_is_not_ours_to_use(net: Village, bob: User, tmp_path: Any) -> None:
    user = net.user("five")
    other = UserHome.create(tmp_path / "other", user.words, "other", b"x", stripe=1, now_ms=net.clock_ms())
    plan = Plan(other, user.registry(), net.clock_ms)
    assert plan.usable_grants() == []
    assert code_of(lambda: plan.order(plan.recipients([bob.text]), None)) == "E-GRANT-UNKNOWN"


def test_an_expired_device_spends_nothing(net: Village, bob: User) -> None:
    user = net.user("six")
    plan = plan_of(user, clock_ms=lambda: net.clock_ms() + 91 * DAY_MS)
    assert code_of(lambda: plan.order([(bob.device.user, b"")], None)) == "E-DEVICE-EXPIRED"
    assert plan_of(user).order([(bob.device.user, b"")], None).index == 0


def test_every_node_gets_a_seed_of_its_own(alice: User, bob: User) -> None:
    plan = plan_of(alice)
    gather = plan.gather_keys(plan.order(plan.recipients([bob.text]), None))
    asks = gather.start() + gather.waited() + gather.waited()
    assert len(asks) == 10
    assert {ask.id for ask in asks} == {node.id for node in alice.village.nodes}


def test_alerts_are_asked_of_some_nodes_of_different_operators(alice: User) -> None:
    told = plan_of(alice).alerts(0)
    asks = told.start()
    for node_class in NodeClass:
        operators = [ask.node.operator for ask in asks if ask.node.node_class is node_class]
        assert len(operators) == len(set(operators)) == ALERT_NODES
    assert told.patience_ms == FAREWELL_MS


def header_of(user: User, sender: bytes | None = None, expires_ms: int = 10) -> Header:
    registry = user.registry()
    blocks = [BlockReference(node.key.id, c, bytes(32)) for c in NodeClass for node in list(registry.nodes(c))[:3]]
    core = EnvelopeCore(
        registry.chain, sender or user.device.user, user.device.certificate, (), b"g" * 32, 0, tuple(blocks), None, 0, expires_ms
    )
    empty = {field.name: b"" for field in dataclasses.fields(Header)}
    return Header(**empty | {"core": core})


@pytest.mark.parametrize(
    ("erased", "holds"),
    [((0, 0), False), ((1, 1), False), ((2, 0), True), ((0, 2), True), ((3, 3), True), ((1, 2), True)],
)
def test_a_revocation_holds_when_two_of_one_class_have_erased(alice: User, erased: tuple[int, int], holds: bool) -> None:
    plan, header = plan_of(alice), header_of(alice)
    told = plan.revoke(header)
    asks = told.start()
    for ask in asks:
        mine = [other for other in asks if other.node.node_class is ask.node.node_class].index(ask)
        if mine < erased[ask.node.node_class - 1]:
            told.answers[ask.id] = Erasure(header.core.chain, ask.id, b"g" * 32, 0, 77)
        else:
            told.completed(ask, fault("E-PEER-UNREACHABLE"))
    done = plan.revoked(header, told, 6_000)
    assert done.holds is holds
    assert [node.was_before for node in done.nodes] == [node.erased_ms is not None for node in done.nodes]
    assert not any(node.was_before for node in plan.revoked(header, told, 5_000).nodes)  # two clocks may differ by so much
    assert [node.erased_ms for node in done.nodes].count(77) == sum(erased)
    assert all((node.erased_ms is None) == (node.error is not None) for node in done.nodes)


def test_a_node_that_has_left_the_network_is_reported(net: Village, alice: User) -> None:
    plan, header = plan_of(alice), header_of(alice)
    blocks = (BlockReference(b"x" * 32, FOUNDATION, bytes(32)), *header.core.blocks[1:])
    core = EnvelopeCore(*(blocks if name == "blocks" else getattr(header.core, name) for name in EnvelopeCore.__struct_fields__))
    strange = dataclasses.replace(header, core=core)
    assert len(plan.nodes_of(strange)) == 5
    done = plan.revoked(strange, plan.revoke(strange), 0)
    assert next(node for node in done.nodes if node.node == b"x" * 32).error.code == "E-REGISTRY-UNKNOWN"
    assert len(net.nodes) == 10


def test_only_the_sender_revokes(alice: User, bob: User) -> None:
    assert code_of(lambda: plan_of(bob).revoke(header_of(alice))) == "E-NOT-SENDER"


def test_after_its_end_a_short_class_is_an_expired_envelope(alice: User) -> None:
    plan = plan_of(alice)
    for code in ("E-CLASS-SHORT", "E-NOT-HELD"):
        assert plan.explained(header_of(alice), fault(code)).code == "E-ENVELOPE-EXPIRED"
        assert plan.explained(header_of(alice, expires_ms=1 << 60), fault(code)).code == code
    assert plan.explained(header_of(alice), fault("E-WIRE-MALFORMED")).code == "E-WIRE-MALFORMED"


def test_held_blocks_are_copies_and_the_first_expiry_counts(alice: User) -> None:
    plan = plan_of(alice)
    nodes = [alice.registry().node(node.id) for node in alice.village.nodes[:2]]
    blocks = {
        node.key.id: CheckedBlock(node, b"m" * 10, b"s", b"", b"h" * 32, expires, None) for node, expires in zip(nodes, (7, 5), strict=True)
    }
    order = plan.order(plan.recipients([alice.text]), None)
    held = plan.held_blocks(order, blocks)
    held[0].spend()
    assert blocks[nodes[0].key.id].material == b"m" * 10
    assert plan.about([], blocks)["expires_ms"] == 5
