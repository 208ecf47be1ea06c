"""The audit of leaf logs: what a server published, checked against its key and against itself (`proto/spec/leaf-log.md`, "Auditing")."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from qustream.entropy.batch import LEAF_DATA_BYTES
from qustream.errors import QuStreamError, fault
from qustream.identity.device_evidence import check_evidence
from qustream.identity.signing import open_signed
from qustream.leaflog.leaves import LeafPlace, LeafTable
from qustream.leaflog.segment import FIRST_PREVIOUS, SegmentContents, read_segment
from qustream.leaflog.source import LogSource
from qustream.model.entropy import Attestation, LeafLogEntry, LeafLogHeader
from qustream.model.ids import IdKind, to_text
from qustream.model.network import QrngServerRecord
from qustream.rules.merkle import Tree, leaf_hash

__all__ = ["AuditedLog", "audit"]

ServerOf = Callable[[bytes], QrngServerRecord | None]


@dataclass(slots=True)
class AuditedLog:
    """A log that was read to its end and holds. Batches and segments by number; `head`: SHA-256 of the last segment's whole records.

    `found`: of the leaf hashes that were looked for in this server's log, those that stand in the batch they should."""

    source: str
    chain: str = ""
    server: bytes = b""
    first_segment: int = 0
    last_segment: int = -1
    entries: int = 0
    leaves: int = 0
    first_batch: int = -1
    last_batch: int = -1
    torn_bytes: int = 0
    head: bytes = FIRST_PREVIOUS
    found: set[bytes] = field(default_factory=set)


def audit(
    sources: Sequence[LogSource],
    *,
    chain: str,
    server_of: ServerOf,
    wanted: Mapping[tuple[bytes, int], Collection[bytes]] | None = None,
) -> list[AuditedLog]:
    """Check logs, each of a server of its own, and all of them against each other.

    `server_of`: what the registry says of a server's id; `wanted`: leaf hashes to look for, by server and batch number.
    Errors: `E-LEAF-LOG`, `E-MATERIAL-REPEATED`, `E-SIGNATURE`, `E-ATTESTATION-EVIDENCE`, those of the sources; `E-DISK-FULL`, `E-FILE`
    when there is no room for temporary files (100 bytes a leaf, twice).
    """
    with LeafTable() as table:
        against = _Against(chain, server_of, wanted or {}, table)
        logs: list[AuditedLog] = []
        for number, source in enumerate(sources):
            reader = _LogReader(AuditedLog(source.name), number, against)
            try:
                reader.read(source)
            except QuStreamError as error:
                raise _placed(error, reader.place) from None
            if any(log.server == reader.log.server for log in logs):
                raise fault("E-LEAF-LOG", f"{source.name}: a log of this server was given already; put its segments into one directory")
            logs.append(reader.log)
        _check_repeats(table, logs)
        return logs


@dataclass(frozen=True, slots=True)
class _Against:
    """What every log of an audit is read against, and where all leaves go."""

    chain: str
    server_of: ServerOf
    wanted: Mapping[tuple[bytes, int], Collection[bytes]]
    table: LeafTable


