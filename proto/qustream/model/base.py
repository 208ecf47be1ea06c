"""What every noun of the protocol is made of: bounded field types and the one struct shape (`proto/spec/encoding.md`)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, StructMeta
from msgspec.msgpack import Decoder

__all__ = [
    "LABEL_MAX_CHARS",
    "U8",
    "U16",
    "U63",
    "Bytes16",
    "Bytes32",
    "Bytes64",
    "Count32",
    "HybridSignature",
    "Label",
    "Noun",
    "Path",
    "Signed",
    "Text",
]

# Fixed lengths are part of the type, so that a decoder refuses a wrong one before anybody looks at it.
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
# Ed25519 (64 bytes) followed by ML-DSA-65 (3,309 bytes).
HybridSignature = Annotated[bytes, Meta(min_length=3373, max_length=3373)]
U8 = Annotated[int, Meta(ge=0, le=0xFF)]
U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
Count32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
# 63 bits: what every language's signed integer holds.
U63 = Annotated[int, Meta(ge=0, le=0x7FFFFFFFFFFFFFFF)]
LABEL_MAX_CHARS = 64  # names and serial numbers; longer ones are cut before they are stated
Label = Annotated[str, Meta(max_length=LABEL_MAX_CHARS)]
Text = Annotated[str, Meta(max_length=256)]
# A Merkle path: a tree of 2^32 leaves has 32 levels.
Path = Annotated[tuple[Bytes32, ...], Meta(max_length=32)]


class _Learnt(StructMeta):
    """A class that msgspec knows when it is made. Left to itself it learns what a class consists of when it first decodes one, field by
    field, and another thread that decodes the same meanwhile comes upon what is not there yet: the process ends with a segmentation fault.
    So a noun names in its fields only what stands above it."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        made = super().__new__(mcs, name, bases, namespace, **config)
        Decoder(made)
        return made


class Noun(Struct, metaclass=_Learnt, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A protocol struct without a tag: a MessagePack array of its fields in order of definition, nothing more.

    Frozen all the way down, so no cycle ever goes through one: the garbage collector need not look at the thousands a block makes.
    """


class Signed(Noun, frozen=True):
    """Canonical bytes of a noun and the hybrid signature over exactly these bytes (spec, identity.md)."""

    body: Annotated[bytes, Meta(max_length=16384)]
    signature: HybridSignature
