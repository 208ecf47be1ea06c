"""A run of blocks: what makes one, and what of it is here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from qnode.core.consensus_events import Final
from qnode.core.sync_events import Head
from qnode.core.sync_run import Body, fits, read
from qustream.rules import merkle
from qustream.wire.consensus import VOTE_SIGNATURE_BYTES, Certificate, ChainHeader, Kind, header_digest
from qustream.wire.sync import BlocksAnswer

CHAIN, ZERO, BASE = "chain", bytes(32), b"\x0b" * 32
IDS = (b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
HEAD = Head(10, BASE, 3, (5, 1, 1, 1, 1))  # the first alone is no quorum: 7 of 9


def header(parent: bytes, height: int, view: int, ids: tuple[bytes, ...] = ()) -> ChainHeader:
    return ChainHeader(CHAIN, 3, view, height, parent, view - 1, view, 0, ZERO, merkle.root(ids), len(ids), ZERO, ZERO, 0)


def signed(last: ChainHeader, voters: bytes = b"\xe0", count: int = 3) -> Certificate:
    return Certificate(3, last.view, Kind.FINAL, header_digest(last), voters, (bytes(VOTE_SIGNATURE_BYTES),) * count)


def answer() -> BlocksAnswer:
    """Two blocks, then two descendants of a boundary block."""
    first = header(BASE, 11, 4, IDS)
    second = header(header_digest(first), 12, 5)
    third = header(header_digest(second), 12, 9)
    fourth = header(header_digest(third), 12, 10)
    return BlocksAnswer(20, (first, second, third, fourth), (IDS, ()), signed(fourth))


def test_what_a_quorum_made_final_is_read() -> None:
    blocks = read(answer(), HEAD, CHAIN)
    assert not isinstance(blocks, str)
    assert [(final.header.height, final.ids) for final in blocks] == [(11, IDS), (12, ()), (12, ()), (12, ())]
    assert blocks[0].digest == header_digest(answer().headers[0])
    short = answer()
    short = BlocksAnswer(20, short.headers[:1], (), signed(short.headers[0]))
    assert not isinstance(read(short, HEAD, CHAIN), str)


def changed(place: int, **fields: object) -> Callable[[BlocksAnswer], BlocksAnswer]:
    """With another header, and a certificate for what then is the last."""

    def change(given: BlocksAnswer) -> BlocksAnswer:
        headers = list(given.headers)
        headers[place] = replace(headers[place], **fields)
        for later in range(place + 1, len(headers)):
            headers[later] = replace(headers[later], parent=header_digest(headers[later - 1]))
        return BlocksAnswer(20, tuple(headers), given.ids, signed(headers[-1]))

    return change


def certified(**fields: object) -> Callable[[BlocksAnswer], BlocksAnswer]:
    def change(given: BlocksAnswer) -> BlocksAnswer:
        assert given.certificate is not None
        return replace(given, certificate=replace(given.certificate, **fields))

    return change


LIES = {
    "no headers": lambda given: replace(given, headers=(), ids=()),
    "no certificate": lambda given: replace(given, certificate=None),
    "more ids than blocks": lambda given: replace(given, ids=(*given.ids, (), (), ())),
    "another chain": changed(0, chain="other"),
    "another rotation": changed(1, rotation=2),
    "not on our head": changed(0, parent=ZERO),
    "a height left out": changed(0, height=12),
    "a height below": changed(0, height=10),
    "a height left out later": changed(1, height=13),
    "a tail that rises again": changed(3, height=13),
    "a tail with transactions": changed(2, count=1),
    "a broken link": lambda given: replace(given, headers=(*given.headers[:2], replace(given.headers[2], view=8), given.headers[3])),
    "ids of another block": lambda given: replace(given, ids=(IDS[:2], ())),
    "ids in another order": lambda given: replace(given, ids=((IDS[1], IDS[0], IDS[2]), ())),
    "ids where there are none": lambda given: replace(given, ids=(IDS, IDS)),
    "another kind": certified(kind=Kind.NOTAR),
    "another view": certified(view=9),
    "another digest": certified(digest=ZERO),
    "an earlier rotation": certified(rotation=2),
    "fewer signatures than voters": certified(signatures=(bytes(VOTE_SIGNATURE_BYTES),) * 2),
    "more signatures than voters": certified(signatures=(bytes(VOTE_SIGNATURE_BYTES),) * 4),
    "a voter that is none": certified(voters=b"\xc4"),
    "a voter far beyond": certified(voters=b"\xc0\x00\x01"),
    "no quorum": certified(voters=b"\xc0", signatures=(bytes(VOTE_SIGNATURE_BYTES),) * 2),
    "many without weight": certified(voters=b"\x78", signatures=(bytes(VOTE_SIGNATURE_BYTES),) * 4),
}


@pytest.mark.parametrize("name", LIES)
def test_anything_else_is_a_lie(name: str) -> None:
    assert isinstance(read(LIES[name](answer()), HEAD, CHAIN), str)


def test_ids_fit_a_header_by_number_and_root() -> None:
    whole = header(BASE, 11, 4, IDS)
    assert fits(whole, IDS)
    assert not fits(whole, IDS[:2])
    assert not fits(replace(whole, count=2), IDS)
    assert fits(header(BASE, 11, 4), ())


def test_what_is_missing_is_asked_for_once_in_a_while() -> None:
    body = Body(Final(ZERO, header(BASE, 11, 4, IDS), ()), is_known=False)
    assert body.next_gap(2, 0) == range(2)
    body.asked[b"a"] = (range(2), 5)
    assert body.next_gap(2, 4) is None
    assert body.next_gap(2, 5) == range(2)  # too long ago
    body.is_known, body.missing = True, {0, 1, 4, 6}
    assert body.next_gap(9, 4) == range(4, 5)
    assert body.next_gap(9, 5) == range(2)
    assert body.next_gap(1, 5) == range(1)


def test_what_came_is_kept_once() -> None:
    body = Body(Final(ZERO, header(BASE, 11, 4, IDS), IDS), is_known=True, missing={0, 2})
    assert body.take(range(3)) == [0, 2]
    assert not body.is_here  # not on disk yet
    assert body.take(range(3)) == []
    body.keeping.clear()
    assert body.is_here
