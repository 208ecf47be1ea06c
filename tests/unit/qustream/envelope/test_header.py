"""Reading the front of an envelope from hostile bytes."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import msgspec
import pytest

from qustream.envelope import read_header
from qustream.envelope.header import (
    HEADER_MAX_BYTES,
    MAGIC,
    EnvelopeCore,
    EnvelopeHeader,
    HeaderBody,
    PadContent,
    StreamContent,
    preamble,
    read_exactly,
)
from qustream.errors import QuStreamError
from qustream.model.network import NodeClass
from qustream.wire.codec import decode, encode


def refused(data: bytes) -> str:
    with pytest.raises(QuStreamError) as caught:
        read_header(BytesIO(data))
    return caught.value.code


def rebuilt(envelope: bytes, *, core: dict[str, Any] | None = None, body: dict[str, Any] | None = None) -> bytes:
    """The envelope's front with fields of core or body replaced, and no valid signature."""
    header = read_header(BytesIO(envelope))
    new_core = encode(msgspec.structs.replace(header.core, **core or {}))
    parts = {"core": new_core, "commitment": header.commitment, "seals": header.seals, **(body or {})}
    data = encode(EnvelopeHeader(encode(HeaderBody(**parts)), header.signature))
    return preamble(data) + data


@pytest.fixture(scope="module")
def envelope(world: Any) -> bytes:
    return world.envelope(b"hello")


@pytest.fixture(scope="module")
def pad(world: Any) -> bytes:
    return world.pad(b"hello", tag="pad")


def test_the_header_says_what_a_recipient_needs(world: Any, envelope: bytes) -> None:
    stream = BytesIO(envelope)
    header = read_header(stream)
    assert header.raw == envelope[: stream.tell()]
    assert header.hash == hashlib.sha256(header.raw).digest()
    assert header.core.chain == "test"
    assert header.core.sender == world.alice.user
    assert header.certificate.device_key == world.alice.device.public
    assert header.core.recipients == (world.bob.user, world.carol.user)
    assert (header.core.grant, header.core.index) == (world.blocks()[0].grant, 7)
    assert [block.node for block in header.core.blocks] == world.nodes
    assert [block.block_hash for block in header.core.blocks] == [block.block_hash for block in world.blocks()]
    assert [block.node for block in header.blocks_of(NodeClass.COMMUNITY)] == world.nodes[3:]
    assert header.core.created_ms < header.core.expires_ms
    assert isinstance(header.core.content, StreamContent)
    assert header.pad_bytes is None


def test_a_pad_headers_corrections_are_read_with_it(pad: bytes) -> None:
    header = read_header(BytesIO(pad))
    assert isinstance(header.core.content, PadContent)
    assert header.pad_bytes == 5
    assert [len(part) for part in header.corrections] == [101, 101]
    assert header.raw.endswith(header.corrections[0] + header.corrections[1])


@pytest.mark.parametrize("kind", ["envelope", "pad"])
def test_every_prefix_is_truncated(kind: str, request: pytest.FixtureRequest) -> None:
    whole = read_header(BytesIO(request.getfixturevalue(kind))).raw
    assert {refused(whole[:size]) for size in range(len(whole))} == {"E-ENVELOPE-TRUNCATED"}


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"x", b"QUSTREAN" + bytes(20), b"qustream" + bytes(20), bytes(100)])
def test_another_files_beginning(data: bytes) -> None:
    assert refused(data) == "E-ENVELOPE-FORMAT"


@pytest.mark.parametrize("version", [0, 2, 0xFFFF])
def test_another_version(envelope: bytes, version: int) -> None:
    assert refused(MAGIC + version.to_bytes(2, "big") + envelope[10:]) == "E-ENVELOPE-FORMAT"


