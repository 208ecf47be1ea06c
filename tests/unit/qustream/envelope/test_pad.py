"""Pad mode against its definition, byte by byte, and against everybody who edits it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from qustream.envelope import PAD_MAX_BYTES, content_key, decrypt_stream, read_header, seal_pad, unseal
from qustream.envelope.keys import chacha20, hkdf
from qustream.envelope.trailer import TRAILER_BYTES
from qustream.errors import QuStreamError


def opened(world: Any, envelope: bytes, which: tuple[int, ...] = tuple(range(6)), tag: str = "") -> bytes:
    stream, sink = BytesIO(envelope), BytesIO()
    header = read_header(stream)
    secrets = unseal(header, world.bob.user, world.bob.hpke)
    key = content_key(header, secrets.client_secret, world.opened(*which, tag=tag))
    assert decrypt_stream(stream, sink, header, key) == len(sink.getvalue())
    assert key.secret == b""
    return sink.getvalue()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(QuStreamError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 16, 95, 96, 97, 1000, 65_536, PAD_MAX_BYTES])
def test_every_size_comes_back(world: Any, size: int) -> None:
    plaintext = hashlib.shake_256(b"plaintext").digest(size)
    envelope = world.pad(plaintext)
    assert opened(world, envelope) == plaintext
    front = read_header(BytesIO(envelope))
    assert len(envelope) == len(front.raw) + size + 16 + TRAILER_BYTES
    assert [len(part) for part in front.corrections] == [96 + size, 96 + size]
    assert len(envelope) < 852_000


@pytest.mark.parametrize("size", [PAD_MAX_BYTES + 1, 262_144])
def test_a_larger_content_is_refused_and_spends_nothing(world: Any, size: int) -> None:
    blocks = world.blocks()
    assert code_of(lambda: seal_pad(blocks, bytes(size), **world.order())) == "E-PAD-SIZE"
    assert not any(block.spent for block in blocks)


@pytest.mark.parametrize("which", [(*f, *c) for f in ((0, 1), (0, 2), (1, 2)) for c in ((3, 4), (3, 5), (4, 5))])
def test_any_two_blocks_of_each_class_open(world: Any, which: tuple[int, ...]) -> None:
    assert opened(world, world.pad(b"one time"), which) == b"one time"


def times(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def test_the_ciphertext_is_the_definitions(world: Any) -> None:
    plaintext = b"the definition, byte by byte"
    envelope = world.pad(plaintext)
    stream = BytesIO(envelope)
    header = read_header(stream)
    size = 96 + len(plaintext)
    shares = []
    for n, node in enumerate(world.nodes):
        info = b"qustream/1/pad-share" + node + header.core.grant + (7).to_bytes(4, "big")
        key = hkdf(world.salt(n), salt=None, info=info, length=32)
        shares.append(chacha20(key, world.material(n)[:size]))
    zero = []
    third = next(x for x in range(256) if times(3, x) == 1)
    for one, two, three, moved in [(*shares[:3], header.corrections[0]), (*shares[3:], header.corrections[1])]:
        slopes = [times(a ^ b, third) for a, b in zip(one, two, strict=True)]
        zero.append(bytes(a ^ m for a, m in zip(one, slopes, strict=True)))
        assert bytes(c ^ z ^ times(3, m) for c, z, m in zip(three, zero[-1], slopes, strict=True)) == moved
    secrets = unseal(header, world.bob.user, world.bob.hpke)
    client = hkdf(secrets.client_secret, salt=header.core_hash, info=b"qustream/1/pad-client", length=32)
    pad = chacha20(client, bytes(a ^ b for a, b in zip(*zero, strict=True)))
    assert stream.read(len(plaintext)) == bytes(p ^ k for p, k in zip(plaintext, pad[96:], strict=True))
    assert hashlib.sha256(b"qustream/1/pad-commitment" + header.core_hash + pad).digest() == header.commitment


def test_the_same_plaintext_never_looks_the_same(world: Any) -> None:
    ends = {world.pad(bytes(100), tag=tag)[-TRAILER_BYTES - 116 : -TRAILER_BYTES - 16] for tag in ("a", "b", "b")}
    assert len(ends) == 3


def test_a_byte_changed_anywhere_after_the_header(world: Any) -> None:
    envelope = world.pad(b"twelve bytes")
    front = len(read_header(BytesIO(envelope)).raw)
    mac_end = len(envelope) - TRAILER_BYTES
    codes: dict[str, set[str]] = {"content": set(), "trailer": set()}
    for at in itertools.chain(range(front, mac_end), range(mac_end, len(envelope), 13)):
        changed = envelope[:at] + bytes([envelope[at] ^ 2]) + envelope[at + 1 :]
        codes["content" if at < mac_end else "trailer"].add(code_of(lambda changed=changed: opened(world, changed)))
    assert codes["content"] == {"E-ENVELOPE-TAMPERED"}
    assert codes["trailer"] <= {"E-ENVELOPE-SENDER", "E-ENVELOPE-TRUNCATED"}


def test_every_prefix_is_truncated_and_a_longer_file_is_none(world: Any) -> None:
    envelope = world.pad(b"twelve bytes")
    front = len(read_header(BytesIO(envelope)).raw)
    codes = {code_of(lambda size=size: opened(world, envelope[:size])) for size in range(front, len(envelope), 3)}
    assert codes == {"E-ENVELOPE-TRUNCATED"}
    assert code_of(lambda: opened(world, envelope + b"x")) == "E-ENVELOPE-FORMAT"


def test_trailers_swapped(world: Any) -> None:
    one, two = world.pad(b"one"), world.pad(b"two")
    assert code_of(lambda: opened(world, one[:-TRAILER_BYTES] + two[-TRAILER_BYTES:])) == "E-ENVELOPE-SENDER"


def test_nothing_is_released_before_everything_holds(world: Any) -> None:
    envelope = world.pad(b"secret")
    broken = envelope[:-TRAILER_BYTES] + bytes(TRAILER_BYTES - 8) + b"QUST-END"
    stream, sink = BytesIO(broken), BytesIO()
    header = read_header(stream)
    secrets = unseal(header, world.bob.user, world.bob.hpke)
    key = content_key(header, secrets.client_secret, world.opened())
    assert code_of(lambda: decrypt_stream(stream, sink, header, key)) == "E-ENVELOPE-SENDER"
    assert sink.getvalue() == b""


def test_blocks_are_wiped_and_another_try_takes_new_ones(world: Any) -> None:
    blocks = world.blocks()
    materials = [block.material for block in blocks]
    seal_pad(blocks, b"hello", **world.order())
    assert all(material == bytes(262_270) for material in materials)
    assert code_of(lambda: seal_pad(blocks, b"hello", **world.order())) == "E-GRANT-SPENT"


def test_a_failed_try_spends_the_blocks_too(world: Any) -> None:
    blocks = world.blocks()
    wrong_key = [(b"b" * 32, bytes(1216 - 1))]
    assert code_of(lambda: seal_pad(blocks, b"hello", **world.order(recipients=wrong_key))) == "E-WIRE-MALFORMED"
    assert code_of(lambda: seal_pad(blocks, b"hello", **world.order())) == "E-GRANT-SPENT"
