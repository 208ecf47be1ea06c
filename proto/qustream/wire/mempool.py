"""Transactions that somebody misses (`proto/spec/mempool.md`), and those of somebody whom no link hears ("Without a link" there). Tags 101,
102, 125 and 126, in requests and their answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import Bytes32
from qustream.wire.codec import Message
from qustream.wire.transactions import TRANSACTION_MAX_BYTES

__all__ = [
    "TRANSACTIONS_ANSWER_MAX_BYTES", "TRANSACTIONS_ASKED_MAX", "TRANSACTIONS_ASK_MAX_BYTES", "TRANSACTION_GIVEN_MAX_BYTES",
    "TRANSACTION_TAKEN_MAX_BYTES", "TransactionGiven", "TransactionTaken", "TransactionsAnswer", "TransactionsAsk",
]  # fmt: skip

# As many hybrid transactions as an answer has room for: the smallest has 3.5 KB, and what did not fit is asked for again.
TRANSACTIONS_ASKED_MAX = 144
# An ask of so many: 34 bytes each, and its head.
TRANSACTIONS_ASK_MAX_BYTES = TRANSACTIONS_ASKED_MAX * 34 + 16
# What a response may hold (512 KiB), all of the answer's own bytes counted.
TRANSACTIONS_ANSWER_MAX_BYTES = 512 * 1024
# One transaction and its head; an id and its head.
TRANSACTION_GIVEN_MAX_BYTES, TRANSACTION_TAKEN_MAX_BYTES = TRANSACTION_MAX_BYTES + 16, 64


class TransactionsAsk(Message, frozen=True, tag=101):
    """Give me the transactions with these ids."""

    ids: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=TRANSACTIONS_ASKED_MAX)]


class TransactionsAnswer(Message, frozen=True, tag=102):
    """Those of them that I have, in the order of the ask, as many as have room: canonical bytes of each."""

    transactions: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=TRANSACTION_MAX_BYTES)], ...], Meta(max_length=TRANSACTIONS_ASKED_MAX)
    ]


class TransactionGiven(Message, frozen=True, tag=125):
    """Take this in, and say it to all others: its canonical bytes."""

    transaction: Annotated[bytes, Meta(min_length=1, max_length=TRANSACTION_MAX_BYTES)]


class TransactionTaken(Message, frozen=True, tag=126):
    """It waits here now, or did before."""

    id: Bytes32
