"""Proposals and certificates on the disk (`proto/spec/state.md` §3): what validators ask for, and the finalisations that prove the chain.

`votes`: rotation ‖ view ‖ kind ‖ digest → certificate, or nothing for a proposal: it is in `proposals`, by its digest.
`finals`: height → the finalisation that made it final, for ever; one every 64 blocks. `ends`: rotation → how it ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from msgspec import Meta

from qnode.store.chain.environment import Table, number_key, summed, unsummed
from qustream.errors import fault
from qustream.model.base import U63, Bytes32, Noun
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, Kind, Proposal

__all__ = ["End", "Newest", "Votes"]

# 100 signatures of 2,420 bytes, with their frames.
CERTIFICATE_MAX_BYTES = 256 * 1024
# 1,200 ids of 34 bytes, a header, a signature.
PROPOSAL_MAX_BYTES = 64 * 1024
# A finalisation is kept for ever once in so many blocks: all of them would be 28 GB a day with a full set.
KEPT_EVERY_BLOCKS = 64
# Views up to the last final one whose proposals and certificates are still there for validators that lag (consensus.md §6: they
# ask for 32 things at once).
KEPT_VIEWS = 64
# What one call takes away at most: bounded work, and after a rotation of nothing but skips it is made up within some blocks.
PRUNED_AT_ONCE_MAX = 512
# Descendants of a boundary block: as many as a rotation may have views above the last final one.
TAIL_MAX_HEADERS = 1024
END_MAX_BYTES = CERTIFICATE_MAX_BYTES + TAIL_MAX_HEADERS * 512
NEWEST = b"newest"


class Newest(Noun, frozen=True):
    """The newest finalisation: the block it finalises, and where the certificate stands."""

    height: U63
    rotation: U63
    view: U63
    digest: Bytes32


class End(Noun, frozen=True):
    """How a rotation ended. `tail`: the headers between its boundary block and the block that the certificate finalises, in order; empty if
    that is the boundary block itself."""

    height: U63
    certificate: Certificate
    tail: Annotated[tuple[ChainHeader, ...], Meta(max_length=TAIL_MAX_HEADERS)]


class Votes:
    """Access to the tables inside a transaction that somebody else began."""

    def __init__(self, tables: Table) -> None:
        self._tables = tables

    # -- keeping --------------------------------------------------------------------------------------------------------

    def keep(self, txn: Any, message: Proposal | Certificate, digest: bytes) -> None:
        """Store it. `digest`: of the block or, for a skip, zeros."""
        if isinstance(message, Proposal):
            header = message.header
            txn.put(digest, summed(digest, encode(message)), db=self._tables.proposals)
            txn.put(_key(header.rotation, header.view, Kind.PROPOSAL, digest), b"", db=self._tables.votes)
        else:
            key = _key(message.rotation, message.view, message.kind, digest)
            txn.put(key, summed(key, encode(message)), db=self._tables.votes, overwrite=False)

    def finalised(self, txn: Any, height: int, certificate: Certificate, boundary: bytes, tail: Sequence[ChainHeader]) -> None:
        """`certificate` makes the block of `height` final; `boundary`: that block's digest, to find what stands between; `tail`: that, as
        somebody told who had it."""
        self.keep(txn, certificate, certificate.digest)
        before = self.newest(txn)
        after = Newest(height, certificate.rotation, certificate.view, certificate.digest)
        if before is not None and before.rotation < after.rotation:
            self._end(txn, before)
        if before is None or height // KEPT_EVERY_BLOCKS > before.height // KEPT_EVERY_BLOCKS:
            key = number_key(height)
            txn.put(key, summed(key, encode(certificate)), db=self._tables.finals)
        txn.put(NEWEST, summed(NEWEST, encode(after)), db=self._tables.meta)
        if certificate.digest != boundary:  # it ends the rotation, and one of its descendants says so
            self._put_end(txn, End(height, certificate, self._tail(txn, certificate.digest, boundary) or tuple(tail)))
        self._prune(txn, after)

    def _end(self, txn: Any, newest: Newest) -> None:
        """A block of a later rotation is final: the newest finalisation was the last of its rotation."""
        certificate = self.certificate(txn, newest.rotation, newest.view, Kind.FINAL, newest.digest)
        if certificate is not None and self.end(txn, newest.rotation) is None:
            self._put_end(txn, End(newest.height, certificate, ()))

    def _put_end(self, txn: Any, end: End) -> None:
        key = number_key(end.certificate.rotation)
        txn.put(key, summed(key, encode(end)), db=self._tables.ends)

    def _tail(self, txn: Any, digest: bytes, boundary: bytes) -> tuple[ChainHeader, ...]:
        headers: list[ChainHeader] = []
        while digest != boundary and len(headers) < TAIL_MAX_HEADERS:
            proposal = self.proposal(txn, digest)
            if proposal is None:
                return ()
            headers.append(proposal.header)
            digest = proposal.header.parent
        return tuple(reversed(headers))

    def _prune(self, txn: Any, newest: Newest) -> None:
        """Take away what nobody needs any more."""
        rotation, view = newest.rotation, newest.view
        end = self.end(txn, rotation - 1) if view <= KEPT_VIEWS and rotation else None
        if end is not None:
            rotation, view = rotation - 1, end.certificate.view
        floor = number_key(rotation) + number_key(max(0, view - KEPT_VIEWS))
        cursor = txn.cursor(db=self._tables.votes)
        cursor.first()
        for _ in range(PRUNED_AT_ONCE_MAX):
            key = bytes(cursor.key())  # empty at the end
            if not key or key >= floor:
                break
            if key[16] == Kind.PROPOSAL:
                txn.delete(key[17:], db=self._tables.proposals)
            cursor.delete()  # and goes to the next

    # -- looking --------------------------------------------------------------------------------------------------------

    def proposal(self, txn: Any, digest: bytes) -> Proposal | None:
        """Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(digest, db=self._tables.proposals)
        return None if raw is None else decode(unsummed(digest, raw), Proposal, max_bytes=PROPOSAL_MAX_BYTES)

    def certificate(self, txn: Any, rotation: int, view: int, kind: Kind, digest: bytes) -> Certificate | None:
        """`digest` zeros: of whatever digest. Errors: `E-DATA-CORRUPT`."""
        key = _key(rotation, view, kind, digest)
        raw = txn.get(key, db=self._tables.votes)
        if raw is None and digest == NO_DIGEST:
            cursor = txn.cursor(db=self._tables.votes)
            if cursor.set_range(key) and cursor.key()[:17] == key[:17]:
                key, raw = bytes(cursor.key()), cursor.value()
        return None if raw is None else _certificate(key, raw)

    def kept(self, txn: Any, rotation: int, above: int) -> list[Proposal | Certificate]:
        """Everything of a rotation's views greater than `above`, by view. Errors: `E-DATA-CORRUPT`."""
        found: list[Proposal | Certificate] = []
        cursor = txn.cursor(db=self._tables.votes)
        if cursor.set_range(number_key(rotation) + number_key(above + 1)):
            for key, raw in cursor.iternext():
                if key[:8] != number_key(rotation):
                    break
                if key[16] != Kind.PROPOSAL:
                    found.append(_certificate(bytes(key), raw))
                elif (proposal := self.proposal(txn, bytes(key[17:]))) is not None:
                    found.append(proposal)
        return found

    def newest(self, txn: Any) -> Newest | None:
        """Errors: `E-DATA-CORRUPT`."""
        raw = txn.get(NEWEST, db=self._tables.meta)
        return None if raw is None else decode(unsummed(NEWEST, raw), Newest, max_bytes=PROPOSAL_MAX_BYTES)

    def finalisation(self, txn: Any, height: int) -> tuple[int, Certificate] | None:
        """The kept one of the lowest block at or above `height`, and that block's height. Errors: `E-DATA-CORRUPT`."""
        found: list[tuple[int, Certificate]] = []
        cursor = txn.cursor(db=self._tables.finals)
        if cursor.set_range(number_key(height)):
            key = bytes(cursor.key())
            certificate = decode(unsummed(key, cursor.value()), Certificate, max_bytes=CERTIFICATE_MAX_BYTES)
            found.append((int.from_bytes(key, "big"), certificate))
        newest = self.newest(txn)
        if newest is not None and newest.height >= height and (not found or newest.height < found[0][0]):
            last = self.certificate(txn, newest.rotation, newest.view, Kind.FINAL, newest.digest)
            found = [(newest.height, last)] if last is not None else found
        return found[0] if found else None

    def finalisations(self, txn: Any) -> Iterator[tuple[int, Certificate]]:
        """Those that are kept for ever, by height. Errors: `E-DATA-CORRUPT`."""
        for key, raw in txn.cursor(db=self._tables.finals):
            yield int.from_bytes(key, "big"), _certificate(bytes(key), raw)

    def look_through(self, txn: Any) -> int:
        """How many proposals and certificates are kept, each of which has been looked at. Errors: `E-DATA-CORRUPT`."""
        count = 0
        for key, raw in txn.cursor(db=self._tables.votes):
            if key[16] != Kind.PROPOSAL:
                _certificate(bytes(key), raw)
            elif self.proposal(txn, bytes(key[17:])) is None:
                raise fault("E-DATA-CORRUPT", f"the proposal {key[17:].hex()} is not here")
            count += 1
        return count

    def end(self, txn: Any, rotation: int) -> End | None:
        """Errors: `E-DATA-CORRUPT`."""
        key = number_key(rotation)
        raw = txn.get(key, db=self._tables.ends)
        return None if raw is None else decode(unsummed(key, raw), End, max_bytes=END_MAX_BYTES)


def _key(rotation: int, view: int, kind: Kind, digest: bytes) -> bytes:
    return number_key(rotation) + number_key(view) + bytes((kind,)) + digest


def _certificate(key: bytes, raw: bytes) -> Certificate:
    return decode(unsummed(key, raw), Certificate, max_bytes=CERTIFICATE_MAX_BYTES)
