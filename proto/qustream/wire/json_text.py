"""JSON that somebody else wrote: status pages, answers, lists. What travels between parties is not JSON: see `codec`."""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["decode_json"]

_T = TypeVar("_T")


def decode_json(data: bytes | bytearray, kind: type[_T]) -> _T:
    """The value in hostile bytes whose number the caller has bounded. Raises ValueError, whose words may quote them, for anything else:
    bytes that are no UTF-8, wherever they stand, no JSON, other fields, and what is nested too deeply."""
    try:
        # msgspec alone would skip over bytes that are no text in fields it does not want.
        return msgspec.json.decode(data.decode(), type=kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None
