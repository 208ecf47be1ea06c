"""The LMDB tables of a store, and the decisions that are carried out on them (`proto/spec/delivery.md` §5).

`marks`: index -> sealed `Mark`. `answers`: index -> sealed answer. `due`: time (8, big endian) ‖ index -> nothing. `alerts`: user ->
sealed notes. `meta`: format, generation of the slots, floor epoch. Everything about one index is changed in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import lmdb
from msgspec import Meta

from qnode.core.delivery import Mark, due_ms
from qnode.store.vault import Vault
from qustream.errors import QuStreamError, fault
from qustream.model.base import Noun
from qustream.wire.codec import decode, encode
from qustream.wire.keys import Alert

__all__ = ["MARK_MAX_BYTES", "Notes", "Tables"]

# 64 recipients twice (4.4 KB), an erasure (3.5 KB), the rest below 1 KB.
MARK_MAX_BYTES = 16_384
# 64 notes of at most ~130 bytes.
NOTES_MAX_BYTES = 16_384
TIME_BYTES = 8  # Unix ms, big endian, so that LMDB's order is that of time
READERS_MAX = 126  # LMDB's own default: threads that read at once; ours are a handful


class Notes(Noun, frozen=True):
    """What is stored for one user."""

    alerts: Annotated[tuple[Alert, ...], Meta(max_length=64)]


class Tables:
    """The tables, and typed access to them inside a transaction that somebody else began. LMDB errors pass through."""

    def __init__(self, env: lmdb.Environment, vault: Vault) -> None:
        self.env, self.vault = env, vault
        names = ("meta", "marks", "answers", "due", "alerts")
        self.meta, self.marks, self.answers, self.due, self.alerts = (env.open_db(name.encode()) for name in names)

    @classmethod
    def open(cls, path: str, map_bytes: int, vault: Vault) -> Tables:
        """Open or create the environment in directory `path`. Errors: `lmdb.Error`."""
        env = lmdb.open(path, map_size=map_bytes, max_dbs=8, mode=0o600, max_readers=READERS_MAX, metasync=True, sync=True)
        try:
            return cls(env, vault)
        except BaseException:
            env.close()
            raise

    def close(self) -> None:
        """Let go of the environment; nobody may be reading."""
        self.env.close()

    # -- marks and answers ----------------------------------------------------------------------------------------------

    def mark(self, txn: Any, key: bytes) -> Mark | None:
        """The mark of index `key`. Errors: `E-DATA-CORRUPT`."""
        sealed = txn.get(key, db=self.marks)
        if sealed is None:
            return None
        return decode(self.vault.unseal_record(b"marks", key, bytes(sealed)), Mark, max_bytes=MARK_MAX_BYTES)

    def put_mark(self, txn: Any, key: bytes, before: Mark | None, mark: Mark) -> None:
        """Store `mark` in place of `before`, and when it is next due."""
        if before is None or due_ms(before) != due_ms(mark):
            if before is not None:
                txn.delete(_due_key(before, key), db=self.due)
            txn.put(_due_key(mark, key), b"", db=self.due)
        txn.put(key, self.vault.seal_record(b"marks", key, encode(mark)), db=self.marks)

    def drop_mark(self, txn: Any, key: bytes, mark: Mark) -> None:
        """Forget `mark`."""
        txn.delete(_due_key(mark, key), db=self.due)
        txn.delete(key, db=self.marks)

    def put_due(self, txn: Any, key: bytes, mark: Mark) -> None:
        """See to it that the sweep comes by `mark`."""
        txn.put(_due_key(mark, key), b"", db=self.due)

    def put_due_now(self, txn: Any, key: bytes) -> None:
        """See to it that the next sweep comes by index `key`, whatever its mark says."""
        txn.put(bytes(TIME_BYTES) + key, b"", db=self.due)

    def due_keys(self, txn: Any, now_ms: int, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` (entry, index) whose time has come, the oldest first."""
        found: list[tuple[bytes, bytes]] = []
        for entry in txn.cursor(db=self.due).iternext(values=False):
            if len(found) >= limit or int.from_bytes(entry[:TIME_BYTES], "big") > now_ms:
                break
            found.append((bytes(entry), bytes(entry[TIME_BYTES:])))
        return found

    def answered(self, txn: Any) -> Iterator[bytes]:
        """The indices that have a sealed answer."""
        return (bytes(key) for key in txn.cursor(db=self.answers).iternext(values=False))

    def count(self, txn: Any) -> int:
        """How many marks there are."""
        return int(txn.stat(db=self.marks)["entries"])

    # -- alerts ---------------------------------------------------------------------------------------------------------

    def notes(self, txn: Any, user: bytes) -> tuple[Alert, ...]:
        """What is noted for `user`. Errors: `E-DATA-CORRUPT`."""
        sealed = txn.get(user, db=self.alerts)
        if sealed is None:
            return ()
        return decode(self.vault.unseal_record(b"alerts", user, bytes(sealed)), Notes, max_bytes=NOTES_MAX_BYTES).alerts

    def put_notes(self, txn: Any, user: bytes, alerts: tuple[Alert, ...]) -> None:
        """Store what is noted for `user`."""
        if alerts:
            txn.put(user, self.vault.seal_record(b"alerts", user, encode(Notes(alerts))), db=self.alerts)
        else:
            txn.delete(user, db=self.alerts)

    def users_after(self, txn: Any, user: bytes, limit: int) -> list[bytes]:
        """At most `limit` users with notes, in order, the first one not below `user`."""
        cursor = txn.cursor(db=self.alerts)
        found: list[bytes] = []
        if cursor.set_range(user):
            for key in cursor.iternext(values=False):
                if len(found) >= limit:
                    break
                found.append(bytes(key))
        return found

    # -- meta -----------------------------------------------------------------------------------------------------------

    def about(self, txn: Any, name: bytes) -> bytes | None:
        """A sealed value of the store itself. Errors: `E-KEYSTORE-OPEN` if it does not open: the key is not this store's."""
        sealed = txn.get(name, db=self.meta)
        if sealed is None:
            return None
        try:
            return self.vault.unseal_record(b"meta", name, bytes(sealed))
        except QuStreamError:
            raise fault("E-KEYSTORE-OPEN", "this node's storage key does not open this data directory") from None

    def put_about(self, txn: Any, name: bytes, value: bytes) -> None:
        """Store a value of the store itself, sealed."""
        txn.put(name, self.vault.seal_record(b"meta", name, value), db=self.meta)


def _due_key(mark: Mark, key: bytes) -> bytes:
    return due_ms(mark).to_bytes(TIME_BYTES, "big") + key
