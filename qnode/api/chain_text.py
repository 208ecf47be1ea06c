"""Ids, actions and events of the chain as text (`proto/spec/chain-api.md`, §1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from qustream.model.ids import ACCOUNT_BYTES, LICENCE_BYTES, IdKind, licence_text, to_text
from qustream.model.receipt import LedgerEvent, Receipt
from qustream.wire.action_text import action_name, fields_of
from qustream.wire.chain_entries import amount
from qustream.wire.chain_json import EventLine, ReceiptLine

__all__ = ["account_text", "action_name", "event_line", "event_lines", "fields_of", "hex_or_empty", "node_text", "receipt_line"]

# Texts of accounts, which are worked out character by character: those of a few full blocks, half a megabyte.
REMEMBERED = 4096
# What a 32-byte id names, by the event that names it first or as the other.
_SUBJECTS = {
    "grant-sold": IdKind.GRANT, "grant-rolled-over": IdKind.GRANT, "user-registered": IdKind.USER, "device-added": IdKind.USER,
    "device-revoked": IdKind.USER, "users-merged": IdKind.USER,
}  # fmt: skip
_OTHERS = {
    "licence-activated": IdKind.NODE, "licence-retired": IdKind.NODE, "node-updated": IdKind.NODE, "grant-sold": IdKind.USER,
    "grant-rolled-over": IdKind.GRANT, "device-added": IdKind.DEVICE, "device-revoked": IdKind.DEVICE, "users-merged": IdKind.USER,
}  # fmt: skip
# Their number is a time, or a commission.
_NOT_MONEY = {"validator-suspended", "validator-left", "validator-edited", "licence-removed", "licence-banned"}


@lru_cache(REMEMBERED)
def account_text(raw: bytes) -> str:
    """qst1…"""
    return to_text(IdKind.ACCOUNT, raw)


def node_text(raw: bytes | None) -> str:
    """qn1…, or "" for none."""
    return to_text(IdKind.NODE, raw) if raw else ""


def hex_or_empty(raw: bytes) -> str:
    """Hexadecimal; "" for zeros alone, which stand for nothing."""
    return raw.hex() if any(raw) else ""


def event_line(event: LedgerEvent) -> EventLine:
    """An event; its ids say by their length, or by its name, what they are of."""
    subject, other = _named(event.subject, _SUBJECTS.get(event.name)), _named(event.other, _OTHERS.get(event.name))
    is_money = event.name not in _NOT_MONEY
    return EventLine(event.name, subject, other, amount(event.amount) if is_money else None, None if is_money else event.amount)


def _named(raw: bytes, kind: IdKind | None) -> str:
    if len(raw) == LICENCE_BYTES:
        return licence_text(raw)
    if len(raw) == ACCOUNT_BYTES:
        return account_text(raw)
    return to_text(kind, raw) if kind is not None and len(raw) == 32 else raw.hex()


def receipt_line(receipt: Receipt) -> ReceiptLine:
    """What became of a transaction."""
    return ReceiptLine(receipt.id.hex(), receipt.code, amount(receipt.fee), event_lines(receipt.events))


def event_lines(events: Sequence[LedgerEvent]) -> tuple[EventLine, ...]:
    """Several."""
    return tuple(event_line(event) for event in events)
