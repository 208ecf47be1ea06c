"""Epochs, grant ids and network files against the published vectors."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from qustream.errors import QuStreamError
from qustream.identity.enrolment import open_hpke_statement
from qustream.identity.signing import SigningKey
from qustream.model.ids import IdKind, from_text
from qustream.registry import NetworkFileRegistry
from qustream.registry.epochs import EpochClock
from qustream.registry.parse import parse
from qustream.registry.signed_file import PURPOSE, open_file, seal_file
from qustream.registry.writer import grant_id

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/registry.json").read_text())
NETWORK = VECTORS["network"]
PINNED = bytes.fromhex(VECTORS["network_key"])
NOW_MS = NETWORK["genesis_ms"] + 3 * NETWORK["epoch_length_ms"]


@pytest.mark.parametrize("vector", VECTORS["epochs"], ids=lambda vector: str(vector["number"]))
def test_epochs(vector):
    clock = EpochClock(NETWORK["chain"], NETWORK["genesis_ms"], NETWORK["epoch_length_ms"], bytes.fromhex(NETWORK["seed"]))
    epoch = clock.at(vector["number"])
    assert (epoch.boundary_ms, epoch.seed.hex()) == (vector["boundary_ms"], vector["seed"])
    assert clock.of(vector["boundary_ms"]) == epoch


@pytest.mark.parametrize("vector", VECTORS["grants"], ids=lambda vector: vector["id"][:8])
def test_grant_ids(vector):
    made = grant_id(NETWORK["chain"], bytes.fromhex(vector["owner"]), bytes.fromhex(vector["root"]), vector["epoch"])
    assert made.hex() == vector["id"]


def test_the_file_says_what_is_listed(tmp_path):
    path = tmp_path / "network.toml"
    path.write_text(VECTORS["file"])
    registry = NetworkFileRegistry(path, VECTORS["network_key_text"], chain=NETWORK["chain"])
    registry.load(NOW_MS)
    assert from_text(VECTORS["network_key_text"], IdKind.NETWORK) == PINNED
    contents = VECTORS["contents"]
    assert registry.height == contents["version"]
    for row in contents["nodes"]:
        node = registry.node(bytes.fromhex(row["id"]))
        assert (node.node_class, node.licence.hex(), node.weight) == (row["class"], row["licence"], row["weight"])
        assert registry.assignment(registry.grant(bytes.fromhex(contents["grants"][0]["id"])), 0)[node.node_class] == [node]
    for row in contents["qrng_servers"]:
        server = registry.qrng_server(bytes.fromhex(row["id"]))
        assert (server.name, [key.hex() for key in server.device_authorities]) == (row["name"], row["device_authorities"])
    for row in contents["users"]:
        user = registry.user(bytes.fromhex(row["id"]))
        assert [[entry.device.hex(), entry.revoked] for entry in user.devices] == row["devices"]
        assert open_hpke_statement(user.hpke, user.master).hex() == row["hpke"]
    for row in contents["grants"]:
        grant = registry.grant(bytes.fromhex(row["id"]))
        assert (grant.owner.hex(), grant.count, grant.pinned.hex()) == (row["owner"], row["count"], row["pinned"])
    since = {node.hex(): licensed.since_epoch for node, licensed in parse(open_file(path.read_bytes(), PINNED)).nodes.items()}
    assert since == {row["id"]: row["since_epoch"] for row in contents["nodes"]}


def changed(vector: dict) -> bytes:
    text = VECTORS["file"][: vector.get("keep")] + vector.get("append", "")
    for old, new in vector.get("replace", []):
        assert old in text
        text = text.replace(old, new)
    if "sign" not in vector:
        return text.encode()
    key = SigningKey(bytes.fromhex(vector["sign"]))
    sealed = seal_file(text[: text.rindex("# network_key")], key)
    if "purpose" not in vector:
        return sealed
    covered, _, _ = sealed.rpartition(b"# signature")
    return covered + b'# signature = "' + base64.b64encode(key.sign(vector["purpose"], covered)) + b'"\n'


@pytest.mark.parametrize("vector", VECTORS["refusals"], ids=lambda vector: vector["why"])
def test_files_to_refuse(vector, tmp_path):
    assert vector.get("purpose") != PURPOSE
    path = tmp_path / "network.toml"
    path.write_bytes(changed(vector))
    registry = NetworkFileRegistry(path, PINNED)
    with pytest.raises(QuStreamError) as caught:
        registry.load(NOW_MS)
    assert caught.value.code == vector["code"]
