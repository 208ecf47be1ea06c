"""`qnode validator evidence` and `report`: what a node has seen comes to the chain from somebody else's account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click.testing
import msgspec
import pytest
from msgspec.structs import replace
from support.ledger_world import voter
from support.living_chain import BUYER, Town, living, peopled

from qnode.cli import cli
from qnode.service.accusing import Accusation
from qustream.errors import QuStreamError
from qustream.model.ids import licence_text
from qustream.model.state import IncidentKind, LicenceStatus
from qustream.wire.chain import incident_id
from qustream.wire.chain_entries import EvidenceLine
from qustream.wire.codec import encode
from qustream.wire.consensus import Kind, Statement
from qustream.wire.transactions import DoubleSign


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This chain has no block time to wait for."""
    monkeypatch.setattr("qustream.client.chain.LOOK_S", 0.02)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with living(tmp_path / "town", peopled()) as made:
        yield made


@pytest.fixture
def buyer(tmp_path: Path, town: Town) -> Path:
    return BUYER.wallet(tmp_path / "buyer", town)


def qnode(wallet: Path, *arguments: object) -> click.testing.Result:
    words = ["validator", str(arguments[0]), "--wallet", str(wallet), "--wallet-passphrase-file", str(wallet / "passphrase")]
    return click.testing.CliRunner().invoke(cli, [*words, *map(str, arguments[1:])])


def refusal(wallet: Path, *arguments: object) -> str:
    error = qnode(wallet, *arguments).exception
    assert isinstance(error, QuStreamError), error
    return error.code


def twice(chain: str, first: Kind = Kind.NOTAR, second: Kind = Kind.NOTAR) -> DoubleSign:
    """What the chain's only validator has signed in one view."""
    said = [Statement(chain, 1, 5, kind, bytes([number]) * 32) for number, kind in ((1, first), (2, second))]
    return DoubleSign(voter(0).public, said[0], voter(0).sign(said[0]), said[1], voter(0).sign(said[1]))


def seen(town: Town, action: DoubleSign) -> str:
    """A node that saw it and whose account has nothing; the incident's id."""
    licence = town.world.licences[0]
    town.held.append(Accusation(licence, 1, 5, action, "E-LEDGER-FUNDS"))
    return incident_id(IncidentKind.DOUBLE_SIGN, licence, 1).hex()


def test_what_a_node_could_not_pay_for_somebody_else_reports(town: Town, buyer: Path, tmp_path: Path) -> None:
    assert "no offence" in qnode(buyer, "evidence").stderr
    name, file = seen(town, twice(town.name)), tmp_path / "offence.json"
    assert (
        f"{name}: licence {licence_text(town.world.licences[0])} in view 5 of rotation 1; E-LEDGER-FUNDS" in qnode(buyer, "evidence").stdout
    )
    [line] = json.loads(qnode(buyer, "evidence", "--json").stdout)
    assert (line["id"], line["action"], line["first"]) == (name, "", "notar " + "01" * 32)
    assert qnode(buyer, "evidence", name, "-o", file).exit_code == 0
    assert refusal(buyer, "evidence", name, "-o", file) == "E-FILE-EXISTS"
    asked = qnode(buyer, "report", file)
    assert asked.exit_code == 2
    assert "signed notar and notar" in asked.stderr
    done = qnode(buyer, "report", file, "--yes", "--json")
    assert done.exit_code == 0, done.exception
    events = [event["name"] for event in json.loads(done.stdout)["events"]]
    assert events == ["validator-slashed", "licence-removed"]
    assert town.world.licence(0).status is LicenceStatus.REMOVED
    assert refusal(buyer, "report", file, "--yes") == "E-LEDGER-KNOWN"


def test_what_proves_nothing_is_not_sent(town: Town, buyer: Path, tmp_path: Path) -> None:
    height, good, file = town.world.progress.height, twice(town.name), tmp_path / "offence.json"

    def told(action: bytes, chain: str = town.name) -> str:
        file.write_bytes(msgspec.json.encode(EvidenceLine(chain, "", "", 1, 5, "", "", "", action.hex())))
        return refusal(buyer, "report", file, "--yes")

    assert told(b"\x90") == "E-LEDGER-FORM"
    assert told(encode(good), "another") == "E-LEDGER-FORM"
    assert told(encode(twice("another"))) == "E-LEDGER-FORM"
    assert told(encode(twice(town.name, Kind.NOTAR, Kind.PROPOSAL))) == "E-LEDGER-EVIDENCE"
    assert told(encode(replace(good, second_signature=good.first_signature))) == "E-LEDGER-SIGNATURE"
    file.write_text("{}")
    assert refusal(buyer, "report", file, "--yes") == "E-LEDGER-FORM"
    assert town.world.progress.height == height


def test_which_evidence_and_where_to(town: Town, buyer: Path, tmp_path: Path) -> None:
    assert qnode(buyer, "evidence", "ab" * 32).exit_code == 2
    assert qnode(buyer, "evidence", "-o", tmp_path / "x").exit_code == 2
    assert qnode(buyer, "evidence", "../status", "-o", tmp_path / "x").exit_code == 2
    assert refusal(buyer, "evidence", "ab" * 32, "-o", tmp_path / "x") == "E-LEDGER-UNKNOWN"
    # A node that makes something up is found out before anything is written.
    name = seen(town, replace(twice(town.name), first_signature=bytes(2420)))
    assert refusal(buyer, "evidence", name, "-o", tmp_path / "x") == "E-LEDGER-SIGNATURE"
    assert not (tmp_path / "x").exists()
