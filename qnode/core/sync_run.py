"""A run of blocks that one certificate makes final: what it must be, and what of it is here (`proto/spec/sync.md`, §3 and §4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qnode.core.consensus_events import Final
from qnode.core.sync_events import Head
from qustream.rules import merkle
from qustream.rules.rotation import quorum
from qustream.wire.consensus import Certificate, ChainHeader, Kind, header_digest, voters_of
from qustream.wire.sync import BlocksAnswer

__all__ = ["Body", "Run", "fits", "read"]


@dataclass(slots=True)
class Body:
    """A block of a run and its transactions. `missing`: which are not here, None until it was looked; `asked`: what was asked for, and
    when, by peer."""

    final: Final
    is_known: bool  # its ids are
    looked: bool = False
    missing: set[int] | None = None
    keeping: set[int] = field(default_factory=set)  # on their way to the disk
    asked: dict[bytes, tuple[range, int]] = field(default_factory=dict)
    without: set[bytes] = field(default_factory=set)  # peers that do not have it

    @property
    def is_here(self) -> bool:
        return self.missing is not None and not self.missing and not self.keeping

    def next_gap(self, most: int, since_ms: int) -> range | None:
        """The first transactions that are missing and that nobody was asked for since then."""
        parts = [part for part, asked_ms in self.asked.values() if asked_ms > since_ms]
        if not self.is_known:
            return None if parts else range(min(most, self.final.header.count))
        asked = {number for part in parts for number in part}
        free = sorted(number for number in self.missing or () if number not in asked)
        if not free:
            return None
        end = free[0] + 1
        while end in (self.missing or ()) and end not in asked and end - free[0] < most:
            end += 1
        return range(free[0], end)

    def take(self, numbers: range) -> list[int]:
        """These have come; those of them that were not here already."""
        new = [each for each in numbers if each not in self.keeping and (self.missing is None or each in self.missing)]
        self.keeping.update(new)
        if self.missing is not None:
            self.missing.difference_update(new)
        return new


@dataclass(slots=True)
class Run:
    """`blocks`: in order, without the tail, from the first that is not final here."""

    number: int
    peer: bytes
    rotation: int
    certificate: Certificate
    blocks: list[Body]
    tail: tuple[ChainHeader, ...]
    is_verified: bool = False

    @property
    def first_height(self) -> int:
        return self.blocks[0].final.header.height

    @property
    def height(self) -> int:
        """Of its last block."""
        return self.blocks[-1].final.header.height

    def body(self, height: int) -> Body | None:
        """The block of this height, if it is one of these."""
        place = height - self.first_height
        return self.blocks[place] if 0 <= place < len(self.blocks) else None

    @property
    def is_here(self) -> bool:
        """Whether all of it can be handed on: the certificate is for the end of it."""
        return all(body.is_here for body in self.blocks)


def read(answer: BlocksAnswer, head: Head, chain: str) -> list[Final] | str:
    """The blocks of an answer that follow `head`, tail and all; or why nobody who obeys the rules gives it. No signature is looked at."""
    certificate, headers = answer.certificate, answer.headers
    if certificate is None or not headers or len(answer.ids) > len(headers):
        return "no blocks, or no certificate for them"
    blocks, parent = [], head.digest
    height, is_over = head.height, False
    for place, header in enumerate(headers):
        is_over = is_over or (place > 0 and header.height == height)
        height += 0 if is_over else 1
        if header.chain != chain or header.rotation != head.rotation or header.parent != parent or header.height != height:
            return "headers that do not follow one another"
        parent = header_digest(header)
        ids = answer.ids[place] if place < len(answer.ids) else ()
        if (place < len(answer.ids) and not fits(header, ids)) or (is_over and header.count):
            return "ids that are not those of the block"
        blocks.append(Final(parent, header, ids))
    return _certified(certificate, blocks[-1], head) or blocks


def _certified(certificate: Certificate, last: Final, head: Head) -> str:
    """Empty if the certificate is one of a quorum for the block `last`, if its signatures hold."""
    said = (certificate.rotation, certificate.view, certificate.kind, certificate.digest)
    if said != (head.rotation, last.header.view, Kind.FINAL, last.digest):
        return "a certificate of something else"
    numbers = voters_of(certificate)
    if len(numbers) != len(certificate.signatures) or numbers[-1] >= len(head.weights):
        return "a certificate whose voters do not fit"
    if sum(head.weights[number] for number in numbers) < quorum(head.weights):
        return "a certificate of less than a quorum"
    return ""


def fits(header: ChainHeader, ids: Sequence[bytes]) -> bool:
    """Whether these are the ids of the block's transactions."""
    return header.count == len(ids) and header.payload == merkle.root(ids)
