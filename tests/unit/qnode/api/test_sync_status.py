"""What an operator reads of how the chain comes here."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from qnode.api.sync_status import StrangersStatus, SyncStatus, sync_lines, sync_metrics

FOLLOWS = SyncStatus(
    licensed=False,
    behind=7,
    nodes={"link": 0, "stranger": 4},
    fetched={"link": 1, "stranger": 90},
    refused={"link": 0, "stranger": 2},
    known=5,
)


def test_a_node_as_most_are_says_nothing() -> None:
    assert sync_lines(SyncStatus(nodes={"link": 8, "stranger": 0})) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (FOLLOWS, ["asking 4 nodes as a stranger, 7 blocks behind", "activate LICENCE, when the chain is here"]),
        (replace(FOLLOWS, behind=0), ["asking 4 nodes as a stranger", "next        qnode licence activate LICENCE"]),
        (replace(FOLLOWS, nodes={}), ["none of the 5 nodes that it could ask answers", 'nodes = ["qn1…@host:port"]']),
        (
            replace(FOLLOWS, given_refused="E-PEER-LIMIT"),
            ["no licence is active", "qnode licence", "has taken a transaction of this node: E-P"],
        ),
        (replace(FOLLOWS, licensed=True), ["asks        4 nodes as a stranger, for nobody is linked"]),
    ],
)
def test_one_without_a_licence_says_what_it_does_and_what_comes_next(status: SyncStatus, said: list[str]) -> None:
    lines = sync_lines(status)
    assert len(lines) == len(said)
    assert all(each in line for each, line in zip(said, lines, strict=True)), lines


def test_metrics_have_bounded_labels_and_all_there_is() -> None:
    strangers = StrangersStatus({"blocks": 3}, {"chunks": 4}, 5, 6, 7)
    found = {sample.name: (sample.labels, sample.value) for family in sync_metrics(FOLLOWS, strangers) for sample in family.samples}
    assert found["qnode_chain_licensed"] == ({}, 0)
    assert found["qnode_sync_behind_blocks"] == ({}, 7)
    assert found["qnode_sync_blocks_total"] == ({"source": "stranger"}, 90)
    assert found["qnode_strangers_answered_total"] == ({"kind": "blocks"}, 3)
    assert found["qnode_strangers_refused_total"] == ({"kind": "chunks"}, 4)
    assert (found["qnode_strangers_waiting"][1], found["qnode_strangers_shed_total"][1]) == (5, 6)
    assert found["qnode_strangers_sent_bytes_total"] == ({}, 7)
