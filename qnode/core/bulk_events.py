"""What happens to a fetch, and what follows from it (`proto/spec/bulk.md`): plain data, recorded and replayed as it is.

A holder is a node id; an ask is a number of the core's, never used twice in one fetch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from qustream.wire.bulk import Manifest

__all__ = [
    "AskManifest", "AskPieces", "Begin", "Charge", "Done", "Effect", "Event", "Failed", "Held", "HolderFound", "HolderLost", "Keep", "Kept",
    "ManifestTold", "PieceCame", "Refused", "Ticked",
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class HolderFound:
    """A peer that we are connected to says it has the object."""

    holder: bytes


@dataclass(frozen=True, slots=True)
class HolderLost:
    """The connection to it is gone, and whatever was under way on it."""

    holder: bytes


@dataclass(frozen=True, slots=True)
class ManifestTold:
    """A holder's answer to an ask for the manifest."""

    holder: bytes
    ask: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """An ask failed, for this reason. `retry_after_ms`: when to come again, 0 if that was not said."""

    holder: bytes
    ask: int
    code: str
    retry_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """The answer to `Begin`: these pieces are on the disk already, checked by their hashes."""

    pieces: frozenset[int]


@dataclass(frozen=True, slots=True)
class PieceCame:
    """A piece, as a holder sent it."""

    holder: bytes
    index: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """The piece of a `Keep` is on the disk."""

    index: int


@dataclass(frozen=True, slots=True)
class Ticked:
    """Some time has passed; several times a second."""


Event: TypeAlias = HolderFound | HolderLost | ManifestTold | Refused | Held | PieceCame | Kept | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class AskManifest:
    """Ask a holder for the manifest: `ManifestTold` or `Refused` follows, or nothing."""

    holder: bytes
    ask: int


@dataclass(frozen=True, slots=True)
class Begin:
    """The manifest is known: look what is on the disk, and say `Held`."""

    manifest: Manifest = field(repr=False)


@dataclass(frozen=True, slots=True)
class AskPieces:
    """Ask a holder for pieces: `PieceCame` follows for each, or `Refused`, or nothing."""

    holder: bytes
    ask: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Put the piece on the disk, and say `Kept`."""

    index: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Charge:
    """This holder sent what is not true, and is asked no more."""

    holder: bytes
    code: str


@dataclass(frozen=True, slots=True)
class Done:
    """Every piece is on the disk. Nothing follows."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot be had now. Nothing follows; what is on the disk serves the next attempt."""

    code: str


Effect: TypeAlias = AskManifest | Begin | AskPieces | Keep | Charge | Done | Failed
