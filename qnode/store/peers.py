"""What a node remembers of its peers across a restart (`proto/spec/peers.md`, §1 and §3): an LMDB environment of its own, `peers`.

`records`: node -> newest signed address record. `meta`: the anchors, and when our own last record was issued. Nothing here is secret, and
nothing is needed: everything can be had again from the network. So a file that is damaged is set aside, the node starts with an empty one,
and `lost` says so. Every value carries a checksum, and opening reads all of them: what opens is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

from qustream.errors import QuStreamError, fault
from qustream.model.base import Signed
from qustream.wire.codec import decode, encode

__all__ = ["PeerStore"]

# A record takes two pages of 4 KiB, and as much again while it is replaced: room for 15,000 nodes. Addresses are reserved, not disk.
MAP_BYTES = 256 * 1024 * 1024
READERS_MAX = 126  # LMDB's own default: threads that read at once; ours are a handful
ID_BYTES = 32  # a node id
SUM_BYTES = 8  # of BLAKE2b: damage is found, nobody is kept out
RECORD_MAX_BYTES = 8 * 1024  # a signed record of the largest form that decodes has 7.8 KB
FORMAT = b"1"
# While a file is being opened: whoever finds it knows that the last opening ended the process.
MARKER = "opening"


class PeerStore:
    """Any thread may read and write; what changes something returns when it is on the disk. `lost`: why the store began empty, though
    there was a file; empty if it did not. Errors of writing: `E-DISK-FULL`, `E-NODE-READONLY`; of reading: `E-DATA-CORRUPT`."""

    def __init__(self, directory: Path, env: lmdb.Environment, lost: str) -> None:
        """Use `PeerStore.open`."""
        self._directory, self._env, self.lost = directory, env, lost
        self._records, self._meta = env.open_db(b"records"), env.open_db(b"meta")
        self._closed = False

    @classmethod
    def open(cls, directory: Path) -> PeerStore:
        """Open or create the environment in `directory`, of which the caller has the lock. Errors: `E-FILE`, `E-DISK-FULL`, if not even an
        empty one can be made."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lost = "the last opening of it ended the process" if (directory / MARKER).exists() else ""
            (directory / MARKER).touch(mode=0o600)
            store = None if lost else cls._whole(directory)
            if store is None or isinstance(store, str):
                lost = lost or str(store)
                _set_aside(directory)
                store = cls(directory, _environment(directory), lost)
                store._put({b"format": FORMAT})
            (directory / MARKER).unlink()
        except OSError as error:
            raise fault("E-FILE", f"{directory}: {os.strerror(error.errno or 5)}") from None
        except lmdb.Error as error:
            raise _write_fault(directory, error) from None
        return store

    @classmethod
    def _whole(cls, directory: Path) -> PeerStore | str:
        """The store as it is, or why it cannot be used."""
        data = directory / "data.mdb"
        is_new = not data.exists()
        env = None
        try:
            env = _environment(directory)
            # LMDB maps the file: beyond its end a read would end the process.
            pages = env.info()["last_pgno"] + 1
            if not is_new and data.stat().st_size < pages * env.stat()["psize"]:
                raise lmdb.CorruptedError("the file is too short")
            store = cls(directory, env, "")
            if is_new:
                store._put({b"format": FORMAT})
            elif store._about(b"format") != FORMAT:
                raise lmdb.VersionMismatchError("another version of this program wrote it")
            for _ in store._read():
                pass
        except (lmdb.Error, QuStreamError, ValueError) as error:
            if env is not None:
                env.close()
            return str(error)
        return store

    def close(self) -> None:
        """Let go of the file. Doing it twice is no harm."""
        if not self._closed:
            self._closed = True
            self._env.close()

    def __enter__(self) -> PeerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- reading --------------------------------------------------------------------------------------------------------

    def records(self) -> list[tuple[bytes, Signed]]:
        """All records, in order of node id."""
        with self._reading():
            return list(self._read())

    def records_of(self, nodes: Sequence[bytes]) -> dict[bytes, Signed]:
        """Those of `nodes`, as far as there are any."""
        with self._reading(), self._env.begin(db=self._records) as txn:
            return {node: _record(node, value) for node in nodes if (value := txn.get(node)) is not None}

    def anchors(self) -> tuple[bytes, ...]:
        """What was kept last."""
        with self._reading():
            ids = self._about(b"anchors") or b""
        return tuple(ids[place : place + ID_BYTES] for place in range(0, len(ids), ID_BYTES))

    def issued_ms(self) -> int:
        """When our own last record was issued; 0 if there was none."""
        with self._reading():
            return int.from_bytes(self._about(b"issued_ms") or b"", "big")

    def _about(self, name: bytes) -> bytes | None:
        with self._env.begin(db=self._meta) as txn:
            value = txn.get(name)
        return None if value is None else _unsummed(name, value)

    def _read(self) -> Iterator[tuple[bytes, Signed]]:
        with self._env.begin(db=self._records) as txn:
            for node, value in txn.cursor():
                yield bytes(node), _record(node, value)

    def _reading(self) -> _Reading:
        return _Reading(self._directory)

    # -- writing --------------------------------------------------------------------------------------------------------

    def keep_records(self, records: Mapping[bytes, Signed]) -> None:
        """Store them in place of older ones: one transaction."""
        self._write(self._records, {node: encode(signed) for node, signed in records.items()})

    def keep_anchors(self, anchors: Sequence[bytes]) -> None:
        """Store these in place of the ones before."""
        self._write(self._meta, {b"anchors": b"".join(anchors)})

    def keep_issued_ms(self, issued_ms: int) -> None:
        """Store when our own last record is issued, before anybody hears it."""
        self._write(self._meta, {b"issued_ms": issued_ms.to_bytes(8, "big")})

    def forget_others(self, known: Container[bytes]) -> None:
        """Drop the records of all who are not `known`."""
        try:
            with self._env.begin(write=True, db=self._records) as txn:
                for node in [bytes(node) for node in txn.cursor().iternext(values=False) if bytes(node) not in known]:
                    txn.delete(node)
        except lmdb.Error as error:
            raise _write_fault(self._directory, error) from None

    def _write(self, table: Any, values: Mapping[bytes, bytes]) -> None:
        try:
            with self._env.begin(write=True, db=table) as txn:
                for key, value in values.items():
                    txn.put(key, _sum(key, value) + value)
        except lmdb.Error as error:
            raise _write_fault(self._directory, error) from None

    def _put(self, values: Mapping[bytes, bytes]) -> None:
        self._write(self._meta, values)


