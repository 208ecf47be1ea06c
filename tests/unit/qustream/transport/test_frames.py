"""Frames: cutting, interleaving, refusing, and the queues that feed them."""

from __future__ import annotations

import tracemalloc

import pytest

from qustream.errors import QuStreamError, fault
from qustream.transport.frames import FrameReader, SendQueues, frames_of
from qustream.transport.limits import CHANNEL_LIMITS, COALESCE_BYTES, HEADER_BYTES, PIECE_BYTES, Channel

MORE = 0x80


def open_to_all(_channel: Channel) -> None:
    """A gate that refuses nothing."""


def header(size: int, tag: int) -> bytes:
    return size.to_bytes(4, "big") + bytes([tag])


def read(data: bytes, step: int | None = None) -> list[tuple[Channel, bytes]]:
    reader = FrameReader(open_to_all)
    step = step or max(1, len(data))
    return [message for at in range(0, len(data), step) for message in reader.feed(data[at : at + step])]


def code_of(data: bytes) -> str:
    with pytest.raises(QuStreamError) as caught:
        read(data)
    return caught.value.code


@pytest.mark.parametrize("size", [1, 2, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 600 * 1024])
@pytest.mark.parametrize("step", [1, 7, 16384, 1 << 20])
def test_a_message_survives_any_cutting_of_the_stream(size: int, step: int) -> None:
    if step == 1 and size > 2 * PIECE_BYTES:
        step = 3
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    assert read(frames_of(Channel.BULK, body), step) == [(Channel.BULK, body)]


def test_a_long_message_is_cut_at_64_kib() -> None:
    data = frames_of(Channel.REQUEST, bytes(PIECE_BYTES + 3))
    assert data[:HEADER_BYTES] == header(PIECE_BYTES, Channel.REQUEST | MORE)
    assert data[HEADER_BYTES + PIECE_BYTES :] == header(3, Channel.REQUEST) + bytes(3)


def test_a_message_of_exactly_64_kib_is_one_frame() -> None:
    assert frames_of(Channel.BULK, bytes(PIECE_BYTES))[:HEADER_BYTES] == header(PIECE_BYTES, Channel.BULK)


def test_pieces_of_two_channels_interleave() -> None:
    block, vote = b"b" * (PIECE_BYTES + 10), b"vote"
    whole = frames_of(Channel.BULK, block)
    cut = HEADER_BYTES + PIECE_BYTES
    data = whole[:cut] + frames_of(Channel.CONSENSUS, vote) + whole[cut:]
    assert read(data) == [(Channel.CONSENSUS, vote), (Channel.BULK, block)]


def test_channels_that_do_not_exist_are_refused() -> None:
    for tag in (5, 64, 127):
        assert code_of(header(1, tag) + b"x") == "E-WIRE-MALFORMED"
        assert code_of(header(PIECE_BYTES, tag | MORE)) == "E-WIRE-MALFORMED"


def test_empty_frames_are_refused() -> None:
    assert code_of(header(0, Channel.BULK)) == "E-WIRE-MALFORMED"
    assert code_of(header(0, Channel.BULK | MORE)) == "E-WIRE-MALFORMED"
    assert code_of(header(PIECE_BYTES, Channel.BULK | MORE) + bytes(PIECE_BYTES) + header(0, Channel.BULK)) == "E-WIRE-MALFORMED"


def test_other_ways_to_cut_are_refused() -> None:
    assert code_of(header(1, Channel.BULK | MORE)) == "E-WIRE-MALFORMED"
    assert code_of(header(PIECE_BYTES - 1, Channel.BULK | MORE)) == "E-WIRE-MALFORMED"
    assert code_of(header(PIECE_BYTES + 1, Channel.BULK)) == "E-WIRE-MALFORMED"


@pytest.mark.parametrize("channel", list(Channel))
def test_the_limit_of_a_channel_is_exact(channel: Channel) -> None:
    limit = CHANNEL_LIMITS[channel].message_max_bytes
    assert read(frames_of(channel, bytes(limit))) == [(channel, bytes(limit))]
    assert code_of(frames_of(channel, bytes(limit + 1))) == "E-WIRE-OVERSIZE"


