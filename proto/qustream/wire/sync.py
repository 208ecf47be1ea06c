"""What a node asks that is behind the chain, and the answers (`proto/spec/sync.md`). Tags 103-106, in requests and their answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import U63, Bytes32, Count32
from qustream.wire.codec import Message
from qustream.wire.consensus import BLOCK_TRANSACTIONS_MAX, Certificate, ChainHeader
from qustream.wire.transactions import TRANSACTION_MAX_BYTES

__all__ = [
    "HEADERS_MAX", "SYNC_ANSWER_MAX_BYTES", "SYNC_ASK_MAX_BYTES", "WAIT_MAX_MS", "BlocksAnswer", "BlocksAsk", "BodyAnswer", "BodyAsk",
    "SyncAsk",
]  # fmt: skip

# 64 blocks from one kept certificate to the next, and the descendants of a boundary block that it took to make it final: 170 KB.
HEADERS_MAX = 512
# What a response may hold (512 KiB), all of the answer's own bytes counted. A certificate of a full set takes 240 KB of it.
SYNC_ANSWER_MAX_BYTES = 512 * 1024
# The largest ask: three numbers of nine bytes, and its head.
SYNC_ASK_MAX_BYTES = 64
# How long an answerer keeps a question that it cannot answer yet: idle chains have a block in five seconds.
WAIT_MAX_MS = 20_000

Ids = Annotated[tuple[Bytes32, ...], Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


class BlocksAsk(Message, frozen=True, tag=103):
    """Which blocks are final above this height? At most `most` headers; none: only tell how far you are. `wait_ms`: how long to wait for
    the first."""

    above: U63
    most: Annotated[int, Meta(ge=0, le=HEADERS_MAX)]
    wait_ms: Annotated[int, Meta(ge=0, le=WAIT_MAX_MS)]


class BlocksAnswer(Message, frozen=True, tag=104):
    """`height`: of the last final block here. `headers`: of consecutive blocks, the last of which `certificate` makes final; `ids`: of the
    transactions of the first of them, as far as there is room."""

    height: U63
    headers: Annotated[tuple[ChainHeader, ...], Meta(max_length=HEADERS_MAX)]
    ids: Annotated[tuple[Ids, ...], Meta(max_length=HEADERS_MAX)]
    certificate: Certificate | None


class BodyAsk(Message, frozen=True, tag=105):
    """The transactions of the final block of this height: `count` from number `first` on."""

    height: U63
    first: Count32
    count: Annotated[int, Meta(ge=1, le=BLOCK_TRANSACTIONS_MAX)]


class BodyAnswer(Message, frozen=True, tag=106):
    """As many of them as there is room for; `ids`: of all of the block, if it was asked from the beginning on."""

    ids: Ids
    transactions: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=TRANSACTION_MAX_BYTES)], ...], Meta(max_length=BLOCK_TRANSACTIONS_MAX)
    ]


SyncAsk = BlocksAsk | BodyAsk
