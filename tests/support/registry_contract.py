"""What every registry answers, whoever it is (`proto/spec/registry.md`, "Questions")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text
from qustream.model.network import Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry import Registry
from qustream.rules.assignment import RANKS, ranked

__all__ = ["Expected", "answers_every_question", "assigns_by_the_rule", "epochs_follow_genesis", "refuses_unknown_names"]


@dataclass(frozen=True)
class Expected:
    """What the registry knows. `grants`: of the first user alone."""

    height: int
    chain: str
    genesis_ms: int
    epoch_ms: int
    nodes: Sequence[NodeRecord]
    server: QrngServerRecord
    users: Sequence[UserRecord]
    grants: Sequence[Grant]


def answers_every_question(registry: Registry, expected: Expected) -> None:
    assert (registry.height, registry.chain) == (expected.height, expected.chain)
    assert registry.nodes_height <= registry.height
    for record in expected.nodes:
        assert registry.node(record.key.id) == record
    for node_class in NodeClass:
        of_class = [record for record in expected.nodes if record.node_class is node_class]
        assert list(registry.nodes(node_class)) == sorted(of_class, key=lambda record: record.key.id)
    assert registry.qrng_server(expected.server.key.id) == expected.server
    for user in expected.users:
        assert registry.user(user.master.id) == user
    for grant in expected.grants:
        assert registry.grant(grant.grant) == grant
    in_order = sorted(expected.grants, key=lambda grant: (-grant.epoch, grant.grant))
    assert list(registry.grants_of(expected.users[0].master.id)) == in_order
    assert list(registry.grants_of(expected.users[1].master.id)) == []
    assert list(registry.grants_of(bytes(32))) == []
    assert list(registry.changes(registry.height)) == []


def refuses_unknown_names(registry: Registry) -> None:
    for ask, kind in [
        (registry.node, IdKind.NODE),
        (registry.qrng_server, IdKind.QRNG),
        (registry.user, IdKind.USER),
        (registry.grant, IdKind.GRANT),
    ]:
        for name in (b"\x07" * 32, b"short", b""):
            with pytest.raises(QuStreamError) as caught:
                ask(name)
            assert caught.value.code == "E-REGISTRY-UNKNOWN"
            assert len(name) != 32 or to_text(kind, name) in caught.value.detail
    for number in (-1, 1 << 63):
        with pytest.raises(QuStreamError) as caught:
            registry.epoch_at(number)
        assert caught.value.code == "E-REGISTRY-UNKNOWN"


def epochs_follow_genesis(registry: Registry, expected: Expected) -> None:
    """The first two epochs, which both must have begun."""
    genesis_ms, epoch_ms = expected.genesis_ms, expected.epoch_ms
    first = registry.epoch(genesis_ms)
    assert (first.number, first.boundary_ms, first.length_ms) == (0, genesis_ms, epoch_ms)
    assert registry.epoch(genesis_ms + epoch_ms - 1).number == 0
    second = registry.epoch(genesis_ms + epoch_ms)
    assert second == registry.epoch_at(1)
    assert (second.number, second.boundary_ms, second.length_ms) == (1, genesis_ms + epoch_ms, epoch_ms)
    assert second.seed != first.seed
    with pytest.raises(QuStreamError) as caught:
        registry.epoch(genesis_ms - 1)
    assert caught.value.code == "E-CHAIN-STALE"


def assigns_by_the_rule(registry: Registry, grant: Grant, since_epoch: dict[bytes, int]) -> None:
    """`since_epoch`: of nodes that are not there from the beginning."""
    seed = registry.epoch_at(grant.epoch).seed
    for j in (0, 1, 999):
        answer = registry.assignment(grant, j)
        assert set(answer) == set(NodeClass)
        for node_class, nodes in answer.items():
            candidates = [node for node in registry.nodes(node_class) if since_epoch.get(node.key.id, 0) <= grant.epoch]
            assert nodes == ranked(candidates, grant, j, node_class, seed)
            assert len(nodes) <= RANKS
        answer[NodeClass.COMMUNITY].clear()  # an answer may be changed without harm
        assert registry.assignment(grant, j) != answer or not candidates
