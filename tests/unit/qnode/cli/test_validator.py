"""`qnode licence`, `qnode stake` and `qnode validator` as an operator types them, against a chain that goes on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest
from support.living_chain import BUYER, DAY_MS, OPERATOR, PASSPHRASE, Town, living, peopled

from qnode.cli import cli
from qnode.cli.genesis_file import VoteFile
from qnode.config import load_config
from qustream import settings
from qustream.cli import cli as user_cli
from qustream.errors import QuStreamError
from qustream.identity import files, voting
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.model.state import LicenceStatus
from qustream.wire.codec import encode

SERVER = to_text(IdKind.QRNG, bytes(32))
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This chain has no block time to wait for."""
    monkeypatch.setattr("qustream.client.chain.LOOK_S", 0.02)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with living(tmp_path / "town", peopled(top_up_ms=30 * DAY_MS)) as made:
        yield made


@pytest.fixture
def operator(tmp_path: Path, town: Town) -> Path:
    return OPERATOR.wallet(tmp_path / "operator", town)


@pytest.fixture
def buyer(tmp_path: Path, town: Town) -> Path:
    return BUYER.wallet(tmp_path / "buyer", town)


@pytest.fixture
def config(tmp_path: Path, town: Town) -> Path:
    """A node of this chain that votes."""
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "passphrase").write_bytes(PASSPHRASE)
    (folder / "passphrase").chmod(0o600)
    made = run("init", "--dir", folder, "--chain", town.name, "--network-key", to_text(IdKind.NETWORK, bytes(32)),
               "--qrngd", f"10.0.0.5:7300={SERVER}", "--passphrase-file", folder / "passphrase")  # fmt: skip
    assert made.exit_code == 0, made.exception
    assert run("validator", "keys", folder / "votes.keystore", "--links", "100", "--passphrase-file", folder / "passphrase").exit_code == 0
    files.replace(folder / "genesis.bin", encode(town.world.genesis))
    text = (folder / "qnode.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith(("network_file", "network_key"))]
    head = 'genesis_file = "genesis.bin"\npassphrase_file = "passphrase"\naddresses = ["node.example:7400"]\n'
    (folder / "qnode.toml").write_text(head + "\n".join(kept) + '\n[validator]\nvote_keystore = "votes.keystore"\n')
    load_config(folder / "qnode.toml")
    return folder / "qnode.toml"


def run(*arguments: object, **options: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)


def qnode(wallet: Path, *arguments: object) -> click.testing.Result:
    group, command, *rest = arguments
    return run(group, command, "--wallet", wallet, "--wallet-passphrase-file", wallet / "passphrase", *rest)


def did(wallet: Path, *arguments: object) -> Any:
    """A transaction that was executed."""
    done = qnode(wallet, *arguments, "--yes", "--json")
    assert done.exit_code == 0, (done.exception, done.stderr)
    return json.loads(done.stdout)


def refusal(wallet: Path, *arguments: object) -> str:
    error = qnode(wallet, *arguments).exception
    assert isinstance(error, QuStreamError), error
    return error.code


def licence(town: Town, number: int) -> str:
    return licence_text(town.world.licences[number])


def shown(wallet: Path, *arguments: object) -> Any:
    done = qnode(wallet, *arguments, "--json")
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def test_a_node_is_activated_from_an_account_whose_key_has_no_network(town: Town, operator: Path, config: Path, tmp_path: Path) -> None:
    """The node signs here, for the nonce that the account will have; the account signs there."""
    name, online, file = licence(town, 1), tmp_path / "online", tmp_path / "activate.json"
    watching = ["wallet", "watch", OPERATOR.name, "--chain", town.name, "--api", town.api]
    assert click.testing.CliRunner().invoke(user_cli, ["--home", str(online), *watching]).exit_code == 0
    made = run("licence", "activate", "--wallet", online, name, "--config", config, "--unsigned", file, "--json")
    assert made.exit_code == 0, made.exception
    assert json.loads(made.stdout) == {"state": "unsigned", "file": str(file)}
    signing = ["--home", str(operator), "--passphrase-file", str(operator / "passphrase"), "wallet", "sign", str(file)]
    asked = click.testing.CliRunner().invoke(user_cli, signing)
    assert f"licence {name}" in asked.stderr
    assert "addresses node.example:7400" in asked.stderr
    assert click.testing.CliRunner().invoke(user_cli, [*signing, "--yes"]).exit_code == 0
    sent = click.testing.CliRunner().invoke(user_cli, ["--home", str(online), "wallet", "submit", f"{file}.signed", "--json"])
    assert sent.exit_code == 0, sent.exception
    assert json.loads(sent.stdout)["action"] == "activate"
    assert town.world.licence(1).status is LicenceStatus.ACTIVE


def test_a_licence_is_offered_bought_and_taken_off_the_market(town: Town, operator: Path, buyer: Path) -> None:
    name = licence(town, 1)
    did(operator, "licence", "sell", name, "7500")
    did(operator, "licence", "sell", licence(town, 2), "6000.5")
    listed = qnode(buyer, "licence", "list", "--for-sale")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [licence(town, 2), name]
    assert "6000.5 QST" in listed.stdout
    did(operator, "licence", "unsell", licence(town, 2))
    assert refusal(buyer, "licence", "buy", licence(town, 2), "--price", "6000.5", "--yes") == "E-LEDGER-STATUS"
    assert qnode(buyer, "licence", "buy", name, "--yes").exit_code == 2  # a price nobody has seen
    assert refusal(buyer, "licence", "buy", name, "--price", "7499", "--yes") == "E-LEDGER-PRICE"
    asked = qnode(buyer, "licence", "buy", name)
    assert "for 7500 QST" in asked.stderr
    assert asked.exit_code == 2
    seller_had = town.world.liquid(OPERATOR.account)
    page = did(buyer, "licence", "buy", name.lower(), "--price", "7500")
    assert page["events"][0]["name"] == "licence-bought"
    assert town.world.liquid(OPERATOR.account) == seller_had + 7425 * 10**9
    assert [line["id"] for line in shown(buyer, "licence", "list", "--mine")] == [name]
    assert shown(buyer, "licence", "show", name)["owner"] == BUYER.name
    assert "owner     " + BUYER.name in qnode(buyer, "licence", "show", name).stdout
    everything = qnode(buyer, "licence", "list").stdout.splitlines()
    assert len(everything) == 4
    assert len(shown(buyer, "licence", "list", "--owner", OPERATOR.name)) == 2
    assert refusal(operator, "licence", "sell", name, "1", "--yes") == "E-LEDGER-OWNER"


def test_from_an_idle_licence_to_a_validator_and_back(town: Town, operator: Path, buyer: Path, config: Path) -> None:
    name = licence(town, 3)
    assert refusal(operator, "stake", "add", name, "--yes") == "E-LEDGER-STATUS"
    did(operator, "licence", "activate", name, "--config", config)
    line = shown(operator, "licence", "show", name)
    assert (line["status"], line["node"]) == ("active", run("id", "--config", config).stdout.strip())
    did(operator, "licence", "update", name, "--config", config, "--address", "other.example:7400")
    assert refusal(operator, "validator", "register", name, "--config", config, "--yes") == "E-LEDGER-STATUS"
    had = town.world.liquid(OPERATOR.account)
    staked = did(operator, "stake", "add", name)
    assert town.world.liquid(OPERATOR.account) == had - 200_000 * 10**9 - int(staked["fee"]["units"])
    did(operator, "validator", "register", name, "--config", config, "--commission", "7.5%")
    validator = shown(buyer, "validator", "show", name)
    held = voting.read(config.parent / "votes.keystore", PASSPHRASE)
    assert (validator["vote_key"], validator["commission_bp"], validator["links"]) == (voting.VoteKey(held.seed).id.hex(), 750, 100)
    assert (validator["on_duty"], validator["seat"]) == (True, -1)

    did(buyer, "validator", "delegate", name, "1000")
    assert refusal(buyer, "validator", "delegate", name, "9", "--yes") == "E-LEDGER-PRICE"
    did(buyer, "validator", "undelegate", name, "400.5")
    assert refusal(buyer, "validator", "undelegate", name, "600", "--yes") == "E-LEDGER-FUNDS"
    assert shown(buyer, "validator", "show", name)["delegated"]["qst"] == "599.500000000"
    did(buyer, "validator", "undelegate", name)
    assert refusal(buyer, "validator", "undelegate", name, "--yes") == "E-LEDGER-UNKNOWN"
    assert refusal(buyer, "stake", "claim", name, "--yes") == "E-LEDGER-NOTHING"

    did(operator, "validator", "edit", name, "--commission", "100")
    assert qnode(operator, "validator", "edit", name).exit_code == 2
    # Who is not said yes to, or is refused, has changed nothing.
    assert qnode(operator, "validator", "edit", name, "--new-chain", "--links", "50", "--config", config).exit_code == 2
    assert refusal(buyer, "validator", "edit", name, "--new-chain", "--links", "50", "--config", config, "--yes") == "E-LEDGER-OWNER"
    assert len(voting.read(config.parent / "votes.keystore", PASSPHRASE).reveals) == 1
    did(operator, "validator", "edit", name, "--new-chain", "--links", "50", "--config", config)
    validator = shown(buyer, "validator", "show", name)
    # Both count from the rotation after next on.
    assert (validator["commission_bp"], validator["links"]) == (750, 100)
    assert (validator["coming_from"] > 0, validator["coming_commission_bp"], validator["coming_links"]) == (True, 10_000, 50)
    chains = voting.read(config.parent / "votes.keystore", PASSPHRASE).chains()
    assert [chain.links for chain in chains] == [50, 100]
    assert refusal(operator, "validator", "unsuspend", name, "--yes") == "E-LEDGER-STATUS"
    assert refusal(operator, "stake", "top-up", name, "--yes") == "E-LEDGER-STATUS"
    assert refusal(operator, "stake", "remove", name, "--yes").startswith("E-LEDGER-")

    text = qnode(buyer, "validator", "list").stdout.splitlines()
    assert [line.split()[0] for line in text] == [licence(town, 0), name]
    assert "seat 0" in text[0]
    assert "commission 7.5 %" in text[1]
    assert "commission 100 %, a hash chain of 50" in qnode(buyer, "validator", "show", name).stdout

    _leaves(town, operator, buyer, name)


def _leaves(town: Town, operator: Path, buyer: Path, name: str) -> None:
    did(operator, "validator", "exit", name)
    assert not shown(buyer, "validator", "show", name)["on_duty"]
    for _ in range(3):
        town.pass_time(HOUR_MS)
    town.pass_time(30 * DAY_MS)
    did(operator, "stake", "remove", name)
    assert refusal(operator, "stake", "claim", name, "--yes") == "E-LEDGER-NOTHING"
    town.pass_time(28 * DAY_MS)
    page = did(operator, "stake", "claim", name)
    assert max(int(event["amount"]["units"]) for event in page["events"]) == 200_000 * 10**9
    assert did(buyer, "stake", "claim", name)["events"]
    did(operator, "licence", "retire", name)
    assert shown(operator, "licence", "show", name)["status"] == "idle"


def test_vote_keys_have_a_public_part_that_a_genesis_takes(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(PASSPHRASE)
    file.chmod(0o600)
    made = run("validator", "keys", tmp_path / "votes", "--links", "10", "--passphrase-file", file)
    held = voting.read(tmp_path / "votes", PASSPHRASE)
    public = settings.load(tmp_path / "votes.vote", VoteFile)
    assert (public.anchor, public.links) == (held.chains()[0].anchor.hex(), 10)
    assert tomllib.loads((tmp_path / "votes.vote").read_text())["vote_key"]
    assert made.stdout.strip() == voting.VoteKey(held.seed).id.hex()
    assert held.seed.hex() not in (tmp_path / "votes.vote").read_text() + made.output
    before = (tmp_path / "votes.vote").read_bytes()
    again = run("validator", "keys", tmp_path / "votes", "--links", "10", "--passphrase-file", file)
    assert isinstance(again.exception, QuStreamError)
    assert again.exception.code == "E-KEYSTORE-EXISTS"
    assert (tmp_path / "votes.vote").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("licence", "show", "ABC"), ("licence", "sell", "{0}", "1,000"), ("licence", "sell", "{0}"), ("stake", "add"),
        ("validator", "register", "{0}", "--commission", "101"), ("validator", "register", "{0}", "--commission", "1.005"),
        ("validator", "delegate", "{0}", "-5"), ("licence", "list", "--owner", "qn1x"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(town: Town, operator: Path, arguments: tuple[str, ...]) -> None:
    done = qnode(operator, *(argument.format(licence(town, 1)) for argument in arguments))
    assert done.exit_code in (1, 2, 78)
    assert done.stdout == ""


def test_without_a_wallet_or_a_node(tmp_path: Path, town: Town, operator: Path) -> None:
    assert refusal(tmp_path / "nobody", "licence", "list") == "E-HOME"
    assert refusal(operator, "licence", "list", "--api", "127.0.0.1:9") == "E-PEER-UNREACHABLE"
    assert refusal(operator, "licence", "show", "00000-00000-00000-00000-00001-RRRRR") == "E-ID-TEXT"
    unknown = licence_text(bytes(16))
    assert refusal(operator, "licence", "show", unknown) == "E-LEDGER-UNKNOWN"
    assert refusal(operator, "validator", "show", licence(town, 1)) == "E-LEDGER-UNKNOWN"
