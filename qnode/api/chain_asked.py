"""What is asked of the pages about the chain: paths and queries, hostile until read (`proto/spec/chain-api.md`, §2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from qnode.api.chain_state import PAGE_MAX
from qustream.model.ids import IdKind, from_text, licence_from_text
from qustream.model.state import Table

__all__ = ["BadRequest", "Query", "Template", "read_height", "read_query"]

# Lines a page if nobody says how many.
PAGE_DEFAULT = 50
# A cursor is an entry's name in hexadecimal; the longest are an epoch and a grant.
CURSOR_MAX_BYTES = 64
# The longest name in the state: an expiry's, 8 bytes and another key.
NAME_MAX_BYTES = 96
QUERY_MAX_CHARACTERS = 512
FIELDS_MAX = 8  # twice as many as there are names
# Whatever is higher is no height; it still fits all that computes with it.
HEIGHT_MAX = (1 << 53) - 1


class BadRequest(Exception):
    """It cannot be meant; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Query:
    """What stands behind the question mark. `limit`: lines wanted; `after`, `before`, `owner`: "" where they are not named."""

    limit: int = PAGE_DEFAULT
    after: str = ""
    before: str = ""
    owner: str = ""

    @property
    def after_name(self) -> bytes:
        """A cursor that is an entry's name."""
        return _hex(self.after, CURSOR_MAX_BYTES) if self.after else b""

    @property
    def owner_account(self) -> bytes | None:
        """Whose."""
        return from_text(self.owner, IdKind.ACCOUNT) if self.owner else None

    @property
    def before_height(self) -> int | None:
        """A cursor that is a height."""
        return read_height(self.before) if self.before else None

    @property
    def before_place(self) -> tuple[int, int] | None:
        """A cursor that is a place in history."""
        if not self.before:
            return None
        height, point, place = self.before.partition(".")
        if not point:
            raise BadRequest("before: a cursor as the page before gave it")
        return read_height(height), read_height(place) & 0xFFFFFFFF


def read_query(text: str) -> Query:
    """Errors: `BadRequest`."""
    if len(text) > QUERY_MAX_CHARACTERS:
        raise BadRequest("a query that long is none")
    try:
        given = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)) if text else {}
    except ValueError:
        raise BadRequest("more in the query than there are names for") from None
    unknown = sorted(set(given) - set(Query.__dataclass_fields__))
    if unknown:
        raise BadRequest(f"nothing here is called {unknown[0][:32]!r}; there are limit, after, before, owner")
    limit = given.pop("limit", str(PAGE_DEFAULT))
    if not re.fullmatch(r"[1-9][0-9]{0,2}", limit, re.ASCII) or int(limit) > PAGE_MAX:
        raise BadRequest(f"limit: 1 to {PAGE_MAX}")
    return Query(int(limit), **given)


def read_height(text: str) -> int:
    """Errors: `BadRequest`."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", text, re.ASCII) or int(text) > HEIGHT_MAX:
        raise BadRequest("a height is a whole number")
    return int(text)


def _hex(text: str, most: int) -> bytes:
    if not re.fullmatch(r"([0-9a-f]{2})*", text, re.ASCII) or len(text) > 2 * most:
        raise BadRequest(f"hexadecimal in lower case is needed, at most {2 * most} digits")
    return bytes.fromhex(text)


def _digest(text: str) -> bytes:
    raw = _hex(text, 32)
    if len(raw) != 32:
        raise BadRequest("64 hexadecimal digits are needed")
    return raw


def _block(text: str) -> int | bytes:
    """By height or by digest."""
    return _digest(text) if len(text) == 64 else read_height(text)


def _table(text: str) -> Table:
    for table in Table:
        if text in (str(int(table)), table.name.lower().replace("_", "-")):
            return table
    raise BadRequest("no table of that name or number; the specification, ledger.md §2, lists them")


def _name(text: str) -> bytes:
    """An entry's name in hexadecimal, a licence's or any other's text; `-` for the empty one."""
    if text == "-":
        return b""
    for prefix, kind in ((f"{kind.value}1", kind) for kind in IdKind):
        if text.startswith(prefix):
            return from_text(text, kind)
    if re.fullmatch(r"([0-9A-Z]{5}-){5}[0-9A-Z]{5}", text):
        return licence_from_text(text)
    return _hex(text, NAME_MAX_BYTES)


def _of(kind: IdKind) -> Callable[[str], bytes]:
    return lambda text: from_text(text, kind)


_READ: dict[str, Callable[[str], Any]] = {
    "account": _of(IdKind.ACCOUNT), "node": _of(IdKind.NODE), "user": _of(IdKind.USER), "grant": _of(IdKind.GRANT),
    "licence": licence_from_text, "digest": _digest, "block": _block, "number": read_height, "table": _table, "name": _name,
}  # fmt: skip


class Template:
    """A path such as `accounts/<account>/history`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = text.split("/")

    def match(self, parts: list[str]) -> tuple[Any, ...] | None:
        """The names in a path, read; None if it is another's. Errors: `BadRequest`, `E-ID-TEXT`."""
        if len(parts) != len(self._parts):
            return None
        for own, part in zip(self._parts, parts, strict=True):
            if not own.startswith("<") and own != part:
                return None
        return tuple(_READ[own[1:-1]](part) for own, part in zip(self._parts, parts, strict=True) if own.startswith("<"))
