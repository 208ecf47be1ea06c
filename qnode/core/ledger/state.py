"""The state as the ledger sees it: nouns by key, over whatever holds them; changes can be taken back (`proto/spec/ledger.md`, §2).

A transaction that fails halfway must leave nothing behind: `mark` before it, `undo` to there. What a block has changed in the end is
`changes`. Values are decoded once and kept as nouns; only what changed is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import msgspec

from qustream.model.base import Noun
from qustream.model.keys import PublicKey
from qustream.model.network import Grant, QrngServerRecord
from qustream.model.state import (
    Account,
    Delegation,
    EpochEntry,
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
    Table.DELEGATION: Delegation, Table.UNBOND_BATCH: UnbondBatch, Table.UNBOND: UnbondEntry, Table.GRANT: Grant, Table.GRANT_OF: Grants,
    Table.USER: UserEntry, Table.QRNG_SERVER: QrngServerRecord, Table.INCIDENT: Incident, Table.EPOCH: EpochEntry,
    Table.ROTATION: RotationEntry, Table.EXPIRY: Grants, Table.OWNED: Grants,
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


class State:
    """Nouns over a `Reader`, and what has become of them. Keys: `Table` number and the entry's name."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._values: dict[bytes, Noun | None] = {}
        self._read: dict[bytes, Noun | None] = {}  # as they were before; bounded by what one block touches
        self._journal: list[tuple[bytes, bool, Noun | None]] = []

    def get(self, table: Table, name: bytes, kind: type[_T]) -> _T | None:
        """The entry `name` of a table, whose kind is `kind`."""
        key = bytes([table]) + name
        if key in self._values:
            return self._values[key]  # type: ignore[return-value]  # a table holds one kind
        if key not in self._read:
            raw = self._reader.get(key)
            self._read[key] = None if raw is None else _DECODERS[table].decode(raw)
        return self._read[key]  # type: ignore[return-value]  # as above

    def must(self, table: Table, name: bytes, kind: type[_T]) -> _T:
        """An entry that is there."""
        found = self.get(table, name, kind)
        assert found is not None, f"{table.name} has no {name.hex()}"
        return found

    def put(self, table: Table, name: bytes, value: Noun) -> None:
        """Set an entry."""
        assert type(value) is KINDS[table], f"{type(value).__name__} in {table.name}"
        self._set(bytes([table]) + name, value)

    def delete(self, table: Table, name: bytes) -> None:
        """Take an entry out; none there is no harm."""
        self._set(bytes([table]) + name, None)

    def _set(self, key: bytes, value: Noun | None) -> None:
        self._journal.append((key, key in self._values, self._values.get(key)))
        self._values[key] = value

    def scan(self, table: Table, prefix: bytes, limit: int, *, after: bytes = b"") -> Iterator[tuple[bytes, Noun]]:
        """At most `limit` entries of a table whose names begin with `prefix` and are greater than `after`, in order: (name, noun)."""
        start, floor = bytes([table]) + prefix, bytes([table]) + after if after else b""
        changed = sorted(key for key in self._values if key.startswith(start) and key > floor)
        # What is stored may be deleted here: that many more have to be looked at.
        stored = self._reader.scan(start, floor, limit + len(changed))
        found = {key: raw for key, raw in stored if key not in self._values}
        last = stored[-1][0] if len(stored) == limit + len(changed) else None
        kept = [key for key in changed if self._values[key] is not None and (last is None or key <= last)]
        for key in sorted([*found, *kept])[:limit]:
            value = self._values[key] if key in self._values else _DECODERS[table].decode(found[key])
            assert value is not None, "what was deleted is not kept"
            yield key[1:], value

    def mark(self) -> int:
        """A point to come back to."""
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Take back what was changed since `mark`."""
        while len(self._journal) > mark:
            key, was_there, before = self._journal.pop()
            if was_there:
                self._values[key] = before
            else:
                del self._values[key]

    def changes(self) -> dict[bytes, bytes | None]:
        """What is to be written: key → value, None for what is to be taken out."""
        out = {key: None if value is None else encode(value) for key, value in self._values.items()}
        return {key: value for key, value in out.items() if value is not None or self._reader.get(key) is not None}
