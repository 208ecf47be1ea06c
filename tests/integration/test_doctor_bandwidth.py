"""`qnode doctor` measures the line with real daemons, before its node runs and beside it. How fast this machine is, is not judged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.circle import Circle
from support.node import QNode

from qnode.core import bulk_limits as limits

pytestmark = pytest.mark.e2e
MEASURED = re.compile(r"[\d.]+ Mbit/s down, [\d.]+ Mbit/s up, the median of (\d) \(")


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    with Circle(tmp_path, 4) as made:
        yield made


def bandwidth(node: QNode) -> str:
    """The line of doctor, without its verdict."""
    [line] = [line for line in node.command("doctor").out.splitlines() if line[6:].startswith("bandwidth: ")]
    assert line.startswith("ok  ") or "E-BANDWIDTH" in line  # a loaded machine may be slower than a line must be
    return line


def test_the_line_is_measured_with_three_nodes_of_other_operators(circle: Circle) -> None:
    node, *others = circle.nodes
    assert "not measured: no other node could be asked (E-PEER-UNREACHABLE 3)" in bandwidth(node)
    for other in others:
        other.start()
    circle.until_linked(*others)
    found = MEASURED.search(bandwidth(node))
    assert found is not None
    assert found[1] == "3"
    node.start()
    circle.until_linked(*circle.nodes)
    assert MEASURED.search(bandwidth(node)), "beside a running node, too"
    circle.until_linked(*circle.nodes)  # and its links were not disturbed
    for _ in range(limits.PROBES_PEER + 1):  # half as many do, if none fails: one that does leaves its peer some
        if "E-PEER-LIMIT 3" in (said := bandwidth(node)):
            break
    assert "not measured: no other node could be asked (E-PEER-LIMIT 3)" in said
    for each in circle.nodes:
        assert [line for line in each.log() if line["level"] in ("warning", "error") and line["part"] not in ("qnode", "feed")] == []
