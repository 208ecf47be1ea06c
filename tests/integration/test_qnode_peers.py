"""Real daemons that make a network by themselves: links, records, kill -9, striking off; and keys served beside."""

from __future__ import annotations

import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.circle import Circle
from support.network import Network
from support.node import until
from support.places import free_port, host

from qnode.api.peers import PeersPage

pytestmark = pytest.mark.e2e


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    with Circle(tmp_path, 4) as made:
        yield made


def test_nodes_make_a_network_and_lose_and_find_each_other(circle: Circle) -> None:
    for node in circle.nodes:
        node.start()
    circle.until_linked(*circle.nodes)
    victim, others = circle.nodes[3], circle.nodes[:3]
    victim.kill()
    until(lambda: all(victim.id not in circle.links(node) for node in others), patience_s=60)
    victim.start()
    circle.until_linked(*circle.nodes)
    circle.writer.set_node_active(victim.key.id, False)
    circle.writer.write()
    until(lambda: all(victim.id not in circle.links(node) for node in others), patience_s=60)
    circle.until_linked(*others)
    until(lambda: not circle.links(victim), patience_s=60)
    for node in others:
        assert [line for line in node.log() if line["level"] not in ("info", "debug") and line["part"] != "qnode"] == []


def test_where_a_node_moves_to_reaches_all_and_is_remembered(circle: Circle) -> None:
    """It listens where the network file does not say, tells so, and is found there; those who were told know it after a restart too."""
    mover, others = circle.nodes[0], circle.nodes[1:]
    circle.listen[0] = f"{host(36)}:{free_port(36)}"
    circle.configure(0, addresses=[circle.listen[0]])
    for node in circle.nodes:
        node.start()
    circle.until_linked(*circle.nodes)
    asker = circle.nodes[1].key
    for number in (0, 2, 3):
        until(lambda number=number: circle.records(number, asker) == {mover.key.id: (circle.listen[0],)}, patience_s=60)  # type: ignore[misc]
    for node in circle.nodes:
        node.stop()
    others[2].start()
    assert circle.records(3, asker) == {mover.key.id: (circle.listen[0],)}


def test_a_network_that_serves_keys_is_linked_beside(network: Network, tmp_path: Path) -> None:
    """The six nodes of the test network, all on one machine: each is linked to each, and a letter goes through them meanwhile."""
    names = network.names("foundation") + network.names("community")
    pages = {name: tomllib.loads((network.directory / name / "qnode.toml").read_text())["status_listen"] for name in names}

    def links(name: str) -> int:
        with urllib.request.urlopen(f"http://{pages[name]}/v1/peers", timeout=60) as answer:
            return len(PeersPage.from_json(answer.read()).network.links)

    until(lambda: all(links(name) == 5 for name in names), patience_s=60)
    sender, reader = network.user("peers-sender"), network.user("peers-reader", requests=0)
    (tmp_path / "letter").write_bytes(b"a letter")
    assert sender("encrypt", tmp_path / "letter", "--to", reader.id, "-o", tmp_path / "letter.qs").code == 0
    assert reader("open", tmp_path / "letter.qs", "-o", tmp_path / "opened").code == 0
    assert (tmp_path / "opened").read_bytes() == b"a letter"
