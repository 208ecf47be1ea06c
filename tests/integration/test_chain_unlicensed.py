"""A node whose licence is not active: it follows the chain by asking as a stranger, is activated through its own pages alone, and then is
linked, and the other way round, without a start in between. Real daemons on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.chain_circle import PASSPHRASE, QST, ChainCircle, ChainNodeProcess, fast
from support.daemon import until
from support.living_chain import OPERATOR
from support.places import free_port, host
from support.shell import Person

from qustream.model.genesis import Genesis, GenesisAccount, GenesisLicence
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.model.network import NodeClass
from qustream.model.state import Parameters
from qustream.wire.transactions import UpdateNode

pytestmark = [pytest.mark.e2e]

IDLE, NEW = 7, 5


class Open(ChainCircle):
    """Three validators, and a licence that runs no node, whose owner has twelve words."""

    def _genesis(self, parameters: Parameters) -> Genesis:
        made = super()._genesis(parameters)
        accounts = [*made.accounts, GenesisAccount(OPERATOR.account, 1_000_000 * QST)]
        idle = GenesisLicence(self.licence(IDLE), NodeClass.COMMUNITY, OPERATOR.account, "", 0, None)
        return replace(made, accounts=tuple(sorted(accounts, key=lambda each: each.account)), licences=(*made.licences, idle))

    def newcomer(self, name: str, number: int = NEW, **settings: object) -> ChainNodeProcess:
        """A node that genesis does not name."""
        return ChainNodeProcess(self.folder / name, number, self.folder / "genesis.bin", votes=False, **settings)


@pytest.fixture(scope="module")
def circle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with Open(tmp_path_factory.mktemp("open"), 3, parameters=fast(rotation_ms=15_000)) as circle:
        circle.start()
        circle.until_height(3)
        yield circle


def is_linked(node: ChainNodeProcess) -> bool:
    return bool(node.status().network.links)


def is_licensed(node: ChainNodeProcess) -> bool:
    return node.status().node_class != "unlicensed"


def follows(circle: Open, node: ChainNodeProcess) -> None:
    """It comes to the head, and a little further, with the state that the others have."""
    circle.until_height(max(each.height for each in circle.validators) + 2, [node])
    circle.agree(node.height, [node, circle.nodes[0]])


def test_a_new_node_is_activated_by_its_own_pages_alone_and_linked_and_retired_again(circle: Open) -> None:
    node = circle.newcomer("new")
    licence = licence_text(circle.licence(IDLE))
    try:
        node.start()
        follows(circle, node)
        status = node.status()
        assert (status.node_class, status.network.links, status.ready) == ("unlicensed", (), False)
        pid = node.process.pid if node.process is not None else 0
        person = Person(OPERATOR, circle.folder / "operator", f"http://{node.pages}")
        (person.credentials / "qnode").write_bytes(PASSPHRASE)
        assert "next        qnode licence activate LICENCE" in person("qnode", "status", "--config", node.config, code=1)
        said = person("qnode", "doctor", "--config", node.config, code=1)
        assert "E-PEER-UNLICENSED" in said
        assert "it follows the chain all the same" in said
        assert "ok    peers: nobody is linked to a node without an active licence; it asks 3 of 3 nodes as a stranger" in said
        assert not any(each.code == "E-NO-PEERS" for each in status.conditions)
        about = (licence, "--config", node.config, "--address", node.listen, "--yes")
        person("qnode", "licence", "activate", *about)
        until(lambda: is_licensed(node) and is_linked(node), patience_s=90)
        # From now on it is linked, and asks nobody as a stranger.
        until(lambda: all(is_linked(each) and len(each.status().network.links) == 3 for each in circle.validators), patience_s=90)
        until(lambda: node.ledger.sync.nodes["stranger"] == 0)
        fetched = node.ledger.sync.fetched["stranger"]
        assert fetched > 0
        follows(circle, node)
        assert node.ledger.sync.fetched["stranger"] <= fetched + 1

        # Retired, it loses its links, and follows as it did before.
        person("qnode", "licence", "retire", licence, "--yes")
        until(lambda: not is_licensed(node) and not is_linked(node), patience_s=90)
        follows(circle, node)
        assert node.ledger.sync.fetched["stranger"] > fetched
        person("qnode", "licence", "activate", *about)
        until(lambda: is_licensed(node) and is_linked(node), patience_s=90)
        assert node.process is not None
        assert node.process.pid == pid
        person("qnode", "licence", "retire", licence, "--yes")
        until(lambda: not is_licensed(node), patience_s=90)
    finally:
        assert node.stop() in (0, None)


def has_joined(node: ChainNodeProcess) -> bool:
    """It has taken a state in, and started anew with the chain."""
    lines = [line["event"] for line in node.log()]
    return "the state is here" in lines and lines[::-1].index("listening") < lines[::-1].index("the state is here")


def move(circle: Open, node: ChainNodeProcess) -> None:
    """To where genesis has it not; the chain says so."""
    new = f"{host(30 + node.number)}:{free_port(30 + node.number)}"
    raw = circle.signed(circle.owners[node.number], UpdateNode(circle.licence(node.number), (new,)), 0)
    assert node.submit(raw)[0] < 300
    circle.until(lambda each: each.has_executed(raw), [node])
    assert node.stop() == 0
    node.listen = new
    node.configure()
    node.start()
    circle.until_height(node.height + 1, [node])


def test_one_that_joins_late_without_a_licence_takes_the_state_of_whom_its_operator_names(tmp_path: Path) -> None:
    """The one node that genesis names is not where it was."""
    with Open(tmp_path, 1, parameters=fast(rotation_ms=10_000)) as circle:
        circle.start()
        circle.until_height(2)
        [first] = circle.validators
        move(circle, first)
        circle.until(lambda node: node.ledger.rotation >= 3 and node.ledger.given)
        pinned = first.chain_page("checkpoint")["checkpoint"]
        alone = circle.newcomer("alone", checkpoint=pinned)
        told = circle.newcomer("told", NEW + 1, checkpoint=pinned, nodes=[named(first)])
        try:
            alone.start()
            told.start()
            until(lambda: has_joined(told), patience_s=90)
            follows(circle, told)
            assert told.ledger.first > 1
            assert told.ledger.sync.nodes == {"link": 0, "stranger": 1}
            # One that nobody has told where anybody is says so.
            assert (alone.ledger.sync.known, alone.ledger.sync.nodes) == (1, {"link": 0, "stranger": 0})
            screen = Person(OPERATOR, tmp_path / "operator", f"http://{alone.pages}")("qnode", "status", "--config", alone.config, code=1)
            assert "a state is looked for among 0 linked nodes" in screen
        finally:
            assert {alone.stop(), told.stop()} <= {0, None}


def named(node: ChainNodeProcess) -> str:
    return f"{to_text(IdKind.NODE, node.key.id)}@{node.listen}"
