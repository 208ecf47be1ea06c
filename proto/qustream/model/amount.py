"""Money as people and programs write it (`proto/spec/chain-api.md`, §1): whole units of 10⁻⁹ QST in everything that computes."""

from __future__ import annotations

import re

__all__ = ["UNITS_MAX", "UNITS_PER_QST", "amount_shown", "amount_text", "parse_amount"]

DECIMALS = 9
UNITS_PER_QST: int = 10**DECIMALS
# What a field of the protocol holds; the genesis supply is 10^18.
UNITS_MAX = (1 << 63) - 1
# Ten digits before the point hold all money there ever is; the rest is a slip of the finger.
_WRITTEN = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?(?: ?QST)?")


def amount_text(units: int) -> str:
    """For programs: `12.500000000`, always nine decimals."""
    whole, rest = divmod(abs(units), UNITS_PER_QST)
    return f"{'-' * (units < 0)}{whole}.{rest:0{DECIMALS}}"


def amount_shown(units: int) -> str:
    """For people: `12.5 QST`, no more decimals than it has; what is shown so can be typed again."""
    return f"{amount_text(units).rstrip('0').removesuffix('.')} QST"


def parse_amount(text: str) -> int:
    """The units of an amount as somebody typed it: `12.5`, `12.5 QST`. Raises ValueError, which says what is wrong.

    A comma is refused: what it separates depends on where somebody went to school."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        if "," in text:
            raise ValueError("an amount is written without commas, with a point before decimals: 1000 or 12.5")
        raise ValueError("an amount is a number of QST such as 1000 or 12.5, with at most nine decimals")
    units = int(found[1]) * UNITS_PER_QST + int((found[2] or "").ljust(DECIMALS, "0"))
    if units > UNITS_MAX:
        raise ValueError(f"more than there can be: at most {amount_shown(UNITS_MAX)}")
    return units
