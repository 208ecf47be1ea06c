"""One view: assignments by the seed of the grant's epoch, among those who were there."""

from __future__ import annotations

from copy import deepcopy

from msgspec.structs import replace

from qustream.model.network import NodeClass, NodeRecord
from qustream.registry.contents import LicensedNode
from qustream.registry.view import NetworkView
from qustream.rules.assignment import RANKS, ranked


def with_more_nodes(network, count: int, *, since_epoch: int):
    contents = deepcopy(network.writer.contents)
    example = next(iter(contents.nodes.values())).record
    for i in range(count):
        key = replace(example.key, ed25519=i.to_bytes(32, "big"))
        record = NodeRecord(key, NodeClass(1 + i % 2), f"operator {i}", i.to_bytes(16, "big"), (f"h{i}:1",), 1000, True)
        contents.nodes[key.id] = LicensedNode(record, since_epoch)
    return contents


def test_assignments_are_the_rules_with_the_seed_of_the_grants_epoch(network):
    view = NetworkView(with_more_nodes(network, 40, since_epoch=0))
    (grant,) = view.grants_of(network.alice)
    later = replace(grant, epoch=4)
    for each in (grant, later):
        seed = view.epochs.at(each.epoch).seed
        for j in (0, 1, 999):
            answer = view.assignment(each, j)
            assert set(answer) == set(NodeClass)
            for node_class, nodes in answer.items():
                assert nodes == ranked(view.nodes(node_class), each, j, node_class, seed)
                assert len(nodes) == RANKS
    assert view.assignment(grant, 0) != view.assignment(later, 0)


def test_an_answer_may_be_changed_without_harm(network):
    view = NetworkView(deepcopy(network.writer.contents))
    (grant,) = view.grants_of(network.alice)
    before = view.assignment(grant, 5)
    view.assignment(grant, 5)[NodeClass.COMMUNITY].clear()
    assert view.assignment(grant, 5) == before


def test_later_nodes_serve_later_grants_only(network):
    old = NetworkView(deepcopy(network.writer.contents))
    new = NetworkView(with_more_nodes(network, 40, since_epoch=2))
    (grant,) = old.grants_of(network.alice)
    for j in range(20):
        for epoch in (0, 1):
            assert new.assignment(replace(grant, epoch=epoch), j) == old.assignment(replace(grant, epoch=epoch), j)
    assert any(new.assignment(replace(grant, epoch=2), j) != old.assignment(replace(grant, epoch=2), j) for j in range(20))


def test_an_inactive_node_makes_room_and_moves_nobody_else(network):
    contents = with_more_nodes(network, 40, since_epoch=0)
    before = NetworkView(contents)
    (grant,) = before.grants_of(network.alice)
    first = before.assignment(grant, 3)[NodeClass.FOUNDATION]
    gone = first[0].key.id
    changed = deepcopy(contents)
    changed.nodes[gone] = changed.nodes[gone]._replace(record=replace(first[0], active=False))
    after = NetworkView(changed)
    assert after.node(gone).active is False
    assert after.assignment(grant, 3)[NodeClass.FOUNDATION][:4] == first[1:]
    assert after.assignment(grant, 3)[NodeClass.COMMUNITY] == before.assignment(grant, 3)[NodeClass.COMMUNITY]


def test_newer_grants_come_first(network):
    contents = deepcopy(network.writer.contents)
    (grant,) = contents.grants.values()
    for epoch in (3, 1, 2):
        newer = replace(grant, grant=bytes([epoch]) * 32, epoch=epoch)
        contents.grants[newer.grant] = newer
    assert [each.epoch for each in NetworkView(contents).grants_of(network.alice)] == [3, 2, 1, 0]
