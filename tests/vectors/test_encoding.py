"""Every kind against the published encodings, and against `msgpack`, an independent codec."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from qustream.errors import QuStreamError
from qustream.identity import enrolment
from qustream.model import base, entropy, genesis, keys, network, state
from qustream.model.base import Noun
from qustream.rules import radix, radix_plan
from qustream.wire import bulk, bundle, consensus, feed, gossip, hello, light, mempool, peers, rpc, snapshot, sync, transactions
from qustream.wire import keys as wire_keys
from qustream.wire.codec import Message, decode, encode
from qustream.wire.hello import HELLO_MAX_BYTES
from qustream.wire.rpc import BODY_MAX_BYTES
from qustream.wire.transactions import Action, AnyAction

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/encoding.json").read_text())
MODULES = (
    base,
    keys,
    network,
    entropy,
    hello,
    rpc,
    wire_keys,
    feed,
    gossip,
    peers,
    bulk,
    consensus,
    transactions,
    state,
    genesis,
    bundle,
    mempool,
    sync,
    light,
    radix,
    radix_plan,
    snapshot,
    enrolment,
)
KINDS = {
    name: value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Noun) and value.__module__ == module.__name__ and value not in (Noun, Action)
}


def plain(value: Any) -> Any:
    """The value that a vector's description stands for."""
    if isinstance(value, dict):
        return bytes([value["fill"]]) * value["bytes"]
    return [plain(item) for item in value] if isinstance(value, list) else value


def listed(vector: dict[str, Any]) -> list[Any]:
    return ([] if vector["tag"] is None else [vector["tag"]]) + plain(vector["fields"])


def noun_of(vector: dict[str, Any]) -> Noun:
    return msgspec.convert(listed(vector), KINDS[vector["kind"]])


def named(vector: dict[str, Any]) -> str:
    return vector.get("why", vector["kind"])


def unpacked(data: bytes) -> Any:
    """`msgpack` under explicit limits: none of them leaves room for what the tables do not allow."""
    limit = len(data)
    return msgpack.unpackb(
        data, raw=False, strict_map_key=True, max_bin_len=limit, max_str_len=2048, max_array_len=300, max_map_len=0, max_ext_len=0
    )


@pytest.mark.parametrize("vector", VECTORS["kinds"], ids=named)
def test_both_codecs_make_and_read_the_same_bytes(vector):
    noun = noun_of(vector)
    encoded = encode(noun)
    assert len(encoded) == vector["encoded_bytes"]
    if "encoded" in vector:
        assert encoded.hex() == vector["encoded"]
    else:
        assert hashlib.sha256(encoded).hexdigest() == vector["encoded_sha256"]
    assert msgpack.packb(listed(vector)) == encoded
    assert unpacked(encoded) == listed(vector)
    assert decode(encoded, KINDS[vector["kind"]], max_bytes=len(encoded)) == noun


@pytest.mark.parametrize("vector", VECTORS["refusals"], ids=named)
def test_bytes_to_refuse(vector):
    data = bytes.fromhex(vector["hex"]) + bytes([vector.get("then_fill", 0)]) * vector.get("then_bytes", 0)
    with pytest.raises(QuStreamError) as caught:
        decode(data, KINDS[vector["kind"]], max_bytes=HELLO_MAX_BYTES)
    assert caught.value.code == vector["code"]
    assert caught.value.detail


def test_every_kind_has_a_vector():
    assert {vector["kind"] for vector in VECTORS["kinds"]} == set(KINDS) - {"Message"}


def test_tags_are_unique_and_those_of_the_vectors():
    tags = {name: msgspec.inspect.type_info(kind).tag for name, kind in KINDS.items() if kind is not Message}
    assert all((tag is not None) is issubclass(KINDS[name], (Message, Action)) for name, tag in tags.items())
    for numbered in (Message, Action):  # two ranges: an action is never where a message is
        given = [tag for name, tag in tags.items() if issubclass(KINDS[name], numbered)]
        assert len(given) == len(set(given))
    assert {(vector["kind"], vector["tag"]) for vector in VECTORS["kinds"]} == set(tags.items())


def test_a_union_tells_messages_apart_by_their_tags():
    unions = (
        rpc.RpcMessage, feed.FeedMessage, gossip.GossipMessage, peers.PeerAsk, bulk.BulkServed, bulk.BulkMessage,
        wire_keys.RequestBody, wire_keys.KeysAnswer, AnyAction,
    )  # fmt: skip
    for union in unions:
        names = {kind.__name__ for kind in union.__args__}
        for vector in VECTORS["kinds"]:
            encoded = encode(noun_of(vector))
            if vector["kind"] in names:
                assert decode(encoded, union, max_bytes=BODY_MAX_BYTES) == noun_of(vector)
            elif vector["tag"] is not None and len(encoded) <= BODY_MAX_BYTES:
                with pytest.raises(QuStreamError) as caught:
                    decode(encoded, union, max_bytes=BODY_MAX_BYTES)
                assert caught.value.code == "E-WIRE-MALFORMED"
