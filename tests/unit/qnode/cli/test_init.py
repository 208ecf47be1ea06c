"""`qnode init` as an operator runs it."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path

import pytest
from support.ledger_world import genesis
from support.network import BIN, Finished

from qnode.cli.options import KEYSTORE_KIND
from qnode.config import load_config
from qnode.store.sign_state import SignStateFile
from qustream.identity import keystore, voting
from qustream.identity.signing import SigningKey
from qustream.identity.voting import VoteKey
from qustream.model.ids import IdKind, to_text
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode, encode

NETWORK_KEY, SERVER = to_text(IdKind.NETWORK, bytes(32)), to_text(IdKind.QRNG, bytes(32))


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_bytes(b"correct horse\n")
    path.chmod(0o600)
    return path


def init(folder: Path, *arguments: str | Path, cwd: Path | None = None) -> Finished:
    clean = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    done = subprocess.run(
        [BIN / "qnode", "init", "--dir", folder, *arguments], stdin=subprocess.DEVNULL, env=clean, cwd=cwd,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


def test_a_node_is_made_whose_configuration_is_good(tmp_path: Path, passphrase_file: Path) -> None:
    folder = tmp_path / "a folder"
    made = init(
        folder, "--chain", "test", "--network-key", NETWORK_KEY, "--qrngd", f"10.0.0.5:7300={SERVER}", "--passphrase-file", passphrase_file
    )
    assert made.code == 0, made.err
    config = load_config(folder / "qnode.toml")
    assert (config.chain, config.network_file, config.qrngd[0].id) == ("test", folder / "network.toml", SERVER)
    key = SigningKey(keystore.read(folder / "node.keystore", KEYSTORE_KIND, b"correct horse"))
    assert made.out == to_text(IdKind.NODE, key.id) + "\n"
    assert decode(base64.b64decode((folder / "node.pub").read_text()), PublicKey, max_bytes=4096) == key.public
    assert stat.S_IMODE((folder / "node.keystore").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "qnode doctor --config" in made.err


def test_what_is_typed_is_relative_to_where_it_is_typed(tmp_path: Path, passphrase_file: Path) -> None:
    made = init(
        tmp_path / "n", "--network-key", NETWORK_KEY, "--network-file", "net/work.toml", "--qrngd", f"unix:feed.sock={SERVER}",
        "--passphrase-file", passphrase_file, cwd=tmp_path,
    )  # fmt: skip
    assert made.code == 0, made.err
    config = load_config(tmp_path / "n" / "qnode.toml")
    assert config.network_file == tmp_path / "net" / "work.toml"
    assert config.qrngd[0].address == f"unix:{tmp_path / 'feed.sock'}"


def test_strange_names_do_not_break_the_file(tmp_path: Path, passphrase_file: Path) -> None:
    path = tmp_path / 'a "quoted" \\ näme.toml'
    made = init(
        tmp_path / "n", "--chain", 'x" y', "--network-key", NETWORK_KEY, "--network-file", path, "--qrngd", f"a:1={SERVER}",
        "--passphrase-file", passphrase_file,
    )  # fmt: skip
    assert made.code == 0, made.err
    config = load_config(tmp_path / "n" / "qnode.toml")
    assert (config.chain, config.network_file) == ('x" y', path)


def test_nothing_is_overwritten(tmp_path: Path, passphrase_file: Path) -> None:
    folder = tmp_path / "n"
    folder.mkdir()
    (folder / "qnode.toml").write_text("mine")
    assert init(folder, "--passphrase-file", passphrase_file).code == 0
    assert (folder / "qnode.toml").read_text() == "mine"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    again = init(folder, "--passphrase-file", passphrase_file)
    assert (again.code, again.err.startswith("qnode: E-KEYSTORE-EXISTS: ")) == (78, True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_without_a_passphrase_nothing_is_made(tmp_path: Path) -> None:
    made = init(tmp_path / "n")
    assert (made.code, made.err.startswith("qnode: E-SECRET-MISSING: ")) == (78, True)
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("entry", ["10.0.0.5:7300", "=qr1x", ""])
def test_a_qrng_server_is_an_address_and_an_id(tmp_path: Path, passphrase_file: Path, entry: str) -> None:
    made = init(tmp_path / "n", "--qrngd", entry, "--passphrase-file", passphrase_file)
    assert (made.code, "expected ADDRESS=ID" in made.err) == (2, True)
    assert not (tmp_path / "n").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, passphrase_file: Path) -> None:
    (tmp_path / "file").write_text("")
    made = init(tmp_path / "file" / "n", "--passphrase-file", passphrase_file)
    assert (made.code, made.err.startswith("qnode: E-FILE: ")) == (78, True)


CHECKPOINT = to_text(IdKind.CHECKPOINT, bytes(32))
ASKED = f"{to_text(IdKind.NODE, bytes(32))}@node.example:7400"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.bin"
    path.write_bytes(encode(genesis(validators=1, idle=0, people=0)))
    return path


def test_a_node_on_a_chain_is_told_the_chain_and_what_comes_next(tmp_path: Path, passphrase_file: Path, document: Path) -> None:
    made = init(
        tmp_path / "n", "--genesis-file", "genesis.bin", "--checkpoint", CHECKPOINT, "--address", "node.example:7400",
        "--node", ASKED, "--qrngd", f"10.0.0.5:7300={SERVER}", "--passphrase-file", passphrase_file, cwd=tmp_path,
    )  # fmt: skip
    assert made.code == 0, made.err
    config = load_config(tmp_path / "n" / "qnode.toml")
    chain = genesis(validators=1, idle=0, people=0).chain
    assert (config.chain, config.genesis_file, config.network_file, config.validator) == (chain, document, None, None)
    assert (config.checkpoint, config.addresses, config.nodes) == (CHECKPOINT, ("node.example:7400",), (ASKED,))
    steps = [line for line in made.err.splitlines() if line.startswith("  ")]
    named = ["qnode doctor", "qnode run", "qustream wallet new", "qnode licence list", "qnode licence activate", "qnode wait"]
    assert [step.split(". ", 1)[1].startswith(name) for step, name in zip(steps, named, strict=True)] == [True] * len(named)
    assert f"--chain {chain} --api http://127.0.0.1:7480 " in made.err  # the node's own pages


def test_a_validator_has_a_vote_key_and_an_empty_memory(tmp_path: Path, passphrase_file: Path, document: Path) -> None:
    folder = tmp_path / "n"
    made = init(folder, "--genesis-file", document, "--validator", "--qrngd", f"a:1={SERVER}", "--passphrase-file", passphrase_file)
    assert made.code == 0, made.err
    config = load_config(folder / "qnode.toml")
    assert config.validator is not None
    votes = voting.read(config.validator.vote_keystore, b"correct horse")
    assert SignStateFile(config.validator.sign_state_path, VoteKey(votes.seed).id).load().rotation == 0
    assert (folder / "votes.keystore.vote").exists()
    order = [made.err.index(name) for name in ("qnode run", "licence activate", "stake add", "validator register")]
    assert order == sorted(order)
    again = init(folder, "--genesis-file", document, "--validator", "--passphrase-file", passphrase_file)
    assert (again.code, "E-KEYSTORE-EXISTS" in again.err) == (78, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--validator",), 2),
        (("--checkpoint", CHECKPOINT), 2),
        (("--node", ASKED), 2),
        (("--genesis-file", "DOCUMENT", "--node", "qn1x@127.0.0.1:7400"), 2),
        (("--genesis-file", "DOCUMENT", "--node", f"{ASKED}:"), 2),
        (("--genesis-file", "DOCUMENT", "--network-key", NETWORK_KEY), 2),
        (("--genesis-file", "DOCUMENT", "--network-file", "network.toml"), 2),
        (("--genesis-file", "DOCUMENT", "--chain", "another"), 78),
        (("--genesis-file", "DOCUMENT", "--checkpoint", "qcp1x"), 78),
        (("--genesis-file", "missing"), 78),
        (("--address", "no port"), 2),
    ],
)
def test_what_does_not_fit_together_makes_nothing(
    tmp_path: Path, passphrase_file: Path, document: Path, arguments: tuple[str, ...], code: int
) -> None:
    given = [str(document) if each == "DOCUMENT" else each for each in arguments]
    made = init(tmp_path / "n", *given, "--passphrase-file", passphrase_file)
    assert made.code in (code, 1) if code == 78 else made.code == code, made.err
    assert "Traceback" not in made.err
    assert not (tmp_path / "n").exists()
