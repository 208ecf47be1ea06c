"""Table 21: what ends by itself, and when (`proto/spec/ledger.md`, §6). `timed` does it."""

from __future__ import annotations

from collections.abc import Iterator

from qnode.core.ledger.state import State
from qustream.model.state import Grants, Table

__all__ = ["due", "forget", "remind"]

# In most blocks nothing ends, and the first alone is read to see that; then so many at a time.
PAGE = 8
_TIME_BYTES = 8  # a U63, big endian: keys stand in the order of time


def _name(at_ms: int, table: Table, name: bytes) -> bytes:
    return at_ms.to_bytes(_TIME_BYTES, "big") + bytes([table]) + name


def remind(state: State, at_ms: int, table: Table, name: bytes) -> None:
    """Look at this entry in the first block whose time is `at_ms` or later."""
    state.put(Table.EXPIRY, _name(at_ms, table, name), Grants())


def forget(state: State, at_ms: int, table: Table, name: bytes) -> None:
    """Take a reminder back; none there is no harm."""
    state.delete(Table.EXPIRY, _name(at_ms, table, name))


def due(state: State, now_ms: int, limit: int) -> Iterator[tuple[int, Table, bytes]]:
    """At most `limit` reminders whose time has come, the oldest first: time, table, name. They are struck out as they are given."""
    page = 1
    while limit > 0:
        found = [name for name, _ in state.scan(Table.EXPIRY, b"", page) if int.from_bytes(name[:_TIME_BYTES], "big") <= now_ms]
        for name in found:
            state.delete(Table.EXPIRY, name)
            yield int.from_bytes(name[:_TIME_BYTES], "big"), Table(name[_TIME_BYTES]), name[_TIME_BYTES + 1 :]
        limit = limit - page if len(found) == page else 0
        page = min(PAGE, limit)
