"""Content and trailer: every size, every cut, every swap."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from typing import Any

import nacl.bindings as sodium
import pytest

from qustream.envelope import ContentKey, Header, content_key, decrypt_stream, encrypt_stream, make_header, read_header, unseal
from qustream.envelope.behind import Sink
from qustream.envelope.stream import CHUNK_BYTES, SEALED_BYTES, START_BYTES, TAG_BYTES
from qustream.envelope.trailer import TRAILER_BYTES
from qustream.errors import QuStreamError

# Around chunks, batches and the place where the trailer starts to reach into the next piece that is read.
EDGES = [0, 1, 2, 65_535, 65_536, 65_537, 131_072, 131_073, 16 * CHUNK_BYTES - 1, 16 * CHUNK_BYTES, 16 * CHUNK_BYTES + 1, 5_000_000]
EDGES += [k * CHUNK_BYTES - TRAILER_BYTES + d for k in (1, 2, 16) for d in (-TAG_BYTES - 1, -TAG_BYTES, -1, 0, 1)]


def keyed(world: Any, envelope: bytes, tag: str = "") -> tuple[BytesIO, Header, ContentKey]:
    stream = BytesIO(envelope)
    header = read_header(stream)
    secrets = unseal(header, world.bob.user, world.bob.hpke)
    return stream, header, content_key(header, secrets.client_secret, world.opened(tag=tag))


def opened(world: Any, envelope: bytes, tag: str = "") -> bytes:
    stream, header, key = keyed(world, envelope, tag)
    sink = BytesIO()
    assert decrypt_stream(stream, sink, header, key) == len(sink.getvalue())
    return sink.getvalue()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(QuStreamError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize("size", EDGES)
def test_every_size_comes_back(world: Any, size: int) -> None:
    plaintext = os.urandom(size)
    envelope = world.envelope(plaintext)
    assert opened(world, envelope) == plaintext
    chunks = max(1, -(-size // CHUNK_BYTES))
    front = len(read_header(BytesIO(envelope)).raw)
    assert len(envelope) == front + START_BYTES + size + chunks * TAG_BYTES + TRAILER_BYTES


class Trickle(BytesIO):
    """A source that gives an odd number of bytes at once."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(7001, size) if size and size > 0 else size)


class Drop(BytesIO):
    """A sink that takes an odd number of bytes at once."""

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        return super().write(bytes(data[:5003]))


def test_short_reads_and_writes(world: Any) -> None:
    plaintext, sealed, sink = os.urandom(300_000), Drop(), Drop()
    front, key = make_header(world.blocks(), **world.order())
    encrypt_stream(Trickle(plaintext), sealed, front, key, world.alice.device)
    _, header, key = keyed(world, sealed.getvalue())
    stream = Trickle(sealed.getvalue())
    read_header(stream)
    decrypt_stream(stream, sink, header, key)
    assert sink.getvalue() == plaintext


def test_every_prefix_is_truncated(world: Any) -> None:
    envelope = world.envelope(b"a few words")
    _, header, key = keyed(world, envelope)
    for size in range(len(header.raw), len(envelope)):
        stream = BytesIO(envelope[:size])
        stream.seek(len(header.raw))
        assert code_of(lambda stream=stream: decrypt_stream(stream, BytesIO(), header, key)) == "E-ENVELOPE-TRUNCATED"


@pytest.fixture(scope="module")
def parts(world: Any) -> tuple[bytes, bytes, list[bytes], bytes]:
    """An envelope of four chunks in its parts: front, start, chunks, trailer."""
    envelope = world.envelope(b"".join(bytes([n]) * CHUNK_BYTES for n in range(3)) + b"end")
    front = read_header(BytesIO(envelope)).raw
    at = len(front) + START_BYTES
    content = envelope[at:-TRAILER_BYTES]
    chunks = [content[n : n + SEALED_BYTES] for n in range(0, len(content), SEALED_BYTES)]
    return front, envelope[len(front) : at], chunks, envelope[-TRAILER_BYTES:]


