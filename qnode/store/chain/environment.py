"""The LMDB environment of the chain: its tables, values with a checksum, reading beside the writer, a map that grows (`state.md` §3).

A map can only grow while nobody reads. So every reading is registered here: growing takes the transactions away from under them, and a
reading opens its transaction again when it is used next, if what it reads is still the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import lmdb

from qnode.store.directory import is_out_of_space
from qustream.errors import QuStreamError, fault
from qustream.identity.files import file_fault, give_to_owner, sync_directory
from qustream.model.state import Progress
from qustream.wire.codec import decode, encode

__all__ = ["BODY_TABLES", "TABLES", "Environment", "Reading", "Table", "is_there", "number_key", "put_progress", "summed", "unsummed"]

# Threads and views that read at once: the last unexecuted heights (64), snapshots on their way, and requests.
READERS_MAX = 512
LOCK_BYTES = 128 + 64 * READERS_MAX  # LMDB's table of them: a head, and a cache line each
SUM_BYTES = 8  # of BLAKE2b: damage is found, nobody is kept out
PROGRESS_MAX_BYTES = 512  # a Progress has 110
# `transactions` and `loose` as an earlier version left them: read and taken away, and nothing put there.
TABLES = (
    "meta", "blocks", "proposals", "votes", "finals", "ends", "transactions", "loose", "locations", "receipts", "history", "roots",
    "entries", "keys", "nodes", "incoming",
)  # fmt: skip
# Of the bodies' own environment.
BODY_TABLES = ("meta", "transactions", "loose")
EXECUTED: Final = b"executed"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Table:
    """The tables' handles by name: those that an environment has."""

    meta: Any
    blocks: Any
    proposals: Any
    votes: Any
    finals: Any
    ends: Any
    transactions: Any
    loose: Any
    locations: Any
    receipts: Any
    history: Any
    roots: Any
    entries: Any
    keys: Any
    nodes: Any
    incoming: Any

    def __init__(self, env: lmdb.Environment, names: Sequence[str], *, create: bool) -> None:
        for name in names:
            setattr(self, name, env.open_db(name.encode(), create=create))


