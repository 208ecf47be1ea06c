"""The known answers of `proto/vectors/frames.json`."""

import hashlib
import json
from pathlib import Path

import msgpack
import pytest

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.certificate import read_certificate
from qustream.transport.frames import FrameReader, SendQueues, frames_of
from qustream.transport.greeting import LocalHello, check_hello, make_hello
from qustream.transport.limits import COALESCE_BYTES, Channel
from qustream.wire.codec import decode, encode
from qustream.wire.hello import Goodbye, Hello, Ping, Pong, Role
from qustream.wire.rpc import RpcMessage

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/frames.json").read_text())
raw = bytes.fromhex


def body(size: int, first: int) -> bytes:
    return bytes((first + at) % 251 for at in range(size))


def read(data: bytes) -> list[tuple[int, bytes]]:
    return [(int(channel), message) for channel, message in FrameReader(lambda _channel: None).feed(data)]


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: f"{case['channel']}-{case['size']}")
def test_messages_are_cut_and_joined(case: dict) -> None:
    message = body(case["size"], case["first"])
    frames = frames_of(Channel(case["channel"]), message)
    assert len(frames) == case["frames_bytes"]
    assert hashlib.sha256(frames).hexdigest() == case["frames_sha256"]
    assert frames.hex() == case.get("frames", frames.hex())
    assert read(frames) == [(case["channel"], message)]
    queues = SendQueues()
    queues.put(Channel(case["channel"]), message)
    sent = b""
    while queues:
        sent += b"".join(queues.take(COALESCE_BYTES))
    assert sent == frames


def test_pieces_of_different_channels_interleave() -> None:
    case = VECTORS["interleaved"]
    block = body(case["block"]["size"], case["block"]["first"])
    frames = {
        "block": frames_of(Channel(case["block"]["channel"]), block),
        "vote": frames_of(Channel(case["vote"]["channel"]), raw(case["vote"]["body"])),
        "news": frames_of(Channel(case["news"]["channel"]), raw(case["news"]["body"])),
    }
    stream = b"".join(frames[part["of"]][part["from"] : part["to"]] for part in case["parts"])
    assert hashlib.sha256(stream).hexdigest() == case["sha256"]
    assert read(stream) == [(1, b"vote"), (3, b"news"), (4, block)]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["about"])
def test_what_is_refused_is_refused_at_its_header(case: dict) -> None:
    with pytest.raises(QuStreamError) as caught:
        read(raw(case["bytes"]))
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("case", VECTORS["control"] + VECTORS["rpc"], ids=lambda case: case["about"])
def test_small_messages(case: dict) -> None:
    [(channel, message)] = read(raw(case["frame"]))
    kind = RpcMessage if channel == Channel.REQUEST else Hello | Ping | Pong | Goodbye
    assert message.hex() == case["message"]
    assert encode(decode(message, kind, max_bytes=1000)) == message
    assert msgpack.packb(msgpack.unpackb(message, raw=False), use_bin_type=True) == message


@pytest.mark.parametrize("case", VECTORS["hellos"], ids=lambda case: case["role"])
def test_hellos(case: dict) -> None:
    identity = VECTORS["identity"]
    key, exporter = SigningKey(raw(identity["seed"])), raw(identity["exporter"])
    hello = decode(raw(case["message"]), Hello, max_bytes=1000)
    _, _, chain, roles, addresses, height = case["fields"]
    local = LocalHello(chain, tuple(map(Role, roles)), tuple(addresses), height)
    assert make_hello(local, case["role"], key, exporter).proof == hello.proof == raw(case["proof"])
    assert read(raw(case["frame"])) == [(0, raw(case["message"]))]
    peer = check_hello(hello, local, case["role"], key.public, exporter)
    assert (peer.id.hex(), peer.version) == (identity["id"], 1)


def test_what_a_hello_signs() -> None:
    identity = VECTORS["identity"]
    public = SigningKey(raw(identity["seed"])).public
    for role, digest in identity["statement_sha256"].items():
        purpose = b"qustream/1/hello"
        statement = bytes([len(purpose)]) + purpose + public.ed25519 + public.mldsa + role.encode() + raw(identity["exporter"])
        assert hashlib.sha256(statement).hexdigest() == digest


def test_the_certificate_leads_to_the_id() -> None:
    public = read_certificate(raw(VECTORS["certificate"]))
    assert public.ed25519.hex() == VECTORS["identity"]["ed25519"]
    assert public.id.hex() == VECTORS["identity"]["id"]