class _LogReader:
    """One log, segment by segment. `place`: where it is reading, for whoever is told what does not hold."""

    def __init__(self, log: AuditedLog, number: int, against: _Against) -> None:
        self.log = log
        self.place = log.source
        self._number, self._against = number, against
        self._record: QrngServerRecord | None = None

    def read(self, source: LogSource) -> None:
        before: SegmentContents | None = None
        for number, data in source.segments():
            self.place = f"{self.log.source}, segment {number}"
            if before is not None and (self.log.torn_bytes or not before.entries):
                raise fault("E-LEAF-LOG", "the one before it is closed, but has a torn end or no entry")
            before = read_segment(data)
            self._check_header(before.header, number)
            for entry in before.entries:
                self._check_entry(entry)
            self.log.last_segment = number
            self.log.torn_bytes = len(data) - before.whole_bytes
            self.log.head = hashlib.sha256(data[: before.whole_bytes]).digest()

    def _check_header(self, header: LeafLogHeader, number: int) -> None:
        log = self.log
        if header.segment != number:
            raise fault("E-LEAF-LOG", "its header has another number")
        if self._record is None:
            self._begin(header)
        elif number != log.last_segment + 1:
            raise fault("E-LEAF-LOG", f"the one before it is missing; the last there is {log.last_segment}")
        elif (header.chain, header.server) != (log.chain, log.server):
            raise fault("E-LEAF-LOG", "of another server or network than the one before it")
        if number == 0 and header.previous != FIRST_PREVIOUS:
            raise fault("E-LEAF-LOG", "the first of all names one before it")
        if log.last_segment >= 0 and header.previous != log.head:
            raise fault("E-LEAF-LOG", "the segment before it is not the one that this one was written after")

    def _begin(self, header: LeafLogHeader) -> None:
        if header.chain != self._against.chain:
            raise fault("E-LEAF-LOG", "a log of another network")
        self._record = self._against.server_of(header.server)
        if self._record is None or self._record.key.id != header.server:
            raise fault("E-LEAF-LOG", "its QRNG server is not registered")
        self.log.chain, self.log.server, self.log.first_segment = header.chain, header.server, header.segment

    def _check_entry(self, entry: LeafLogEntry) -> None:
        assert self._record is not None, "the header came first"
        log = self.log
        stated = open_signed(entry.attestation, Attestation, self._record.key, "attestation")
        if (stated.chain, stated.server) != (log.chain, log.server):
            raise fault("E-LEAF-LOG", f"batch {stated.batch} is of another server or network")
        if stated.batch <= log.last_batch:
            raise fault("E-LEAF-LOG", f"batch {stated.batch} stands behind batch {log.last_batch}")
        check_evidence(stated.device, ())
        leaves = [entry.leaves[at : at + LEAF_DATA_BYTES] for at in range(0, len(entry.leaves), LEAF_DATA_BYTES)]
        if len(leaves) != stated.leaves or Tree(leaves).root != stated.root:
            raise fault("E-LEAF-LOG", f"the leaves of batch {stated.batch} are not those its attestation was signed over")
        if hashes := self._against.wanted.get((log.server, stated.batch)):
            log.found.update({leaf_hash(leaf) for leaf in leaves} & set(hashes))
        self._against.table.add(self._number, stated.batch, leaves)
        log.entries, log.leaves = log.entries + 1, log.leaves + len(leaves)
        log.first_batch, log.last_batch = stated.batch if log.first_batch < 0 else log.first_batch, stated.batch


def _placed(error: QuStreamError, place: str) -> QuStreamError:
    """What does not hold of the log, with the place; what is no word about the log stays as it is."""
    if error.code in ("E-LEAF-LOG", "E-SIGNATURE", "E-ATTESTATION-EVIDENCE"):
        return fault(error.code, f"{place}: {error.detail}")
    return fault("E-LEAF-LOG", f"{place}: {error.detail}") if error.code.startswith("E-WIRE-") else error


def _check_repeats(table: LeafTable, logs: list[AuditedLog]) -> None:
    if pair := table.repeated_material():
        first, second = (_said(place, logs) for place in pair)
        raise fault("E-MATERIAL-REPEATED", f"SHA-256 {pair[0].material_sha256.hex()} stands in {first}, and in {second}")
    if pair := table.repeated_number():
        first, second = (_said(place, logs) for place in pair)
        raise fault("E-LEAF-LOG", f"one number twice for one node: {first}, and {second}")


def _said(place: LeafPlace, logs: list[AuditedLog]) -> str:
    server, node = to_text(IdKind.QRNG, logs[place.log].server), to_text(IdKind.NODE, place.node)
    return f"batch {place.batch}, leaf {place.index} of {server}, for {node} under {place.sequence}"