class Environment:
    """One directory. One thread writes (`begin`), any may read."""

    def __init__(self, path: Path, env: lmdb.Environment, names: Sequence[str], *, create: bool) -> None:
        """Use `Environment.open`."""
        self.path, self._env, self._names = path, env, names
        self.tables = Table(env, names, create=create)
        self._lock = threading.Lock()
        self._readings: set[Reading] = set()

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, readonly: bool = False, names: Sequence[str] = TABLES) -> Environment:
        """`names`: of its tables. Errors: `lmdb.Error`, `OSError`; `E-DATA-CORRUPT` for a file that ends too early."""
        data = path / "data.mdb"
        was_there = is_there(path)
        _fill(path / "lock.mdb")
        if not was_there and not readonly:
            # LMDB takes an empty file for a new database: so it has its owner and its name before anything can fail.
            os.close(_made(data))
            sync_directory(path)
        with ExitStack() as unless_opened:
            if not was_there and not readonly:
                # Nobody else has it yet: half made it would be taken for damaged.
                unless_opened.callback(_emptied, data)
            env = lmdb.open(
                str(path), map_size=0 if readonly else map_bytes, max_dbs=len(names), mode=0o600, max_readers=READERS_MAX,
                readonly=readonly, create=not readonly,
            )  # fmt: skip
            unless_opened.callback(env.close)
            # LMDB maps the file: beyond its end a read would end the process.
            pages = env.info()["last_pgno"] + 1
            if was_there and data.stat().st_size < pages * env.stat()["psize"]:
                raise fault("E-DATA-CORRUPT", f"{data} is too short: a part of it is missing")
            if not readonly:
                env.reader_check()  # those of processes that were killed
            opened = cls(path, env, names, create=not readonly)
            unless_opened.pop_all()
        return opened

    def close(self) -> None:
        """Let go of it; readings that are still open fail from now on."""
        with self._lock:
            held = list(self._readings)
        for reading in held:
            reading.close()
        self._env.close()

    def begin(self) -> Any:
        """A write transaction, of the calling thread."""
        return self._env.begin(write=True)

    def begin_reading(self) -> Any:
        """For `Reading`."""
        try:
            return self._env.begin()
        except lmdb.MapResizedError:  # another process writes, and has made the map larger
            self._env.set_mapsize(0)
            return self._env.begin()
        except lmdb.ReadersFullError:
            raise fault("E-PEER-LIMIT", "too many look at the chain just now", retry_after_ms=1000) from None
        except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError) as error:
            raise fault("E-DATA-CORRUPT", f"{self.path}: {error}") from None
        except lmdb.Error as error:  # it is closed since its map could not be made larger
            raise fault("E-NODE-READONLY", f"{self.path} cannot be read any more: {error}; restart the node") from None

    def info(self) -> dict[str, int]:
        """Bytes of the map, and of the file's pages in use. Errors: `E-NODE-READONLY`."""
        try:
            with self._lock:
                info, page = self._env.info(), self._env.stat()["psize"]
        except lmdb.Error as error:
            raise fault("E-NODE-READONLY", f"{self.path} cannot be read any more: {error}; restart the node") from None
        return {"map_bytes": info["map_size"], "used_bytes": (info["last_pgno"] + 1) * page}

    def entries(self) -> dict[str, int]:
        """How many entries each table has."""
        with self.reading() as txn:
            return {name: txn.stat(db=getattr(self.tables, name))["entries"] for name in self._names}

    def backup(self, target: Path) -> None:
        """A consistent, compact copy in the empty directory `target`, while others go on writing; on the disk when this returns. Errors:
        `E-DISK-FULL`, `E-FILE`."""
        try:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.reading():  # whoever makes the map larger has done so, or waits
                try:
                    self._env.copy(str(target), compact=True)
                except lmdb.Error as error:
                    number = getattr(error, "code", 0)  # of where it is copied to: what is copied can be read
                    raise OSError(number if number > 0 else errno.EIO, str(error)) from None
            with open(target / "data.mdb", "rb") as file:
                os.fchmod(file.fileno(), 0o600)
                os.fsync(file.fileno())
            sync_directory(target)
        except OSError as error:
            raise file_fault(target, OSError(errno.ENOSPC, "") if is_out_of_space(error) else error) from None

    def grow(self, to_bytes: int) -> None:
        """Make the map larger; no write transaction may be open. Errors: `lmdb.Error`."""
        with self._lock:
            held = list(self._readings)
            for reading in held:
                reading.lock.acquire()
            try:
                for reading in held:
                    reading.suspend()
                self._env.set_mapsize(to_bytes)
            finally:
                for reading in held:
                    reading.lock.release()

    def read(self) -> Reading:
        """A reading of what is there now, to be closed."""
        with self._lock:
            reading = Reading(self)
            self._readings.add(reading)
        return reading

    def forget(self, reading: Reading) -> None:
        """For `Reading`."""
        with self._lock:
            self._readings.discard(reading)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A short look. Errors in coded form: `E-DATA-CORRUPT`."""
        with self.first_use() as (reading, txn):
            try:
                yield txn
            finally:
                reading.end()
        self.forget(reading)

    @contextmanager
    def first_use(self) -> Iterator[tuple[Reading, Any]]:
        """A reading and its transaction, which nobody can take away between its beginning and this use of it."""
        with self._lock:
            reading = Reading(self)
            reading.lock.acquire()
            self._readings.add(reading)
        good = False
        try:
            with reading.coded() as txn:
                yield reading, txn
            good = True
        finally:
            if not good:
                reading.end()
            reading.lock.release()
            if not good:  # now: who makes the map larger holds the other lock, and waits for this one
                self.forget(reading)


class Reading:
    """A consistent look at everything, as it was when it began. Any thread may use it; those of several threads come one by one."""

    def __init__(self, environment: Environment) -> None:
        """Use `Environment.read`."""
        self._environment = environment
        self.lock = threading.Lock()
        self._txn: Any = environment.begin_reading()
        self._closed = False
        self._executed = self._stored()

    def _stored(self) -> bytes | None:
        raw = self._txn.get(EXECUTED, db=self._environment.tables.meta)
        return None if raw is None else bytes(raw)

    @property
    def progress(self) -> Progress | None:
        """The last executed block at that time. Errors: `E-DATA-CORRUPT`."""
        raw = self._executed
        return None if raw is None else decode(unsummed(EXECUTED, raw), Progress, max_bytes=PROGRESS_MAX_BYTES)

    @contextmanager
    def using(self) -> Iterator[Any]:
        """The transaction. Errors: `E-DATA-CORRUPT`; `E-NOT-HELD` if the map has grown meanwhile and the state has gone on since."""
        with self.lock, self.coded() as txn:
            yield txn

    def get(self, name: bytes, table: Any) -> bytes | None:
        """One value: as with `using`, and a third of the time, since a block reads two a transaction. Errors: as `using`."""
        with self.lock:
            try:
                return (self._txn or self.resume()).get(name, db=table)  # type: ignore[no-any-return]  # LMDB has no types
            except lmdb.Error as error:
                raise self._corrupt(error) from None

    @contextmanager
    def coded(self) -> Iterator[Any]:
        """As `using`, for who has the lock."""
        self.resume()
        try:
            yield self._txn
        except lmdb.Error as error:
            raise self._corrupt(error) from None

    def _corrupt(self, error: lmdb.Error) -> QuStreamError:
        return fault("E-DATA-CORRUPT", f"{self._environment.path}: {error}")

    def resume(self) -> Any:
        """The transaction, opened again if it was taken away; the caller has the lock."""
        if self._closed:
            raise fault("E-NOT-HELD", "this view of the state has been closed")
        if self._txn is None:
            self._txn = self._environment.begin_reading()
            if self._stored() != self._executed:
                self.suspend()
                raise fault("E-NOT-HELD", "the state has gone on; look at the newest")
        return self._txn

    def suspend(self) -> None:
        """Let go of the transaction for now; the caller has the lock."""
        if self._txn is not None:
            self._txn.abort()
            self._txn = None

    def close(self) -> None:
        """Harmless when repeated."""
        with self.lock:
            self.end()
        self._environment.forget(self)

    def end(self) -> None:
        """It is used no more; the caller has the lock."""
        self._closed = True
        self.suspend()


def is_there(path: Path) -> bool:
    """Whether a directory has a database; an empty file is what was left when one could not be made."""
    data = path / "data.mdb"
    return data.exists() and data.stat().st_size > 0


def _fill(lock: Path) -> None:
    """Give the table of readers its place on the disk. LMDB makes a file with a hole of it, and maps that: on a disk that has become full,
    one reader more than ever before would end the process. Before LMDB opens it, whose lock on it would be lost when we close it. Errors:
    `OSError`, if there is no room for it; where we may not write, it is as it was."""
    try:
        file = _made(lock)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        return
    try:
        os.posix_fallocate(file, 0, LOCK_BYTES)
    except OSError:
        if os.fstat(file).st_blocks * 512 < LOCK_BYTES:
            raise
    finally:
        os.close(file)


def _emptied(data: Path) -> None:
    """Leave what could not be made as it was found: empty."""
    with suppress(OSError):
        os.truncate(data, 0)


def _made(path: Path) -> int:
    """A file to be written, made if it is not there. What a command of root's makes is the directory's owner's. Errors: `OSError`."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        give_to_owner(file, path.parent)
    except OSError:
        os.close(file)
        raise
    return file


def number_key(number: int) -> bytes:
    """A number as a key, in order."""
    return number.to_bytes(8, "big")


def summed(key: bytes, value: bytes) -> bytes:
    """A value with its checksum."""
    return hashlib.blake2b(key + value, digest_size=SUM_BYTES).digest() + value


def unsummed(key: bytes, stored: bytes) -> bytes:
    """What `summed` was given. Errors: `E-DATA-CORRUPT`."""
    value = bytes(stored[SUM_BYTES:])
    if summed(key, value)[:SUM_BYTES] != stored[:SUM_BYTES]:
        raise _damaged(key)
    return value


def _damaged(key: bytes) -> QuStreamError:
    return fault("E-DATA-CORRUPT", f"a stored value is not what was written (its key is {key.hex()})")


def put_progress(txn: Any, tables: Table, progress: Progress) -> None:
    """Store how far the chain has been executed."""
    txn.put(EXECUTED, summed(EXECUTED, encode(progress)), db=tables.meta)
