"""What validators say to each other (`proto/spec/consensus.md`). Tags 90-99, on the consensus channel; what is large goes in bulk."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Annotated

from msgspec import Meta

from qustream.model.base import U16, U63, Bytes32, Count32, Label, Noun
from qustream.wire.codec import Message, encode

__all__ = [
    "NO_DIGEST", "VALIDATORS_MAX", "VOTE_SIGNATURE_BYTES", "WANTS_MAX", "Certificate", "ChainHeader", "ConsensusAsk", "ConsensusMessage",
    "Kind", "Proposal", "Statement", "Vote", "VoteSignature", "Want", "header_digest", "voters_of",
]  # fmt: skip

# A round of 100 costs 490 kB out and 34 ms of verification (ML-DSA-44): finality each second and no more.
VALIDATORS_MAX = 100
# FIPS 204, ML-DSA-44.
VOTE_SIGNATURE_BYTES = 2420
VoteSignature = Annotated[bytes, Meta(min_length=VOTE_SIGNATURE_BYTES, max_length=VOTE_SIGNATURE_BYTES)]
# A body of 4 MiB holds at most so many transactions: a hybrid signature alone has 3,373 bytes.
BLOCK_TRANSACTIONS_MAX = 1200
# One answer is at most 1 MiB, so four certificates of a full set: asking for more at once is of no use.
WANTS_MAX = 32
NO_DIGEST = bytes(32)


class Kind(IntEnum):
    """What a statement says; the numbers are signed."""

    PROPOSAL = 1
    NOTAR = 2
    SKIP = 3
    FINAL = 4


class Statement(Noun, frozen=True):
    """What a validator signs with its vote key. `digest`: of the header; zeros for a skip."""

    chain: Label
    rotation: U63
    view: U63
    kind: Kind
    digest: Bytes32


class ChainHeader(Noun, frozen=True):
    """The header of a chain block; see the specification, §1."""

    chain: Label
    rotation: U63
    view: U63
    height: U63
    parent: Bytes32
    parent_view: U63
    time_ms: U63
    executed: U63
    executed_root: Bytes32
    payload: Bytes32
    count: Count32
    reveal: Bytes32
    next_set: Bytes32
    proposer: U16


class Proposal(Message, frozen=True, tag=90):
    """A block: its header, the ids of its transactions, the leader's signature of the statement about the header."""

    header: ChainHeader
    ids: Annotated[tuple[Bytes32, ...], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]
    signature: VoteSignature


class Vote(Message, frozen=True, tag=91):
    """One validator's notar, skip or final."""

    rotation: U63
    view: U63
    kind: Kind
    digest: Bytes32
    validator: U16
    signature: VoteSignature


class Certificate(Message, frozen=True, tag=92):
    """Votes of a quorum for one thing. Bit i of `voters`, most significant first, stands for validator i."""

    rotation: U63
    view: U63
    kind: Kind
    digest: Bytes32
    voters: Annotated[bytes, Meta(min_length=1, max_length=(VALIDATORS_MAX + 7) // 8)]
    signatures: Annotated[tuple[VoteSignature, ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]


class Want(Noun, frozen=True):
    """A certificate of `view` and `kind`; or, if the kind is *proposal*, the block with this digest."""

    view: U63
    kind: Kind
    digest: Bytes32


class ConsensusAsk(Message, frozen=True, tag=93):
    """Where the asker is, and what it misses."""

    rotation: U63
    view: U63
    final_view: U63
    wants: Annotated[tuple[Want, ...], Meta(max_length=WANTS_MAX)]


ConsensusMessage = Proposal | Vote | Certificate | ConsensusAsk
_HEADER = b"qustream/1/chain-header"


def header_digest(header: ChainHeader) -> bytes:
    """What a block is called, 32 bytes."""
    return hashlib.sha256(bytes([len(_HEADER)]) + _HEADER + encode(header)).digest()


def voters_of(certificate: Certificate) -> list[int]:
    """The validators whose bits are set, in order."""
    return [8 * place + bit for place, byte in enumerate(certificate.voters) for bit in range(8) if byte & 0x80 >> bit]