def test_an_oversized_message_is_refused_before_its_last_piece_is_kept() -> None:
    limit = CHANNEL_LIMITS[Channel.GOSSIP].message_max_bytes
    piece = header(PIECE_BYTES, Channel.GOSSIP | MORE) + bytes(PIECE_BYTES)
    reader = FrameReader(open_to_all)
    for _ in range(limit // PIECE_BYTES - 1):
        assert list(reader.feed(piece)) == []
    # One more that says "more follows" cannot end below the limit: its header alone is enough.
    with pytest.raises(QuStreamError, match="gossip"):
        list(reader.feed(piece[:HEADER_BYTES]))
    assert reader.held_bytes == limit - PIECE_BYTES


def test_a_huge_length_is_refused_at_its_header() -> None:
    assert code_of(header(0xFFFFFFFF, Channel.BULK)) == "E-WIRE-OVERSIZE"


def test_the_gate_is_asked_before_the_body_is_read() -> None:
    def closed(channel: Channel) -> None:
        raise fault("E-PEER-UNLICENSED", channel.name)

    reader = FrameReader(closed)
    with pytest.raises(QuStreamError, match="BULK"):
        list(reader.feed(header(PIECE_BYTES, Channel.BULK)))
    assert reader.held_bytes == 0


def test_smaller_limits_can_be_set_and_lifted() -> None:
    reader = FrameReader(open_to_all)
    reader.limit_to(100)
    assert len(list(reader.feed(frames_of(Channel.REQUEST, bytes(100))))) == 1
    reader.limit_to(1 << 20)
    assert len(list(reader.feed(frames_of(Channel.REQUEST, bytes(1000))))) == 1
    reader.limit_to(100)
    with pytest.raises(QuStreamError, match="100 bytes"):
        list(reader.feed(frames_of(Channel.REQUEST, bytes(101))))


def test_bytes_that_drip_do_not_multiply_in_memory() -> None:
    body = bytes(CHANNEL_LIMITS[Channel.GOSSIP].message_max_bytes)
    data = frames_of(Channel.GOSSIP, body)[:-1]
    reader = FrameReader(open_to_all)
    tracemalloc.start()
    for at in range(0, len(data), 2):
        assert not list(reader.feed(data[at : at + 2]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * len(body)


@pytest.mark.parametrize("arrived", [1, 63, 64, 65, 5000, 20_000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 300_000])
@pytest.mark.parametrize("step", [1000, 16_384, 1 << 20])
def test_what_is_announced_takes_no_room_before_it_comes(arrived: int, step: int) -> None:
    data = frames_of(Channel.BULK, bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes))[: HEADER_BYTES + arrived]
    reader = FrameReader(open_to_all)
    tracemalloc.start()
    for at in range(0, len(data), step):
        assert not list(reader.feed(memoryview(data)[at : at + step]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5 * arrived + 2000
    assert reader.held_bytes <= arrived


@pytest.mark.parametrize("size", [10, PIECE_BYTES, PIECE_BYTES + 1, 262_423, 600 * 1024])
def test_the_bytes_given_may_be_reused_and_a_message_owns_its_own(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    data, buffer, got = frames_of(Channel.BULK, body[:size]) * 2, bytearray(200_000), []
    reader = FrameReader(open_to_all)
    for at in range(0, len(data), len(buffer)):
        part = data[at : at + len(buffer)]
        buffer[: len(part)] = part
        got += list(reader.feed(memoryview(buffer)[: len(part)]))
        buffer[:] = b"\xee" * len(buffer)
    assert got == [(Channel.BULK, body[:size])] * 2
    for _, message in got:
        if isinstance(message, bytearray):
            message += b"nobody else refers to it"


def test_queues_hand_out_the_most_urgent_first() -> None:
    queues = SendQueues()
    queues.put(Channel.BULK, b"block")
    queues.put(Channel.GOSSIP, b"gossip")
    queues.put(Channel.CONSENSUS, b"vote")
    queues.put(Channel.CONTROL, b"ping")
    queues.put(Channel.REQUEST, b"ask")
    assert [channel for channel, _ in read(b"".join(queues.take(COALESCE_BYTES)))] == list(Channel)
    assert not queues


def test_a_vote_waits_for_one_helping_of_a_block_at_most() -> None:
    queues = SendQueues()
    block = bytes(CHANNEL_LIMITS[Channel.BULK].message_max_bytes)
    queues.put(Channel.BULK, block)
    first = b"".join(queues.take(1))
    assert len(first) == HEADER_BYTES + PIECE_BYTES
    queues.put(Channel.CONSENSUS, b"vote")
    second = b"".join(queues.take(PIECE_BYTES))
    assert second.startswith(frames_of(Channel.CONSENSUS, b"vote"))
    rest = first + second
    while queues:
        rest += b"".join(queues.take(COALESCE_BYTES))
    assert read(rest) == [(Channel.CONSENSUS, b"vote"), (Channel.BULK, block)]


def test_queues_are_bounded_by_bytes_and_by_messages() -> None:
    for channel, limits in CHANNEL_LIMITS.items():
        queues = SendQueues()
        count = 0
        while queues.has_room(channel, 1):
            queues.put(channel, b"x")
            count += 1
        assert count == limits.queue_max_messages
        queues.clear()
        assert queues.has_room(channel, limits.message_max_bytes)
        size = 0
        while queues.has_room(channel, limits.message_max_bytes):
            queues.put(channel, bytes(limits.message_max_bytes))
            size += limits.message_max_bytes
        assert size <= limits.queue_max_bytes
        while queues:
            queues.take(COALESCE_BYTES)
        assert queues.has_room(channel, limits.message_max_bytes)


PARTS = [
    [b"", b"x"],
    [b"head", bytes(PIECE_BYTES)],
    [b"head", bytes(PIECE_BYTES - 4), b"tail"],
    [b"a" * (PIECE_BYTES - 1), b"b", b"c"],
    [b"a" * 3 * PIECE_BYTES, b"", b"b" * 100_000],
    [bytes([number % 256]) * 700 for number in range(600)],
]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_a_message_in_parts_is_framed_like_one_that_is_whole(parts: list[bytes], kind: type) -> None:
    queues, sent = SendQueues(), b""
    queues.put(Channel.BULK, *map(kind, parts))
    while queues:
        sent += b"".join(queues.take(PIECE_BYTES))
    assert sent == frames_of(Channel.BULK, b"".join(parts))


class Lender:
    """Lends a buffer, and counts how often it came back; a buffer somebody still looks into could not be cleared."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.returns = 0

    def __call__(self) -> None:
        self.memory.clear()
        self.returns += 1


def test_parts_are_handed_out_where_they_lie() -> None:
    queues, memory = SendQueues(), bytearray(100)
    queues.put(Channel.BULK, b"head", memoryview(memory))
    parts = queues.take(COALESCE_BYTES)
    memory[:] = b"y" * 100
    assert read(b"".join(parts)) == [(Channel.BULK, b"head" + b"y" * 100)]


def test_a_lender_is_told_once_when_the_last_piece_is_taken() -> None:
    queues, lender = SendQueues(), Lender(PIECE_BYTES + 1)
    queues.put(Channel.BULK, memoryview(lender.memory), on_taken=lender)
    assert len(queues.take(1)) == 2
    queues.taken()
    assert not lender.returns
    assert len(queues.take(1)) == 2
    assert not lender.returns
    queues.taken()
    queues.taken()
    queues.clear()
    assert lender.returns == 1


def test_what_is_cleared_goes_back_at_once_or_with_what_is_out() -> None:
    queues, half, whole = SendQueues(), Lender(2 * PIECE_BYTES), Lender(10)
    for lender in (half, whole):
        queues.put(Channel.BULK, memoryview(lender.memory), on_taken=lender)
    parts = queues.take(1)
    queues.clear()
    assert (half.returns, whole.returns) == (0, 0)
    parts.clear()
    queues.taken()
    assert (half.returns, whole.returns) == (1, 1)
    third = Lender(10)
    queues.put(Channel.BULK, memoryview(third.memory), on_taken=third)
    queues.clear()
    assert third.returns == 1


def test_the_queue_counts_a_message_until_its_last_piece_is_gone() -> None:
    queues = SendQueues()
    limit = CHANNEL_LIMITS[Channel.BULK].message_max_bytes
    queues.put(Channel.BULK, bytes(limit))
    queues.put(Channel.BULK, bytes(limit))
    queues.take(1)
    assert not queues.has_room(Channel.BULK, limit)
