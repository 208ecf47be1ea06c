"""`qnode genesis` as whoever begins a network runs it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import click.testing
import pytest
from support.ledger_world import genesis, hash_chain, key, licence_id, vote_key

from qnode.cli import cli
from qnode.cli.genesis_file import genesis_of, read_description, read_genesis
from qnode.core.ledger.defaults import DEFAULTS
from qnode.service.light import first_checkpoint
from qustream.errors import QuStreamError
from qustream.identity import files
from qustream.model.ids import IdKind, account_id, licence_from_text, licence_text, to_text
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import encode
from qustream.wire.light import checkpoint_digest

OWNER, OTHER = (to_text(IdKind.ACCOUNT, account_id(key("owner", n).id)) for n in (0, 1))
PUBLIC = [base64.b64encode(encode(key("node", number).public)).decode() for number in range(2)]
SERVER = base64.b64encode(encode(key("server").public)).decode()
TOP = 'chain = "ledger-test"\ntime = 2030-01-01T00:00:00Z\nseed = "' + "ab" * 32 + '"\n'
VOTER = f"""
[[licence]]
id = "{licence_text(licence_id(0))}"
class = "foundation"
site = "here"
owner = "{OWNER}"
[licence.node]
key_file = "node0.pub"
addresses = ["127.0.0.1:7400", "node.example:7400"]
staked = true
vote_file = "node0.vote"
commission_bp = 250
"""
REST = f"""
[[account]]
account = "{OTHER}"
amount = "12.5 QST"
[[account]]
account = "{OWNER}"
amount = "1000000"
[[licence]]
id = "{licence_text(licence_id(1)).lower().replace("-", " ")}"
owner = "{OTHER}"
price = "7500 QST"
[[licence]]
id = "{licence_text(licence_id(2))}"
owner = "{OTHER}"
[licence.node]
key = "{PUBLIC[1]}"
payee = "{OWNER}"
[[qrng_server]]
name = "emulator"
key = "{SERVER}"
emulated = true
[parameters]
epoch_ms = "60s"
rotation_ms = "1 m"
fee_byte = 10
stake = "200000 QST"
"""


def qnode(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    error = qnode(*arguments).exception
    assert isinstance(error, QuStreamError), error
    return str(error)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "node0.pub").write_text(PUBLIC[0] + "\n")
    vote = base64.b64encode(vote_key(0)[1]).decode()
    (tmp_path / "node0.vote").write_text(f'vote_key = "{vote}"\nanchor = "{hash_chain(0, 2000).anchor.hex()}"\nlinks = 2000\n')
    (tmp_path / "chain.toml").write_text(TOP + VOTER + REST)
    return tmp_path


def test_a_description_becomes_the_document(folder: Path) -> None:
    made = qnode("genesis", "new", folder / "chain.toml", "-o", folder / "genesis.bin")
    document = read_genesis(folder / "genesis.bin")
    assert made.exit_code == 0, made.exception
    assert made.stdout.strip() == genesis_digest(document).hex() == qnode("genesis", "digest", folder / "genesis.bin").stdout.strip()
    first, second, third = document.licences
    assert [licence.licence for licence in document.licences] == [licence_id(n) for n in range(3)]
    assert first.node is not None
    assert first.node.vote is not None
    assert (first.node.key, first.node.payee, first.node.staked) == (key("node", 0).public, account_id(key("owner", 0).id), True)
    assert (first.node.vote.vote_key, first.node.vote.anchor) == (vote_key(0)[1], hash_chain(0, 2000).anchor)
    assert (first.node.vote.links, first.node.vote.commission_bp, first.site) == (2000, 250, "here")
    assert (second.node, second.price) == (None, 7500 * 10**9)
    assert third.node is not None
    assert (third.node.key, third.node.payee, third.node.staked, third.node.vote) == (
        key("node", 1).public, account_id(key("owner", 0).id), False, None,
    )  # fmt: skip
    assert sorted(held.amount for held in document.accounts) == [12_500_000_000, 10**15]
    assert [held.account for held in document.accounts] == sorted(held.account for held in document.accounts)
    assert (document.qrng_servers[0].key, document.qrng_servers[0].emulated) == (key("server").public, True)
    parameters = document.parameters
    assert (parameters.epoch_ms, parameters.rotation_ms, parameters.fee_byte) == (60_000, 60_000, 10)
    assert parameters.lock_ms == DEFAULTS.lock_ms
    assert document.time_ms == 1_893_456_000_000


def test_the_same_description_gives_the_same_document_and_nothing_is_overwritten(folder: Path) -> None:
    for name in ("a", "b"):
        assert qnode("genesis", "new", folder / "chain.toml", "-o", folder / name).exit_code == 0
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    assert "E-FILE-EXISTS" in refusal("genesis", "new", folder / "chain.toml", "-o", folder / "a")


def test_a_document_is_shown_to_people_and_programs(folder: Path) -> None:
    qnode("genesis", "new", folder / "chain.toml", "-o", folder / "genesis.bin")
    text = qnode("genesis", "show", folder / "genesis.bin").stdout
    shown = json.loads(qnode("genesis", "show", folder / "genesis.bin", "--json").stdout)
    assert shown["licences"][1]["price"] == "7500 QST"
    assert shown["parameters"]["stake"] == "200000 QST"
    assert shown["digest"] in text
    assert "3 licences, 2 with a node, 1 of these vote" in text
    assert "reserve 998799987.5 QST" in text
    for name in (OWNER, OTHER, licence_text(licence_id(2)), to_text(IdKind.NODE, key("node", 0).id)):
        assert name in text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("T00:00:00Z", "T00:00:00", "time: needs its zone"),
        ("abab", "ABAB", "seed: 64 hexadecimal digits"),
        ('amount = "12.5 QST"', 'amount = "12,5 QST"', "account[0]: an amount is written without commas"),
        (OTHER, OTHER[:-1] + "q", "checksum does not match"),
        ("staked = true", "staked = false", "a validator without a stake"),
        ('epoch_ms = "60s"', 'epoch_ms = "1s"', "epoch_ms is less than"),
        ('epoch_ms = "60s"', 'epoch_sm = "60s"', "unknown key parameters.epoch_sm; did you mean epoch_ms?"),
        ('epoch_ms = "60s"', 'epoch_ms = "soon"', "a duration such as"),
        ("commission_bp = 250", "commission_bp = 10001", "commission_bp"),
        ("commission_bp = 250", 'commission = "1"', "unknown key licence[0].node.commission; did you mean commission_bp?"),
        ('amount = "1000000"', 'amount = "1000000000"', "more than 1000000000000000000 units"),
        ('price = "7500 QST"', 'price = "-1"', "licence[1]: an amount is a number"),
        ('key_file = "node0.pub"', 'key_file = "node0.vote"', "not a public key"),
        ('key_file = "node0.pub"', 'key_file = "none"', "No such file"),
        ('key_file = "node0.pub"', "", "either key or key_file is needed"),
        ('site = "here"\n', "", "site: a foundation licence says where"),
        ("node.example:7400", "node.example", "host:port is needed"),
        ("fee_byte = 10", "fee_byte = -1", "fee_byte"),
        ("fee_byte = 10", "validators_max = 101", "validators_max"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(folder: Path, old: str, new: str, says: str) -> None:
    text = TOP + VOTER + REST
    assert old in text
    (folder / "chain.toml").write_text(text.replace(old, new))
    said = refusal("genesis", "new", folder / "chain.toml", "-o", folder / "genesis.bin")
    assert says in said, said
    assert not (folder / "genesis.bin").exists()


def test_nobody_begins_a_chain_without_validators(folder: Path) -> None:
    (folder / "chain.toml").write_text(TOP + REST)
    assert "nobody votes" in refusal("genesis", "new", folder / "chain.toml", "-o", folder / "genesis.bin")


def test_a_file_that_is_no_document(folder: Path) -> None:
    assert "is not a genesis document" in refusal("genesis", "show", folder / "chain.toml")
    assert "E-FILE" in refusal("genesis", "digest", folder / "none")


def test_what_a_light_client_begins_from(tmp_path: Path) -> None:
    files.replace(tmp_path / "genesis.bin", encode(genesis()))
    expected = to_text(IdKind.CHECKPOINT, checkpoint_digest(first_checkpoint(genesis())))
    assert qnode("genesis", "checkpoint", tmp_path / "genesis.bin").stdout.strip() == expected


def test_licence_ids_are_drawn(folder: Path) -> None:
    ids = qnode("genesis", "licence-ids", 5).stdout.split("\n")[:-1]
    assert len({licence_from_text(text) for text in ids}) == 5


def test_what_a_program_makes_is_read_as_well(tmp_path: Path) -> None:
    files.replace(tmp_path / "genesis.bin", encode(genesis()))
    assert qnode("genesis", "digest", tmp_path / "genesis.bin").stdout.strip() == genesis_digest(genesis()).hex()
    assert read_genesis(tmp_path / "genesis.bin") == genesis()


def test_a_description_read_twice_is_the_same(folder: Path) -> None:
    assert genesis_of(read_description(folder / "chain.toml")) == genesis_of(read_description(folder / "chain.toml"))
