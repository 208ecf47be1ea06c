"""The whole product, end to end: real daemons, real TLS, real disks; what a user types and what he gets."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from support.network import Network, User

from qustream.identity import keystore

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def alice(network: Network) -> User:
    return network.user("alice")


@pytest.fixture(scope="module")
def bob(network: Network) -> User:
    return network.user("bob", requests=0)


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"the plain text of a letter\n" * 5000)
    return path


def encrypted(alice: User, bob: User, letter: Path, *options: str) -> Path:
    envelope = letter.with_suffix(f".{os.urandom(4).hex()}.qs")
    done = alice("encrypt", letter, "--to", bob.id, "-o", envelope, *options)
    assert done.code == 0, done.err
    return envelope


def test_a_file_goes_from_alice_to_bob(alice: User, bob: User, letter: Path, tmp_path: Path) -> None:
    envelope = tmp_path / "letter.qs"
    done = alice("encrypt", letter, "--to", bob.id, "-o", envelope, "--json")
    assert done.code == 0, done.err
    blocks = done.json["blocks"]
    assert len(blocks) == 6
    assert len({block["node"] for block in blocks}) == 6
    assert [block["node_class"] for block in blocks].count("foundation") == 3
    assert all(block["emulated"] and not block["doubt"] and block["samples"] > 0 for block in blocks)
    assert letter.read_bytes()[:27] not in envelope.read_bytes()
    opened = bob("open", envelope, "-o", tmp_path / "opened.txt", "--json")
    assert opened.code == 0, opened.err
    assert (tmp_path / "opened.txt").read_bytes() == letter.read_bytes()
    assert len(opened.json["blocks"]) >= 4


def test_verify_shows_six_origins_and_leaves_the_blocks_there(alice: User, bob: User, letter: Path, tmp_path: Path) -> None:
    envelope = encrypted(alice, bob, letter)
    for _ in range(2):
        report = bob("verify", envelope, "--blocks", "--json")
        assert report.code == 0, report.out + report.err
        assert len(report.json["blocks"]) == 6
    assert bob("open", envelope, "-o", tmp_path / "opened").code == 0


def test_a_collected_envelope_opens_once(alice: User, bob: User, letter: Path, tmp_path: Path) -> None:
    envelope = encrypted(alice, bob, letter)
    assert bob("open", envelope, "-o", tmp_path / "first").code == 0
    again = bob("open", envelope, "-o", tmp_path / "second")
    assert again.code != 0
    assert "E-NOT-HELD" in again.err
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("size", [0, 1, 65_536, 196_608])
def test_pad_mode(alice: User, bob: User, tmp_path: Path, size: int) -> None:
    letter = tmp_path / "pad.bin"
    letter.write_bytes(os.urandom(size))
    envelope = encrypted(alice, bob, letter, "--pad")
    assert bob("open", envelope, "-o", tmp_path / "opened").code == 0
    assert (tmp_path / "opened").read_bytes() == letter.read_bytes()


def test_pad_mode_refuses_what_is_too_large_and_spends_nothing(alice: User, bob: User, tmp_path: Path) -> None:
    letter = tmp_path / "large.bin"
    letter.write_bytes(bytes(196_609))
    before = alice("whoami", "--json").json["grants"]
    done = alice("encrypt", letter, "--to", bob.id, "--pad")
    assert done.code == 78
    assert "E-PAD-SIZE" in done.err
    assert alice("whoami", "--json").json["grants"] == before
    assert list(tmp_path.iterdir()) == [letter]


def test_who_is_not_named_cannot_open(network: Network, alice: User, bob: User, letter: Path, tmp_path: Path) -> None:
    carol = network.user("carol", requests=0)
    envelope = encrypted(alice, bob, letter)
    done = carol("open", envelope, "-o", tmp_path / "stolen")
    assert done.code == 1
    assert "E-NOT-RECIPIENT" in done.err
    assert not (tmp_path / "stolen").exists()


def test_one_node_of_each_class_killed_in_between_still_opens(
    network: Network, alice: User, bob: User, letter: Path, tmp_path: Path
) -> None:
    envelope = encrypted(alice, bob, letter)
    network.testnet("kill", "node2", "node5")
    try:
        opened = bob("open", envelope, "-o", tmp_path / "opened")
    finally:
        network.testnet("restart", "node2", "node5")
    assert opened.code == 0, opened.err
    assert (tmp_path / "opened").read_bytes() == letter.read_bytes()


def test_held_blocks_outlive_kill_9_of_every_node(network: Network, alice: User, bob: User, letter: Path, tmp_path: Path) -> None:
    envelope = encrypted(alice, bob, letter)
    nodes = network.names("foundation") + network.names("community")
    network.testnet("kill", *nodes)
    network.testnet("restart", *nodes)
    opened = bob("open", envelope, "-o", tmp_path / "opened")
    assert opened.code == 0, opened.err


@pytest.mark.parametrize("node_class", ["foundation", "community"])
def test_a_class_that_is_down_is_named(network: Network, alice: User, bob: User, letter: Path, tmp_path: Path, node_class: str) -> None:
    envelope = encrypted(alice, bob, letter)
    network.testnet("kill", *network.names(node_class))
    try:
        to_encrypt = alice("encrypt", letter, "--to", bob.id, "-o", tmp_path / "never.qs")
        to_open = bob("open", envelope, "-o", tmp_path / "never")
    finally:
        network.testnet("restart", *network.names(node_class))
    for refused in (to_encrypt, to_open):
        assert refused.code == 75
        assert "E-CLASS-SHORT" in refused.err
        assert node_class in refused.err
        assert "Traceback" not in refused.err
    assert not (tmp_path / "never.qs").exists()
    assert not (tmp_path / "never").exists()
    assert bob("open", envelope, "-o", tmp_path / "later").code == 0


def test_revoked_is_revoked(alice: User, bob: User, letter: Path, tmp_path: Path) -> None:
    envelope = encrypted(alice, bob, letter)
    assert bob("revoke", envelope).code == 1  # not his to revoke
    done = alice("revoke", envelope, "--json")
    assert done.code == 0, done.err
    assert done.json["holds"]
    assert all(node["erased_ms"] for node in done.json["nodes"])
    refused = bob("open", envelope, "-o", tmp_path / "never")
    assert refused.code != 0
    assert "E-NOT-HELD" in refused.err


def test_a_revoked_device_is_refused_and_the_user_is_told(network: Network, bob: User, letter: Path) -> None:
    dave = network.user("dave")
    second = network.user("dave-s-second", words=dave.words, requests=0)
    assert second.id == dave.id
    device = dave("whoami", "--json").json["device"]
    network.testnet("revoke", dave.id, device)
    refused = dave("encrypt", letter, "--to", bob.id, "-o", letter.with_suffix(".never"))
    assert refused.code == 1
    assert "E-DEVICE-REVOKED" in refused.err
    alerts = second("whoami", "--json").json["alerts"]
    assert {"E-DEVICE-REVOKED"} == {alert["code"] for alert in alerts}
    assert {device} == {alert["device"] for alert in alerts}


def test_an_unregistered_device_is_refused(network: Network, bob: User, letter: Path) -> None:
    erin = User(network, "erin")
    made = erin("init", "--network", network.directory / "network.toml", "--network-key", network.layout["network_key"])
    assert made.code == 0
    refused = erin("encrypt", letter, "--to", bob.id)
    assert refused.code != 0
    assert "E-" in refused.err
    assert "Traceback" not in refused.err


def test_nothing_secret_is_on_disk_or_in_logs_in_clear(network: Network, alice: User, bob: User, letter: Path) -> None:
    encrypted(alice, bob, letter)
    secrets = [path.read_bytes() for path in Path(network.layout["credentials"]).rglob("*") if path.is_file()]
    for name in ("node1", "node4"):
        passphrase = (Path(network.layout["credentials"]) / name / "qnode").read_bytes()
        secrets.append(keystore.read(network.directory / name / "node.keystore", "node", passphrase))
    forms = [form for secret in secrets for form in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"="))]
    for path in network.directory.rglob("*"):
        if path.is_file() and path.suffix != ".txt":
            data = path.read_bytes()
            assert not any(form in data for form in forms), path


def test_a_working_network_logs_nothing_alarming(network: Network) -> None:
    for name in ("qrngd", "node3", "node6"):
        lines = network.log(name)
        assert lines
        assert not [line for line in lines if line["level"] in ("error", "critical")]
