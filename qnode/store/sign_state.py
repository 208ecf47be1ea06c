"""What a validator has signed, in a file of its own (`proto/spec/consensus.md` §2, `proto/spec/state.md` §4).

Two signatures of one view cost a tenth of the stake. So this file is on the disk before what it allows is signed; it is no part of any
database, reset or backup; and where it should be and is not, or is damaged, nothing is signed: an empty one would allow everything.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from qnode.core.consensus_events import OwnVotes, SignState
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.model.base import U63, Noun
from qustream.wire.codec import decode, encode

__all__ = ["SignStateFile", "forbids_all_of"]

MAGIC = b"qnode-votes-v1\n"
SUM_BYTES = 32  # SHA-256 of what follows
DIGEST_BYTES = 32  # of a block; empty for nothing
# Views above the last final one (consensus.md §10: 1,024), each with three digests; and as much again.
VIEWS_MAX = 2048
FILE_MAX_BYTES = 512 * 1024
Digest = Annotated[bytes, Meta(max_length=DIGEST_BYTES)]


class _Votes(Noun, frozen=True):
    view: U63
    proposed: Digest
    notarised: Digest
    skipped: bool
    finalised: Digest


class _Kept(Noun, frozen=True):
    owner: Annotated[bytes, Meta(max_length=64)]
    rotation: U63
    final_view: U63
    votes: Annotated[tuple[_Votes, ...], Meta(max_length=VIEWS_MAX)]


class SignStateFile:
    """One validator's file. `owner`: what names its vote key, so that nobody takes another key's. Every method blocks; one at a time."""

    def __init__(self, path: Path, owner: bytes = b"") -> None:
        self.path, self._owner = path, owner

    def begin(self) -> None:
        """Make the file of a vote key that has never signed. Errors: `E-FILE-EXISTS` if there is one, `E-FILE`, `E-DISK-FULL`."""
        try:
            files.create(self.path, self._bytes(SignState()))
        except FileExistsError:
            raise fault("E-FILE-EXISTS", f"{self.path}: a validator has signed with this key; it must be kept") from None

    def load(self) -> SignState:
        """What has been signed. Errors: `E-DATA-CORRUPT` if the file is missing, damaged, or another key's; `E-FILE`, `E-KEYSTORE-MODE`."""
        if not self.path.exists():
            raise fault("E-DATA-CORRUPT", f"{self.path} is not there: what this validator has signed is not known; import it, or a new key")
        return self._opened(self.path, self._read(self.path))

    def save(self, state: SignState) -> None:
        """Put it in place of the one before; on the disk when this returns. Errors: `E-DISK-FULL`, `E-FILE`; then the old one is there."""
        files.replace(self.path, self._bytes(state))

    def export_to(self, target: Path) -> None:
        """Copy it, whole, to take it to another machine; this one must not sign any more. Errors: as `load`, `E-FILE-EXISTS`."""
        data = self._bytes(self.load())
        try:
            files.create(target, data)
        except FileExistsError:
            raise fault("E-FILE-EXISTS", f"{target}") from None

    def import_from(self, source: Path) -> SignState:
        """Take an exported one over, if it is strictly newer than the one here, or there is none. Errors: as `load`, of either;
        `E-FILE-EXISTS` if it is not newer."""
        state = self._opened(source, self._read(source))
        if self.path.exists():
            here = self.load()
            if here == state or not forbids_all_of(state, here):
                raise fault("E-FILE-EXISTS", f"{self.path} is as new as {source}, or newer: it must be kept")
        self.save(state)
        return state

    def _read(self, path: Path) -> bytes:
        return files.read(path, FILE_MAX_BYTES, private=True)

    def _bytes(self, state: SignState) -> bytes:
        votes = tuple(
            _Votes(view, own.proposed, own.notarised, own.skipped, own.finalised) for view, own in sorted(state.votes.items())
        )  # fmt: skip
        body = encode(_Kept(self._owner, state.rotation, state.final_view, votes))
        return MAGIC + hashlib.sha256(body).digest() + body

    def _opened(self, path: Path, data: bytes) -> SignState:
        body = data[len(MAGIC) + SUM_BYTES :]
        if not data.startswith(MAGIC) or data[len(MAGIC) : len(MAGIC) + SUM_BYTES] != hashlib.sha256(body).digest():
            raise fault("E-DATA-CORRUPT", f"{path} is damaged: what this validator has signed is not known; nothing is signed")
        try:
            kept = decode(body, _Kept, max_bytes=FILE_MAX_BYTES)
        except QuStreamError:
            raise fault("E-DATA-CORRUPT", f"{path} was written by another version of this program") from None
        if kept.owner != self._owner:
            raise fault("E-DATA-CORRUPT", f"{path} is of another vote key")
        votes = {each.view: OwnVotes(each.proposed, each.notarised, each.skipped, each.finalised) for each in kept.votes}
        return SignState(kept.rotation, kept.final_view, votes)


def forbids_all_of(newer: SignState, older: SignState) -> bool:
    """Whether `newer` forbids everything that `older` forbids: it is of a later rotation, or has signed all that the other has."""
    if newer.rotation != older.rotation:
        return newer.rotation > older.rotation
    if newer.final_view < older.final_view:
        return False
    above = {view: own for view, own in older.votes.items() if view > newer.final_view}
    return all(own == OwnVotes() or _covers(newer.votes.get(view, OwnVotes()), own) for view, own in above.items())


def _covers(newer: OwnVotes, older: OwnVotes) -> bool:
    digests = ((newer.proposed, older.proposed), (newer.notarised, older.notarised), (newer.finalised, older.finalised))
    return all(before in (b"", after) for after, before in digests) and newer.skipped >= older.skipped
