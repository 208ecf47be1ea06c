"""Reading one segment, whole, torn and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.leaf_logs import Writer

from qustream.errors import QuStreamError
from qustream.leaflog import segment as module
from qustream.leaflog.segment import SEGMENT_MAX_BYTES, read_segment, record, segment_name, segment_number
from qustream.model.base import Signed
from qustream.model.entropy import LeafLogEntry

WRITER = Writer()
HEADER, ENTRIES = WRITER.header(), [WRITER.entry(number) for number in range(3)]
WHOLE = HEADER + b"".join(ENTRIES)


def refusal(data: bytes) -> str:
    with pytest.raises(QuStreamError) as caught:
        read_segment(data)
    assert caught.value.code == "E-LEAF-LOG"
    return caught.value.detail


def test_names_and_numbers():
    for number in (0, 1, 4_294_967_295):
        assert segment_number(segment_name(number)) == number
    for name in (
        "4294967296.leaves",
        "9999999999.leaves",
        "1.leaves",
        "0000000001.leaves.old",
        ".0000000001.leaves.ab",
        "٠٠٠٠٠٠٠٠٠١.leaves",
    ):
        assert segment_number(name) is None


def test_a_whole_segment():
    contents = read_segment(WHOLE)
    assert (contents.header.segment, len(contents.entries), contents.whole_bytes) == (0, 3, len(WHOLE))


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 100, 3000, len(ENTRIES[2]) - 1])
def test_an_end_that_a_crash_left_is_left_out(cut):
    before = HEADER + ENTRIES[0] + ENTRIES[1]
    for end in (ENTRIES[2][:cut], ENTRIES[2][:cut] + bytes(len(ENTRIES[2]) - cut), bytes(cut)):
        if end == ENTRIES[2]:
            continue
        contents = read_segment(before + end)
        assert (len(contents.entries), contents.whole_bytes) == (2, len(before))


def test_damage_before_the_end_is_no_crash():
    for at in (len(HEADER) + 4, len(HEADER) + 10, len(HEADER) + len(ENTRIES[0]) + 5):
        assert "at byte" in refusal(WHOLE[:at] + bytes([WHOLE[at] ^ 0x80]) + WHOLE[at + 1 :])
    assert "does not check" in refusal(HEADER + bytes(36) + ENTRIES[0])


def test_a_header_is_never_torn():
    for data in (b"", HEADER[:3], HEADER[:-1], bytes(len(HEADER)), ENTRIES[0]):
        refusal(data)


def test_bounds():
    assert f"{SEGMENT_MAX_BYTES}" in refusal(bytes(SEGMENT_MAX_BYTES + 1))
    longest = record(LeafLogEntry(Signed(bytes(16_384), bytes(3373)), bytes(72 * 4096)))
    assert len(longest) == module.HEAD_BYTES + module.RECORD_MAX_BYTES
    assert len(read_segment(HEADER + longest * 3).entries) == 3
    for too_long in (module.RECORD_MAX_BYTES + 1, 0xFFFFFFFF):
        assert "does not check" in refusal(HEADER + too_long.to_bytes(4, "big") + bytes(32))
    assert "leaves of 73 bytes" in refusal(HEADER + record(LeafLogEntry(Signed(b"", bytes(3373)), bytes(73))) + ENTRIES[0])


@given(st.binary(max_size=300), st.integers(0, len(WHOLE)))
def test_whatever_the_bytes_it_is_read_or_refused(noise, at):
    for data in (noise, HEADER + noise, WHOLE[:at] + noise, WHOLE[:at] + noise + WHOLE[at:]):
        code = ""
        try:
            assert read_segment(data).whole_bytes <= len(data)
        except QuStreamError as error:
            code = error.code
        assert code in ("", "E-LEAF-LOG")
