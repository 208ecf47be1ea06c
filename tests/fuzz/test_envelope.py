"""Whatever bytes are given as an envelope: opened, or refused with a code; never a crash, never another plaintext."""

from __future__ import annotations

import base64
import hashlib
import json
from io import BytesIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.envelope import content_key, decrypt_stream, read_header, unseal, verify_sender
from qustream.envelope.header import preamble
from qustream.errors import QuStreamError
from qustream.identity.hpke import HpkeKey
from qustream.identity.signing import SigningKey

VECTORS = json.loads((Path(__file__).parents[2] / "proto/vectors/envelope.json").read_text())
SAMPLES = [base64.b64decode(sample["envelope"]) for sample in VECTORS["envelopes"] if sample["plaintext_bytes"] < 1000]
MASTER = SigningKey(bytes.fromhex(VECTORS["sender_master_seed"])).public
USER = bytes.fromhex(VECTORS["recipients"][0]["user"])
HPKE = HpkeKey(bytes.fromhex(VECTORS["recipients"][0]["hpke_seed"]))
BLOCKS = {
    bytes.fromhex(node["node"]): (hashlib.shake_256(node["material_label"].encode()).digest(262_270), bytes.fromhex(node["salt"]))
    for node in VECTORS["nodes"]
}


def opened(data: bytes, *, verified: bool) -> bytes | None:
    """The plaintext, or None if the envelope is refused. `verified` false leaves out the signature over the header, to get past it."""
    stream, sink = BytesIO(data), BytesIO()
    try:
        header = read_header(stream)
        if verified:
            verify_sender(header, MASTER, VECTORS["at_ms"])
        key = content_key(header, unseal(header, USER, HPKE).client_secret, BLOCKS)
        decrypt_stream(stream, sink, header, key)
    except QuStreamError:
        return None
    return sink.getvalue()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    assert opened(data, verified=True) is None
    assert opened(preamble(data) + data, verified=True) is None


edits = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, 1 << 30), st.integers(1, 255)),
        st.tuples(st.just("cut"), st.integers(0, 1 << 30), st.just(0)),
        st.tuples(st.just("repeat"), st.integers(0, 1 << 30), st.integers(1, 5000)),
        st.tuples(st.just("remove"), st.integers(0, 1 << 30), st.integers(1, 5000)),
        st.tuples(st.just("insert"), st.integers(0, 1 << 30), st.integers(1, 5000)),
    ),
    min_size=1,
    max_size=4,
)


def edit(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    for kind, where, much in changes:
        at = where % (len(data) + 1)
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ much]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "repeat":
            data = data[: at + much] + data[at:]
        elif kind == "remove":
            data = data[:at] + data[at + much :]
        elif kind == "insert":
            data = data[:at] + bytes(much) + data[at:]
    return data


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(range(len(SAMPLES))), edits, st.booleans())
def test_edited_envelopes(which: int, changes: list[tuple[str, int, int]], verified: bool) -> None:
    data = edit(SAMPLES[which], changes)
    plaintext = opened(data, verified=verified)
    if data != SAMPLES[which]:
        assert plaintext is None
    else:
        assert plaintext is not None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_pieces_of_two_envelopes(data: st.DataObject) -> None:
    one, two = data.draw(st.permutations(SAMPLES))[:2]
    at, to = data.draw(st.integers(0, len(one))), data.draw(st.integers(0, len(two)))
    mixed = one[:at] + two[to:]
    assert (opened(mixed, verified=True) is None) == (mixed not in SAMPLES)
