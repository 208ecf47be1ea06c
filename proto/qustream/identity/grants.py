"""A device's grants on its disk: nonces, and which index comes next (`proto/spec/grants.md`, "Indices").

The one promise: no index is ever given out twice, whatever dies and whoever runs beside us. An index is on the disk as used before
the caller sees it. A crash in between loses an index, which costs little; a repeated one would be refused by every node.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.model.base import U63, Bytes32, Noun
from qustream.model.ids import IdKind, to_text
from qustream.model.network import Grant
from qustream.rules.ruid import COUNT_MAX, stripe_count, stripe_index
from qustream.wire.codec import decode, encode

__all__ = ["GRANTS_MAX", "GrantBook", "GrantOffer", "GrantRecord"]

GRANTS_MAX = 1024  # a directory that is read whole; a user buys a handful an epoch
# Ended grants go when the book is half full and not before: a clock that is wrong must not cost an ordinary user his nonces.
FORGET_ABOVE = GRANTS_MAX // 2
RECORD_MAX_BYTES = 1024  # a record with its grant is ~350 bytes
SUFFIX = ".grant"
RECORD = r"[0-9a-f]{64}\.grant"
LEFTOVER = r"\.[0-9a-f]{64}\.grant\.[0-9a-f]{16}"  # what a process killed while writing leaves behind
LOCK = "lock"
RECORD_VERSION = 1

Count = Annotated[int, Meta(ge=1, le=COUNT_MAX)]
Stripes = Annotated[int, Meta(ge=1, le=256)]


class GrantOffer(Noun, frozen=True):
    """What a user asks the network to sell: `count` requests under the rUID root `root`, shared among `stripes` devices."""

    root: Bytes32
    count: Count
    stripes: Stripes


class GrantRecord(Noun, frozen=True):
    """One grant of this device. `generation`: of the rUID key; `stripe`: this device's; `used`: indices of the stripe given out;
    `grant`: what the network made of the offer, once known."""

    version: Annotated[int, Meta(ge=RECORD_VERSION, le=RECORD_VERSION)]
    root: Bytes32
    nonce: Bytes32
    count: Count
    stripes: Stripes
    generation: Annotated[int, Meta(ge=0, le=255)]
    stripe: Annotated[int, Meta(ge=0, le=255)]
    created_ms: U63
    used: Annotated[int, Meta(ge=0, le=COUNT_MAX)]
    grant: Grant | None


class GrantBook:
    """The directory `grants/` of a user's device. Safe among threads and processes: every change holds one file lock."""

    def __init__(self, directory: Path) -> None:
        """`directory` exists. What a killed process left half-written is cleared away. Errors: `E-FILE`."""
        self.directory = directory
        self._roots: dict[bytes, bytes] = {}  # grant id -> root; at most GRANTS_MAX, as the directory
        with self._locked():
            for name in self._names(LEFTOVER):
                os.unlink(directory / name)

    def _names(self, pattern: str) -> list[str]:
        try:
            return [name for name in os.listdir(self.directory) if re.fullmatch(pattern, name)]
        except OSError as error:
            raise files.file_fault(self.directory, error) from None

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return files.locked(self.directory / LOCK)

    def _path(self, root: bytes) -> Path:
        return self.directory / (root.hex() + SUFFIX)

    def _read(self, root: bytes) -> GrantRecord:
        path = self._path(root)
        try:
            record = decode(files.read(path, RECORD_MAX_BYTES, private=False), GrantRecord, max_bytes=RECORD_MAX_BYTES)
        except QuStreamError as error:
            if error.code == "E-FILE":
                raise
            raise fault("E-DATA-CORRUPT", f"{path} is not the record of a grant") from None
        if record.root != root:
            raise fault("E-DATA-CORRUPT", f"{path} is the record of another grant")
        return record

    def _write(self, record: GrantRecord) -> None:
        files.replace(self._path(record.root), encode(record))

    def records(self) -> list[GrantRecord]:
        """Every grant and offer kept here, in no order. Errors: `E-FILE`, `E-DATA-CORRUPT`."""
        with self._locked():  # nobody forgets one between listing and reading
            return self._records()

    def _records(self) -> list[GrantRecord]:
        return [self._read(bytes.fromhex(name.removesuffix(SUFFIX))) for name in self._names(RECORD)[:GRANTS_MAX]]

    def add(self, record: GrantRecord) -> GrantRecord:
        """Keep a new record; one that is there already stays as it is and is returned. Errors: `E-FILE`, `E-DISK-FULL`."""
        with self._locked():
            if self._path(record.root).exists():
                return self._read(record.root)
            if len(self._names(RECORD)) >= GRANTS_MAX:
                raise fault("E-FILE", f"{self.directory}: {GRANTS_MAX} grants are kept here; forget some that have ended")
            self._write(record)
        return record

    def holds(self, root: bytes) -> bool:
        """Whether there is a record, offered or adopted, of the grant with this root."""
        return self._path(root).exists()

    def adopt(self, grant: Grant) -> GrantRecord:
        """Tie `grant` to the offer with its root. Errors: `E-GRANT-UNKNOWN` if no offer fits."""
        with self._locked():
            name = to_text(IdKind.GRANT, grant.grant)
            if not self._path(grant.root).exists():
                raise fault("E-GRANT-UNKNOWN", f"this device has no nonce for {name}")
            record = self._read(grant.root)
            if (record.count, record.stripes) != (grant.count, grant.stripes):
                raise fault("E-GRANT-UNKNOWN", f"{name} is not what this device offered: another count, or other stripes")
            if record.grant is not None and record.grant.grant != grant.grant:
                raise fault("E-GRANT-UNKNOWN", f"the offer behind {name} became another grant already")
            if record.grant != grant:
                record = replace(record, grant=grant)
                self._write(record)
        self._roots[grant.grant] = grant.root
        return record

    def of(self, grant: bytes) -> GrantRecord:
        """The record of an adopted grant. Errors: `E-GRANT-UNKNOWN`."""
        if grant not in self._roots:
            self._roots = {record.grant.grant: record.root for record in self.records() if record.grant is not None}
        if grant not in self._roots:
            raise fault("E-GRANT-UNKNOWN", f"this device has not adopted {to_text(IdKind.GRANT, grant)}")
        return self._read(self._roots[grant])

    def next_index(self, grant: bytes) -> int:
        """Reserve and return the next index of this device's stripe.

        Errors: `E-GRANT-UNKNOWN`, `E-GRANT-EXHAUSTED`, `E-DISK-FULL`, `E-FILE`.
        """
        root = self.of(grant).root
        with self._locked():
            record = self._read(root)
            if record.used >= stripe_count(record.count, record.stripes, record.stripe):
                raise fault("E-GRANT-EXHAUSTED", _exhausted(record))
            self._write(replace(record, used=record.used + 1))
        return stripe_index(record.stripes, record.stripe, record.used)

    def left(self, grant: bytes) -> int:
        """How many indices of this device's stripe are still to be given out. Errors: `E-GRANT-UNKNOWN`, `E-FILE`, `E-DATA-CORRUPT`."""
        record = self.of(grant)
        return max(0, stripe_count(record.count, record.stripes, record.stripe) - record.used)

    def forget(self, root: bytes) -> None:
        """Drop the record of a grant that has ended, or of an offer that came to nothing; none there is no error. Errors: `E-FILE`."""
        with self._locked():
            self._forget({root})

    def forget_ended(self, before_epoch: int) -> None:
        """If more than half of the book is used, drop the grants of epochs before `before_epoch`. Errors: `E-FILE`, `E-DATA-CORRUPT`."""
        if len(self._names(RECORD)) > FORGET_ABOVE:
            with self._locked():
                self._forget({r.root for r in self._records() if r.grant is not None and r.grant.epoch < before_epoch})

    def _forget(self, roots: set[bytes]) -> None:
        try:
            for root in roots:
                self._path(root).unlink(missing_ok=True)
            files.sync_directory(self.directory)
        except OSError as error:
            raise files.file_fault(self.directory, error) from None
        self._roots = {grant: kept for grant, kept in self._roots.items() if kept not in roots}


def _exhausted(record: GrantRecord) -> str:
    if record.stripe >= record.stripes:
        return f"the grant is shared by devices 0 to {record.stripes - 1}, and this is device {record.stripe}"
    return f"all {record.used} indices of this device are used"