@pytest.mark.parametrize(
    "order",
    [[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [0, 1, 3], [1, 2, 3], [0, 0, 1, 2, 3], [0, 1, 2, 2, 3], [0, 1, 2, 3, 3], [3], [0, 3]],
    ids=str,
)
def test_chunks_swapped_dropped_and_repeated(world: Any, parts: Any, order: list[int]) -> None:
    front, start, chunks, trailer = parts
    envelope = front + start + b"".join(chunks[n] for n in order) + trailer
    assert code_of(lambda: opened(world, envelope)) == "E-ENVELOPE-TAMPERED"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_end_dropped_at_a_chunk_and_the_trailer_kept(world: Any, parts: Any, count: int) -> None:
    front, start, chunks, trailer = parts
    assert code_of(lambda: opened(world, front + start + b"".join(chunks[:count]) + trailer)) == "E-ENVELOPE-TRUNCATED"


def test_any_byte_of_content_and_trailer_changed(world: Any, parts: Any) -> None:
    front, start, chunks, trailer = parts
    rest = start + b"".join(chunks) + trailer
    _, header, key = keyed(world, front + rest)
    places = [*range(30), *range(SEALED_BYTES - 20, SEALED_BYTES + 30), *range(len(rest) - TRAILER_BYTES - 25, len(rest), 11)]
    codes = set()
    for at in places:
        stream = BytesIO(rest[:at] + bytes([rest[at] ^ 0x40]) + rest[at + 1 :])
        codes.add(code_of(lambda stream=stream: decrypt_stream(stream, BytesIO(), header, key)))
    assert codes <= {"E-ENVELOPE-TAMPERED", "E-ENVELOPE-SENDER", "E-ENVELOPE-TRUNCATED"}
    assert {"E-ENVELOPE-TAMPERED", "E-ENVELOPE-SENDER"} <= codes


def test_something_appended(world: Any) -> None:
    envelope = world.envelope(b"hello")
    assert code_of(lambda: opened(world, envelope + b"x")) == "E-ENVELOPE-TRUNCATED"
    assert code_of(lambda: opened(world, envelope + envelope[-TRAILER_BYTES:])) == "E-ENVELOPE-TAMPERED"


def test_trailers_of_two_envelopes_swapped(world: Any) -> None:
    one, two = world.envelope(b"one"), world.envelope(b"two")
    mixed = one[:-TRAILER_BYTES] + two[-TRAILER_BYTES:]
    assert code_of(lambda: opened(world, mixed)) == "E-ENVELOPE-SENDER"


def test_contents_of_two_envelopes_swapped(world: Any) -> None:
    one, two = world.envelope(b"one"), world.envelope(b"two")
    front = read_header(BytesIO(one)).raw
    assert code_of(lambda: opened(world, front + two[len(read_header(BytesIO(two)).raw) :])) == "E-ENVELOPE-TAMPERED"


def test_a_recipient_cannot_pass_his_words_off_as_the_senders(world: Any) -> None:
    """Bob has the key: he makes a valid stream of his own, and can only sign it as himself or keep the old trailer."""
    envelope = world.envelope(b"what alice wrote")
    _, header, key = keyed(world, envelope)
    forged = BytesIO()
    encrypt_stream(BytesIO(b"what alice never wrote"), forged, header.raw, key, world.bob.device)
    assert code_of(lambda: opened(world, forged.getvalue())) == "E-ENVELOPE-SENDER"
    kept = forged.getvalue()[:-TRAILER_BYTES] + envelope[-TRAILER_BYTES:]
    assert code_of(lambda: opened(world, kept)) == "E-ENVELOPE-SENDER"


def test_an_empty_last_chunk_after_others_is_not_the_one_form(world: Any) -> None:
    front, key = make_header(world.blocks(), **world.order())
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    start = sodium.crypto_secretstream_xchacha20poly1305_init_push(state, bytes(key.secret))
    full = sodium.crypto_secretstream_xchacha20poly1305_push(state, bytes(CHUNK_BYTES), None, 0)
    empty = sodium.crypto_secretstream_xchacha20poly1305_push(state, b"", None, 3)
    stream = BytesIO(front + start + full + empty + bytes(TRAILER_BYTES - 8) + b"QUST-END")
    header = read_header(stream)
    assert code_of(lambda: decrypt_stream(stream, BytesIO(), header, key)) == "E-ENVELOPE-FORMAT"


def test_a_key_serves_its_own_envelope_alone(world: Any) -> None:
    stream, header, key = keyed(world, world.envelope(b"one"))
    _, other, _ = keyed(world, world.envelope(b"two"))
    with pytest.raises(ValueError, match="another envelope"):
        decrypt_stream(stream, BytesIO(), other, key)
    with pytest.raises(ValueError, match="another envelope"):
        encrypt_stream(BytesIO(), BytesIO(), other.raw, key, world.alice.device)
    key.wipe()
    with pytest.raises(ValueError, match="wiped"):
        decrypt_stream(stream, BytesIO(), header, key)


def test_progress_rises_to_the_end(world: Any) -> None:
    size = 3_500_000
    front, key = make_header(world.blocks(), **world.order())
    sealed, made, seen = BytesIO(), [], []
    encrypt_stream(BytesIO(bytes(size)), sealed, front, key, world.alice.device, progress=made.append)
    stream, header, key = keyed(world, sealed.getvalue())
    decrypt_stream(stream, BytesIO(), header, key, progress=seen.append)
    for calls in (made, seen):
        assert calls == sorted(set(calls))
        assert calls[-1] == size
        assert len(calls) == 4


class Broken(BytesIO):
    """A sink or source that fails after a while."""

    def __init__(self, after: int, data: bytes = b"") -> None:
        super().__init__(data)
        self.after = after

    def _count(self) -> None:
        self.after -= 1
        if self.after < 0:
            raise OSError(5, "Input/output error")

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        self._count()
        return super().write(data)

    def read(self, size: int | None = -1) -> bytes:
        self._count()
        return super().read(size)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 20])
