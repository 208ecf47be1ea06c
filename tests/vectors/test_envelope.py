"""The known answers of `proto/vectors/envelope.json`: envelopes that open, and edits of them that must not."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from qustream.envelope import content_key, decrypt_stream, read_header, unseal, verify_sender
from qustream.errors import QuStreamError
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/envelope.json").read_text())
ENVELOPES = {sample["name"]: base64.b64decode(sample["envelope"]) for sample in VECTORS["envelopes"]}
MASTER = SigningKey(bytes.fromhex(VECTORS["sender_master_seed"])).public


def drawn(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


def blocks(which: list[int]) -> dict[bytes, tuple[bytes, bytes]]:
    chosen = [VECTORS["nodes"][n] for n in which]
    return {bytes.fromhex(n["node"]): (drawn(n["material_label"], 262_270), bytes.fromhex(n["salt"])) for n in chosen}


@pytest.mark.parametrize("recipient", VECTORS["recipients"], ids=["first", "second"])
@pytest.mark.parametrize("sample", VECTORS["envelopes"], ids=lambda sample: sample["name"])
def test_an_envelope_opens(sample: dict[str, Any], recipient: dict[str, str]) -> None:
    stream, sink = BytesIO(ENVELOPES[sample["name"]]), BytesIO()
    header = read_header(stream)
    verify_sender(header, MASTER, VECTORS["at_ms"])
    secrets = unseal(header, bytes.fromhex(recipient["user"]), HpkeKey(bytes.fromhex(recipient["hpke_seed"])))
    key = content_key(header, secrets.client_secret, blocks([1, 2, 3, 5]))
    found = {"core_hash": header.core_hash, "header_hash": header.hash, "commitment": header.commitment}
    found |= {"client_secret": secrets.client_secret, "content_key": bytes(key.secret)}
    assert {name: value.hex() for name, value in found.items()} == {name: sample[name] for name in found}
    assert secrets.seeds == {bytes.fromhex(n["node"]): bytes.fromhex(n["seed"]) for n in VECTORS["nodes"]}
    decrypt_stream(stream, sink, header, key)
    assert sink.getvalue() == drawn(sample["plaintext_label"], sample["plaintext_bytes"])
    assert hashlib.sha256(sink.getvalue()).hexdigest() == sample["plaintext_sha256"]


def edited(case: dict[str, Any]) -> bytes:
    data = bytearray(ENVELOPES[case["of"]])
    if "flip" in case:
        data[case["flip"]] ^= 1
    if "cut" in case:
        del data[case["cut"] :]
    if "drop" in case:
        at, size = case["drop"]
        del data[at : at + size]
    if "end_of" in case:
        data[-case["bytes"] :] = ENVELOPES[case["end_of"]][-case["bytes"] :]
    return bytes(data) + bytes.fromhex(case.get("append", ""))


@pytest.mark.parametrize("case", VECTORS["refusals"], ids=lambda case: case["why"])
def test_an_edited_envelope_is_refused(case: dict[str, Any]) -> None:
    recipient = VECTORS["recipients"][0]
    user, hpke = bytes.fromhex(case.get("user", recipient["user"])), HpkeKey(bytes.fromhex(recipient["hpke_seed"]))

    def opened() -> None:
        stream = BytesIO(edited(case))
        header = read_header(stream)
        verify_sender(header, MASTER, VECTORS["at_ms"])
        secrets = unseal(header, user, hpke)
        key = content_key(header, secrets.client_secret, blocks(case.get("nodes", list(range(6)))))
        decrypt_stream(stream, BytesIO(), header, key)

    with pytest.raises(QuStreamError) as caught:
        opened()
    assert caught.value.code == case["code"]


def test_the_second_implementation_opens_them_too() -> None:
    script = Path(__file__).parents[2] / "scripts/vectors/envelope.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
