"""The configuration file: what is accepted, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from qnode.config import Config, load_config
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text

NETWORK_KEY = to_text(IdKind.NETWORK, bytes(32))
SERVER, OTHER = to_text(IdKind.QRNG, b"a" * 32), to_text(IdKind.QRNG, b"b" * 32)
GOOD = f"""
chain = "test"
network_file = "network.toml"
network_key = "{NETWORK_KEY}"
data_dir = "data"
keystore = "node.keystore"
listen = ["127.1.0.1:7400", "[::1]:7400"]
status_listen = "127.1.0.1:7480"

[[qrngd]]
address = "qrng.example:7300"
id = "{SERVER}"

[[qrngd]]
address = "unix:feed.sock"
id = "{OTHER}"
"""


def load(folder: Path, text: str) -> Config:
    path = folder / "qnode.toml"
    path.write_text(text)
    return load_config(path)


def test_a_good_file(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.data_dir == tmp_path / "data"
    assert config.network_file == tmp_path / "network.toml"
    assert config.network_key_id == bytes(32)
    assert [entry.server for entry in config.qrngd] == [b"a" * 32, b"b" * 32]
    assert config.qrngd[1].address == f"unix:{tmp_path / 'feed.sock'}"
    assert (config.addresses, config.peers) == ((), True)
    assert (config.pool_units, config.held_blocks, config.connections, config.log_level) == (8, 4096, 512, "info")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("data_dir", "data_dri", "unknown key data_dri; did you mean data_dir?"),
        ("status_listen", "status", "unknown key status; did you mean status_listen?"),
        ('address = "unix', 'adress = "unix', "unknown key qrngd[1].adress; did you mean address?"),
        ('chain = "test"', "", "missing required field `chain`"),
        ('chain = "test"', "chain = 7", "chain: Expected `str`"),
        ('chain = "test"', 'chain = ""', "chain: "),
        ('chain = "test"', 'pool_units = 0\nchain = "test"', "pool_units: Expected `int` >= 1"),
        ('chain = "test"', 'pool_units = 257\nchain = "test"', "pool_units: Expected `int` <= 256"),
        ('chain = "test"', 'held_blocks = 15\nchain = "test"', "held_blocks: "),
        ('chain = "test"', 'log_level = "loud"\nchain = "test"', "log_level: "),
        ('chain = "test"', 'peers = 1\nchain = "test"', "peers: Expected `bool`"),
        ('chain = "test"', 'addresses = ["a:1", "unix:/x"]\nchain = "test"', "addresses[1]: 'unix:/x': host:port is needed"),
        ('chain = "test"', 'addresses = ["node.example:0"]\nchain = "test"', "addresses[0]: "),
        ('chain = "test"', 'addresses = ["0.0.0.0:7400"]\nchain = "test"', "addresses[0]: '0.0.0.0:7400': host:port is needed"),
        ('chain = "test"', 'addresses = ["127.1:7400"]\nchain = "test"', "addresses[0]: "),
        ('chain = "test"', 'addresses = ["[fe80::1%eth0]:7400"]\nchain = "test"', "addresses[0]: "),
        ('chain = "test"', 'addresses = ["node.example"]\nchain = "test"', "addresses[0]: "),
        ('chain = "test"', f'addresses = ["{"a" * 124}:7400"]\nchain = "test"', "addresses[0]: "),
        ('chain = "test"', f'addresses = {["a:1"] * 9!r}\nchain = "test"', "addresses: "),
        ('chain = "test"', 'chain = "test', "not TOML: "),
        ('"127.1.0.1:7400", ', '"localhost:7400", ', "listen[0]: 'localhost:7400': a numeric address is needed"),
        ('"127.1.0.1:7400", ', '"127.1.0.1", ', "listen[0]: "),
        ('"127.1.0.1:7400", ', '"127.1.0.1:70000", ', "listen[0]: "),
        ('"127.1.0.1:7400", ', '"unix:/x", ', "listen[0]: "),
        ('["127.1.0.1:7400", "[::1]:7400"]', "[]", "listen: "),
        ('"127.1.0.1:7480"', '"7480"', "status_listen: "),
        ("qrng.example:7300", "qrng example:7300", "qrngd[0].address: "),
        ("qrng.example:7300", "qrng.example", "qrngd[0].address: "),
        (SERVER, SERVER[:-1], "qrngd[0].id: "),
        (SERVER, NETWORK_KEY, "qrngd[0].id: "),
        (SERVER, OTHER, "qrngd[1].id: this server is listed already"),
        (NETWORK_KEY, "", "network_key: "),
        ("[[qrngd]]", "[qrngd]", "not TOML: "),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    with pytest.raises(QuStreamError) as caught:
        load(tmp_path, GOOD.replace(before, after, 1))
    assert caught.value.code == "E-CONFIG"
    assert caught.value.detail.startswith(f"{tmp_path / 'qnode.toml'}: ")
    assert said in caught.value.detail


def test_others_may_be_told_other_addresses_than_the_node_listens_on(tmp_path: Path) -> None:
    config = load(tmp_path, 'addresses = ["node.example:7400", "[2001:db8::1]:7400"]\npeers = false\n' + GOOD)
    assert (config.addresses, config.peers) == (("node.example:7400", "[2001:db8::1]:7400"), False)


def test_a_node_needs_a_qrng_server(tmp_path: Path) -> None:
    with pytest.raises(QuStreamError, match="qrngd"):
        load(tmp_path, GOOD.partition("[[qrngd]]")[0])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(QuStreamError) as caught:
        load_config(tmp_path / "none.toml")
    assert caught.value.code == "E-FILE"


CHAIN = GOOD.replace('network_file = "network.toml"', 'genesis_file = "genesis.bin"').replace(f'network_key = "{NETWORK_KEY}"', "")


def test_a_node_of_a_chain(tmp_path: Path) -> None:
    config = load(tmp_path, CHAIN)
    assert (config.genesis_file, config.network_file, config.validator) == (tmp_path / "genesis.bin", None, None)
    config = load(tmp_path, CHAIN + '\n[validator]\nvote_keystore = "votes.keystore"\n')
    assert config.validator is not None
    assert config.validator.vote_keystore == tmp_path / "votes.keystore"
    assert config.validator.sign_state_path == tmp_path / "sign-state"
    config = load(tmp_path, CHAIN + '\n[validator]\nvote_keystore = "votes.keystore"\nsign_state = "/var/memory"\n')
    assert config.validator is not None
    assert config.validator.sign_state_path == Path("/var/memory")


ASKED = f"{to_text(IdKind.NODE, bytes(32))}@node.example:7400"


def test_nodes_that_are_asked_have_one_place_or_several(tmp_path: Path) -> None:
    named = load(tmp_path, f'nodes = ["{ASKED}", "{to_text(IdKind.NODE, bytes(32))}@[2001:db8::7]:7400"]\n{CHAIN}').named_nodes
    assert named == {bytes(32): ("node.example:7400", "[2001:db8::7]:7400")}
    assert load(tmp_path, CHAIN).named_nodes == {}


def test_a_checkpoint_to_begin_with(tmp_path: Path) -> None:
    pinned = to_text(IdKind.CHECKPOINT, bytes(range(32)))
    assert load(tmp_path, f'checkpoint = "{pinned}"\n{CHAIN}').checkpoint_digest == bytes(range(32))
    assert load(tmp_path, CHAIN).checkpoint_digest is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'nodes = ["{ASKED}"]\n' + GOOD, "nodes: only a chain is asked for"),
        (f'nodes = ["{ASKED}", "qn1x@node.example:7400"]\n' + CHAIN, "nodes[1]: "),
        (f'nodes = ["{ASKED.partition("@")[0]}"]\n' + CHAIN, "nodes[0]: "),
        (f'nodes = ["{ASKED}", "{ASKED.partition("@")[0]}@127.1:7400"]\n' + CHAIN, "nodes[1]: "),
        (f'checkpoint = "{NETWORK_KEY}"\n' + CHAIN, "checkpoint: "),
        (f'checkpoint = "{to_text(IdKind.CHECKPOINT, bytes(32))}"\n' + GOOD, "checkpoint: only a chain has one"),
        (GOOD.replace('network_file = "network.toml"', ""), "network_file or genesis_file is needed"),
        ('genesis_file = "genesis.bin"\n' + GOOD, "and not both"),
        (f'network_key = "{NETWORK_KEY}"\n' + CHAIN, "network_key: "),
        ("peers = false\n" + CHAIN, "peers: "),
        (GOOD + '\n[validator]\nvote_keystore = "votes.keystore"\n', "validator: only a chain has validators"),
        (CHAIN + "\n[validator]\n", "vote_keystore"),
        (CHAIN + '\n[validator]\nvote_keystor = "v"\n', "unknown key validator.vote_keystor; did you mean vote_keystore?"),
    ],
)
def test_one_word_on_who_belongs_to_the_network(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        load(tmp_path, text)
    assert caught.value.code == "E-CONFIG"
    assert said in caught.value.detail
