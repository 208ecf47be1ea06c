"""Transactions that travel together, in gossip and to a node that shall say them (`proto/spec/mempool.md`, §5). Tag 128."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.wire.codec import Message
from qustream.wire.transactions import TRANSACTION_MAX_BYTES

__all__ = ["BUNDLE_HEAD_BYTES", "BUNDLE_MAX_BYTES", "BUNDLE_TRANSACTIONS_MAX", "ITEM_HEAD_BYTES", "Bundle"]

# In front of all, and in front of each.
BUNDLE_HEAD_BYTES, ITEM_HEAD_BYTES = 6, 5
# The largest transaction travels alone; eighteen of 3.6 KB travel together. In more than that a bad one would cost its judge more.
BUNDLE_MAX_BYTES = TRANSACTION_MAX_BYTES + BUNDLE_HEAD_BYTES + ITEM_HEAD_BYTES
# None is shorter than its signature, 3,373 bytes, so no more than nineteen have room: a list of empty ones is no work for anybody.
BUNDLE_TRANSACTIONS_MAX = 24


class Bundle(Message, frozen=True, tag=128):
    """Canonical bytes of each."""

    transactions: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=TRANSACTION_MAX_BYTES)], ...],
        Meta(min_length=1, max_length=BUNDLE_TRANSACTIONS_MAX),
    ]