@pytest.mark.parametrize("length", [0, HEADER_MAX_BYTES + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_before_anything_is_read(envelope: bytes, length: int) -> None:
    stream = BytesIO(envelope[:10] + length.to_bytes(4, "big") + envelope[14:])
    with pytest.raises(QuStreamError, match="E-ENVELOPE-FORMAT"):
        read_header(stream)
    assert stream.tell() == 14


@pytest.mark.parametrize(
    "header", [b"\xc0", b"\x90", b"\x92\xc4\x00", b"\x93" + bytes(3), b"\x91" * 5000, b"\xdd\xff\xff\xff\xff", bytes(HEADER_MAX_BYTES)]
)
def test_a_malformed_header(header: bytes) -> None:
    assert refused(preamble(header) + header) == "E-ENVELOPE-FORMAT"


def test_bytes_after_the_header_inside_its_length(envelope: bytes) -> None:
    data = read_header(BytesIO(envelope)).raw[14:] + b"\x00"
    assert refused(preamble(data) + data) == "E-ENVELOPE-FORMAT"


def test_a_non_canonical_header(envelope: bytes) -> None:
    data = read_header(BytesIO(envelope)).raw[14:]
    assert data[:2] == b"\x92\xc5"  # an array of two, a body of 16-bit length
    longer = b"\x92\xc6\x00\x00" + data[2:]  # the same length in 32 bits
    assert refused(preamble(longer) + longer) == "E-ENVELOPE-FORMAT"


def swapped(core: EnvelopeCore, i: int, j: int) -> dict[str, Any]:
    blocks = list(core.blocks)
    blocks[i], blocks[j] = blocks[j], blocks[i]
    return {"blocks": tuple(blocks)}


def with_class(core: EnvelopeCore, i: int, node_class: NodeClass) -> dict[str, Any]:
    blocks = list(core.blocks)
    blocks[i] = msgspec.structs.replace(blocks[i], node_class=node_class)
    return {"blocks": tuple(blocks)}


@pytest.mark.parametrize(
    "change",
    [
        lambda core: {"blocks": ()},
        lambda core: {"blocks": core.blocks[:5]},
        lambda core: {"blocks": core.blocks + core.blocks[5:]},
        lambda core: {"blocks": core.blocks[:5] + core.blocks[4:5]},
        lambda core: {"blocks": core.blocks[:3] + core.blocks[:3]},
        lambda core: with_class(core, 0, NodeClass.COMMUNITY),
        lambda core: with_class(core, 5, NodeClass.FOUNDATION),
        lambda core: swapped(core, 2, 3),
    ],
    ids=["none", "five", "seven", "twice", "one class", "2+4", "4+2", "order"],
)
def test_the_wrong_mix_of_classes(envelope: bytes, change: Any) -> None:
    core = read_header(BytesIO(envelope)).core
    assert refused(rebuilt(envelope, core=change(core))) == "E-CLASS-MIX"


def test_the_same_node_in_both_classes(envelope: bytes) -> None:
    core = read_header(BytesIO(envelope)).core
    twin = msgspec.structs.replace(core.blocks[3], node=core.blocks[0].node)
    assert refused(rebuilt(envelope, core={"blocks": (*core.blocks[:3], twin, *core.blocks[4:])})) == "E-CLASS-MIX"


@pytest.mark.parametrize(
    "core",
    [
        {"recipients": ()},
        {"recipients": (b"b" * 32, b"b" * 32)},
        {"recipients": (b"b" * 32,)},
        {"recipients": tuple(bytes([n]) * 32 for n in range(65))},
        {"recipients": (b"b" * 31, b"c" * 32)},
        {"created_ms": 5, "expires_ms": 5},
        {"expires_ms": -1},
        {"chain": "c" * 65},
        {"index": 1 << 32},
        {"grant": b"g"},
        {"content": StreamContent(bytes(63), bytes(64))},
        {"content": PadContent(196_609, bytes(32))},
        {"content": None},
    ],
)
def test_a_core_that_contradicts_itself(envelope: bytes, core: dict[str, Any]) -> None:
    assert refused(rebuilt(envelope, core=core)) == "E-ENVELOPE-FORMAT"


def test_seals_of_another_number_or_size(envelope: bytes) -> None:
    seals = read_header(BytesIO(envelope)).seals
    for wrong in [(), seals[:1], (*seals, seals[0]), (seals[0], seals[1][:-1]), (seals[0], seals[1] + b"x")]:
        assert refused(rebuilt(envelope, body={"seals": wrong})) == "E-ENVELOPE-FORMAT"


def test_a_malformed_device_certificate(envelope: bytes) -> None:
    certificate = read_header(BytesIO(envelope)).core.certificate
    for body in (b"", certificate.body[:-1], certificate.body + b"\x00"):
        wrong = msgspec.structs.replace(certificate, body=body)
        assert refused(rebuilt(envelope, core={"certificate": wrong})) == "E-ENVELOPE-FORMAT"


def test_changed_corrections_of_a_pad(pad: bytes) -> None:
    raw = read_header(BytesIO(pad)).raw
    for at in range(len(raw) - 202, len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :]
        assert refused(changed) == "E-ENVELOPE-TAMPERED"


class Trickle(BytesIO):
    """Gives at most 3 bytes at once, like a slow pipe."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3 if size is None or size < 0 else min(3, size))


def test_short_reads_are_put_together(envelope: bytes) -> None:
    assert read_header(Trickle(envelope)).raw == read_header(BytesIO(envelope)).raw
    assert read_exactly(Trickle(b"abcdefgh"), 7) == b"abcdefg"
    assert read_exactly(Trickle(b"abcdefgh"), 9) == b"abcdefgh"
    assert read_exactly(Trickle(b""), 9) == b""


def test_the_repr_names_no_secret(envelope: bytes) -> None:
    header = read_header(BytesIO(envelope))
    assert repr(header) == f"<Header {header.hash.hex()[:12]} to 2>"
    assert decode(header.body, HeaderBody, max_bytes=HEADER_MAX_BYTES).seals == header.seals
