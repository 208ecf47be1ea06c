"""What happens to a fetch, and what follows from it (`proto/spec/bulk.md`): plain data, recorded and replayed as it is.

A holder is a node id; an ask is a number of the core's, never used twice in one fetch.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from qustream.wire.bulk import Manifest

__all__ = [
    "AskManifest", "AskPieces", "Begin", "Charge", "Done", "Effect", "Event", "Failed", "Held", "HolderFound", "HolderLost", "Keep", "Kept",
    "ManifestTold", "PieceCame", "Refused", "Ticked",
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------- events


class _Large(Struct, frozen=True):
    """Shows itself without what is large."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in ("data", "manifest")]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class HolderFound(Struct, frozen=True):
    """A peer that we are connected to says it has the object."""

    holder: bytes


class HolderLost(Struct, frozen=True):
    """The connection to it is gone, and whatever was under way on it."""

    holder: bytes


class ManifestTold(_Large, frozen=True):
    """A holder's answer to an ask for the manifest."""

    holder: bytes
    ask: int
    data: bytes


class Refused(Struct, frozen=True):
    """An ask failed, for this reason. `retry_after_ms`: when to come again, 0 if that was not said."""

    holder: bytes
    ask: int
    code: str
    retry_after_ms: int = 0


class Held(Struct, frozen=True):
    """The answer to `Begin`: these pieces are on the disk already, checked by their hashes."""

    pieces: frozenset[int]


class PieceCame(_Large, frozen=True):
    """A piece, as a holder sent it."""

    holder: bytes
    index: int
    data: bytes


class Kept(Struct, frozen=True):
    """The piece of a `Keep` is on the disk."""

    index: int


class Ticked(Struct, frozen=True):
    """Some time has passed; several times a second."""


Event: TypeAlias = HolderFound | HolderLost | ManifestTold | Refused | Held | PieceCame | Kept | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


class AskManifest(Struct, frozen=True):
    """Ask a holder for the manifest: `ManifestTold` or `Refused` follows, or nothing."""

    holder: bytes
    ask: int


class Begin(_Large, frozen=True):
    """The manifest is known: look what is on the disk, and say `Held`."""

    manifest: Manifest


class AskPieces(Struct, frozen=True):
    """Ask a holder for pieces: `PieceCame` follows for each, or `Refused`, or nothing."""

    holder: bytes
    ask: int
    first: int
    count: int


class Keep(_Large, frozen=True):
    """Put the piece on the disk, and say `Kept`."""

    index: int
    data: bytes


class Charge(Struct, frozen=True):
    """This holder sent what is not true, and is asked no more."""

    holder: bytes
    code: str


class Done(Struct, frozen=True):
    """Every piece is on the disk. Nothing follows."""


class Failed(Struct, frozen=True):
    """It cannot be had now. Nothing follows; what is on the disk serves the next attempt."""

    code: str


Effect: TypeAlias = AskManifest | Begin | AskPieces | Keep | Charge | Done | Failed