class _Reading:
    """Damage that shows while something is read, in coded form."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, lmdb.Error | ValueError | QuStreamError):
            raise fault("E-DATA-CORRUPT", f"{self._directory}: {error}") from None


def _environment(directory: Path) -> lmdb.Environment:
    return lmdb.open(str(directory), map_size=MAP_BYTES, max_dbs=4, mode=0o600, max_readers=READERS_MAX)


def _set_aside(directory: Path) -> None:
    """Keep the damaged file, once, for whoever wants to look at it."""
    data = directory / "data.mdb"
    if data.exists():
        data.replace(directory / "data.mdb.damaged")
    (directory / "lock.mdb").unlink(missing_ok=True)


def _sum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=SUM_BYTES).digest()


def _unsummed(key: bytes, stored: bytes) -> bytes:
    """Raises ValueError for what was not stored so."""
    found, value = bytes(stored[:SUM_BYTES]), bytes(stored[SUM_BYTES:])
    if found != _sum(bytes(key), value):
        raise ValueError("a value is not what was written")
    return value


def _record(node: bytes, stored: bytes) -> Signed:
    return decode(_unsummed(node, stored), Signed, max_bytes=RECORD_MAX_BYTES)


def _write_fault(directory: Path, error: lmdb.Error) -> QuStreamError:
    is_full = isinstance(error, lmdb.MapFullError | lmdb.DiskError)
    return fault("E-DISK-FULL" if is_full else "E-NODE-READONLY", f"{directory} could not be written: {error}")
