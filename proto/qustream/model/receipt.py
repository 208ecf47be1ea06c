"""What became of a transaction or a block (`proto/spec/ledger.md`, §3): derived by everybody for himself, in no root."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import U63, Bytes32, Label, Noun

__all__ = ["EVENTS_MAX", "LedgerEvent", "Receipt"]

# The most one transaction brings about is a merge or a slash with its payments; a block's own are at most 256 endings (§5) and a rotation.
EVENTS_MAX = 1024


class LedgerEvent(Noun, frozen=True):
    """One thing that happened. `name`: a word such as `licence-bought`; `subject`, `other`: raw ids or empty; `amount`: units."""

    name: Label
    subject: Annotated[bytes, Meta(max_length=64)]
    other: Annotated[bytes, Meta(max_length=64)]
    amount: U63


class Receipt(Noun, frozen=True):
    """Of a transaction; of a block itself, with the block's digest as `id` and no fee. `code`: why its action was refused, or empty."""

    id: Bytes32
    code: Label
    fee: U63
    events: Annotated[tuple[LedgerEvent, ...], Meta(max_length=EVENTS_MAX)]
