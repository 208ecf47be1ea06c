"""The state as the ledger sees it: nouns by key, over whatever holds them; changes can be taken back (`proto/spec/ledger.md`, §2).

A transaction that fails halfway must leave nothing behind: `mark` before it, `undo` to there. What a block has changed in the end is
`changes`. Values are decoded once and kept as nouns; only what changed is encoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Protocol, TypeVar

import msgspec

from qustream.model.base import Noun
from qustream.model.keys import PublicKey
from qustream.model.network import Grant, QrngServerRecord
from qustream.model.state import (
    Account,
    Ban,
    Delegation,
    EpochEntry,
    GrantOf,
    Grants,
    Incident,
    Licence,
    NodeEntry,
    Parameters,
    PoolEntry,
    Progress,
    RotationEntry,
    Table,
    Totals,
    UnbondBatch,
    UnbondEntry,
    UserEntry,
    Validator,
    VoteKeyEntry,
)
from qustream.wire.codec import encode

__all__ = ["KINDS", "Reader", "State"]

_T = TypeVar("_T", bound=Noun)

KINDS: dict[Table, type[Noun]] = {
    Table.PARAMETERS: Parameters, Table.PROGRESS: Progress, Table.TOTALS: Totals, Table.POOL: PoolEntry, Table.ACCOUNT: Account,
    Table.ACCOUNT_KEY: PublicKey, Table.LICENCE: Licence, Table.NODE: NodeEntry, Table.VALIDATOR: Validator, Table.VOTE_KEY: VoteKeyEntry,
    Table.DELEGATION: Delegation, Table.UNBOND_BATCH: UnbondBatch, Table.UNBOND: UnbondEntry, Table.GRANT: Grant, Table.GRANT_OF: GrantOf,
    Table.USER: UserEntry, Table.QRNG_SERVER: QrngServerRecord, Table.INCIDENT: Incident, Table.EPOCH: EpochEntry,
    Table.ROTATION: RotationEntry, Table.EXPIRY: Grants, Table.OWNED: Grants,
    Table.BANNED: Ban,
}  # fmt: skip
_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {table: msgspec.msgpack.Decoder(kind) for table, kind in KINDS.items()}


class Reader(Protocol):
    """A state that does not change while it is read."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        ...

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` entries whose keys begin with `prefix` and are greater than `after`, in order of the keys."""
        ...


_ABSENT: Any = object()
_PREFIX = {table: bytes([table]) for table in Table}
# What is gone through in order, or may be: which of their keys have changed is kept apart, so that nobody looks for them among a
# thousand accounts.
_SCANNED = frozenset(Table) - {Table.ACCOUNT, Table.ACCOUNT_KEY}
# Every claim of a block goes through its own part of these, which begins with so many bytes; a thousand claims of two months each must not
# look at each other's.
_GROUP_BYTES = {Table.UNBOND: 20 + 16, Table.UNBOND_BATCH: 16}


class State:
    """Nouns over a `Reader`, and what has become of them. Keys: `Table` number and the entry's name."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._values: dict[bytes, Noun | None] = {}
        self._read: dict[bytes, Noun | None] = {}  # as they were before; bounded by what one block touches
        # What was there before, key by key. Two lists and no pairs: a tuple for every change is work for the garbage collector.
        self._changed: list[bytes] = []
        self._before: list[Any] = []
        self._scanned: dict[Table, dict[bytes, set[bytes]]] = {}  # by table and group

    def get(self, table: Table, name: bytes, kind: type[_T]) -> _T | None:
        """The entry `name` of a table, whose kind is `kind`."""
        key = _PREFIX[table] + name
        value = self._values.get(key, _ABSENT)
        if value is not _ABSENT:
            return value  # type: ignore[no-any-return]  # a table holds one kind
        value = self._read.get(key, _ABSENT)
        if value is _ABSENT:
            raw = self._reader.get(key)
            value = self._read[key] = None if raw is None else _DECODERS[table].decode(raw)
        return value  # type: ignore[no-any-return]  # as above

    def must(self, table: Table, name: bytes, kind: type[_T]) -> _T:
        """An entry that is there."""
        found = self.get(table, name, kind)
        assert found is not None, f"{table.name} has no {name.hex()}"
        return found

    def put(self, table: Table, name: bytes, value: Noun) -> None:
        """Set an entry."""
        assert type(value) is KINDS[table], f"{type(value).__name__} in {table.name}"
        self._set(table, name, value)

    def delete(self, table: Table, name: bytes) -> None:
        """Take an entry out; none there is no harm."""
        self._set(table, name, None)

    def _set(self, table: Table, name: bytes, value: Noun | None) -> None:
        key = _PREFIX[table] + name
        before = self._values.get(key, _ABSENT)
        self._changed.append(key)
        self._before.append(before)
        self._values[key] = value
        if before is _ABSENT and table in _SCANNED:
            self._scanned.setdefault(table, {}).setdefault(name[: _GROUP_BYTES.get(table, 0)], set()).add(key)

    def scan(self, table: Table, prefix: bytes, limit: int, *, after: bytes = b"") -> list[tuple[bytes, Noun]]:
        """At most `limit` entries of a table whose names begin with `prefix` and are greater than `after`, in order: (name, noun)."""
        assert table in _SCANNED, f"{table.name} is not gone through"
        start, floor = _PREFIX[table] + prefix, _PREFIX[table] + after if after else b""
        # Some of these may have been taken back since.
        written = (key for key in self._written(table, prefix) if key in self._values)
        changed = sorted(key for key in written if key.startswith(start) and key > floor)
        # What is stored may be deleted here: that many more have to be looked at.
        stored = self._reader.scan(start, floor, limit + len(changed))
        found = {key: raw for key, raw in stored if key not in self._values}
        last = stored[-1][0] if len(stored) == limit + len(changed) else None
        kept = [key for key in changed if self._values[key] is not None and (last is None or key <= last)]
        nouns = {key: self._values[key] for key in kept} | {key: _DECODERS[table].decode(raw) for key, raw in found.items()}
        return [(key[1:], noun) for key, noun in sorted(nouns.items())[:limit] if noun is not None]

    def _written(self, table: Table, prefix: bytes) -> Iterable[bytes]:
        """The keys of a table that were set, those with this prefix among them."""
        groups, length = self._scanned.get(table, {}), _GROUP_BYTES.get(table, 0)
        if len(prefix) >= length:
            return groups.get(prefix[:length], ())
        return chain.from_iterable(groups.values())

    def mark(self) -> int:
        """A point to come back to."""
        return len(self._changed)

    def undo(self, mark: int) -> None:
        """Take back what was changed since `mark`."""
        while len(self._changed) > mark:
            key, before = self._changed.pop(), self._before.pop()
            if before is _ABSENT:
                del self._values[key]
            else:
                self._values[key] = before

    def changes(self) -> dict[bytes, bytes | None]:
        """What is to be written: key → value, None for what is to be taken out."""
        out = {key: None if value is None else encode(value) for key, value in self._values.items()}
        return {key: value for key, value in out.items() if value is not None or self._reader.get(key) is not None}