def test_what_source_and_sink_raise_comes_out_and_no_thread_stays(world: Any, after: int) -> None:
    envelope = world.envelope(bytes(3_000_000))
    before = set(threading.enumerate())  # one that an earlier test has left may end meanwhile
    stream, header, key = keyed(world, envelope)
    front, own = make_header(world.blocks(), **world.order())
    broken = Broken(after, envelope[len(header.raw) :])
    sinks: list[Callable[[Sink], object]] = [
        lambda sink: decrypt_stream(stream, sink, header, key),
        lambda sink: encrypt_stream(BytesIO(bytes(3_000_000)), sink, front, own, world.alice.device),
    ]
    if after < 3:
        for run in sinks:
            with pytest.raises(OSError, match="Input/output"):
                run(Broken(after))
    with pytest.raises(OSError, match="Input/output"):
        decrypt_stream(broken, BytesIO(), header, key)
    with pytest.raises(OSError, match="Input/output"):
        encrypt_stream(Broken(after, bytes(3_000_000)), BytesIO(), front, own, world.alice.device)
    assert not set(threading.enumerate()) - before


class Zeros(BytesIO):
    """A file of zeros that takes no memory."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.left = size

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert size >= 0
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


class Sum(BytesIO):
    """A sink that only counts."""

    total = 0

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        self.total += len(data)
        return len(data)


def test_memory_does_not_grow_with_the_file(world: Any) -> None:
    size = 48 << 20
    front, key = make_header(world.blocks(), **world.order())
    tracemalloc.start()
    try:
        sink = Sum()
        encrypt_stream(Zeros(size), sink, front, key, world.alice.device)
        sealing = tracemalloc.get_traced_memory()[1]
        envelope = world.envelope(bytes(size))
        stream, header, key = keyed(world, envelope)
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        opened_sink = Sum()
        decrypt_stream(stream, opened_sink, header, key)
        opening = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()
    assert opened_sink.total == size
    assert sealing < 8 << 20
    assert opening < 12 << 20
