"""What an operator sees of his node's peers: screen, page, metrics and doctor say the same of real nodes; a node cut off says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.circle import Circle
from support.node import QNode, until
from support.places import free_port, host

from qnode.api.peers import PeersPage
from qnode.api.status import StatusSnapshot

pytestmark = pytest.mark.e2e
COUNT = 4


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    """The first node's pages have an address that its commands find in the configuration."""
    made = Circle(tmp_path, COUNT)
    made.configure(0, status_listen=made.status_listen[0])
    try:
        yield made
    finally:
        codes = [node.stop() for node in made.nodes]
    assert set(codes) <= {0, None}, [node.log_path.read_text() for node in made.nodes]


def findings(node: QNode) -> dict[str, str]:
    """What doctor says: the name of each check to the rest of its line."""
    lines = [line for line in node.command("doctor").out.splitlines() if line[:4] in ("ok  ", "FAIL")]
    return {line[6:].partition(": ")[0]: line[:4].strip() + " " + line.partition(": ")[2] for line in lines}


def links_in(text: str) -> tuple[int, int]:
    [(ours, theirs)] = re.findall(r"(\d+) out, (\d+) in", text)
    return int(ours), int(theirs)


def test_screen_page_metrics_and_doctor_say_the_same(circle: Circle) -> None:
    for node in circle.nodes:
        node.start()
    circle.until_linked(*circle.nodes)
    node, others = circle.nodes[0], circle.nodes[1:]

    def settled() -> bool:
        """Each link is out at one end and in at the other."""
        ends = [StatusSnapshot.from_json(each.page("/v1/status")[1]).network.ways() for each in circle.nodes]
        return sum(end["out"] for end in ends) == sum(end["in"] for end in ends) == COUNT * (COUNT - 1) // 2

    until(settled)
    done = node.command("peers", "--json")
    page = PeersPage.from_json(done.out.encode())
    assert (done.code, page.node, page.network.known) == (0, node.id, COUNT - 1)
    assert {link.node for link in page.network.links} == {other.id for other in others}
    ways = (page.network.ways()["out"], page.network.ways()["in"])

    table = node.command("peers").out
    assert {row.split()[0] for row in table.splitlines()[1:COUNT]} == {other.id[:14] for other in others}
    assert links_in(table.split("\n\n")[-1].splitlines()[0]) == ways
    [line] = [line for line in node.command("status").out.splitlines() if line.startswith("links")]
    assert links_in(line) == ways
    assert f"of {COUNT - 1} known nodes" in line
    families = text_string_to_metric_families(node.page("/metrics")[1].decode())
    shown = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    assert (shown["qnode_links", "out"], shown["qnode_links", "in"]) == ways
    assert shown["qnode_known_nodes",] == COUNT - 1

    found = findings(node)
    assert found["peers"] == f"ok linked: {ways[0]} out, {ways[1]} in; {COUNT - 1} nodes known, the last dial to 0 of them failed"
    assert found["reachable"].startswith("ok reached " if ways[1] else "ok not known")
    assert {link.node for link in PeersPage.from_json(node.page("/v1/peers")[1]).network.links} == {other.id for other in others}


def test_doctor_tries_the_way_before_the_node_runs(circle: Circle) -> None:
    node, others = circle.nodes[0], circle.nodes[1:]
    for other in others[:2]:
        other.start()
    until(lambda: all(other.page("/livez")[0] == 200 for other in others[:2]))
    found = findings(node)
    assert found["peers"] == "ok 3 of 3 known nodes were tried, 2 answered; E-PEER-UNREACHABLE 1"
    assert found["reachable"] == f"ok {circle.listen[0]} reached by 2 of 2"
    node.start()  # nothing of doctor is left in its way
    circle.until_linked(node, *others[:2])


def test_a_node_that_is_cut_off_says_so_and_one_that_nobody_reaches_too(circle: Circle) -> None:
    node, others = circle.nodes[0], circle.nodes[1:]
    nowhere = f"{host(37)}:{free_port(37)}"
    circle.writer.set_node_addresses(node.key.id, (nowhere,))
    circle.writer.write()
    node.start()

    def codes() -> dict[str, str]:
        return {c.code: c.detail for c in node.status().conditions if not c.stops}

    until(lambda: "E-NO-PEERS" in codes(), patience_s=180)
    assert f"none of {COUNT - 1} known nodes is linked; the last dials ended with: E-PEER-UNREACHABLE" in codes()["E-NO-PEERS"]
    assert findings(node)["peers"].startswith(f"FAIL E-NO-PEERS: none of {COUNT - 1} known nodes is linked")
    for other in others:
        other.start()
    circle.until_linked(*circle.nodes)  # by its own dials alone
    until(lambda: "E-NO-PEERS" not in codes())
    assert node.status().network.ways() == {"out": COUNT - 1, "in": 0}
    until(lambda: "E-UNREACHABLE" in codes(), patience_s=400)  # nodes are asked every five minutes
    assert codes()["E-UNREACHABLE"].endswith(f"did not get through: {nowhere} E-PEER-UNREACHABLE")
    assert findings(node)["reachable"].startswith(f"FAIL E-UNREACHABLE: {nowhere} E-PEER-UNREACHABLE")
    assert "NOT reached" in node.command("status").out
    # Of all this the journal says nothing.
    assert [line for line in node.log() if line["event"] not in ("listening", "qrngd", "not ready", "stopping")] == []
