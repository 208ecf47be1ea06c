"""`qnode init` as an operator runs it."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path

import pytest
from support.network import BIN, Finished

from qnode.cli.options import KEYSTORE_KIND
from qnode.config import load_config
from qustream.identity import keystore
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.model.keys import PublicKey
from qustream.wire.codec import decode

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
