"""The one encoding and decoding seam (`proto/spec/encoding.md`).

MessagePack, array-like structs, no floats, no maps. What does not re-encode to itself is refused: msgspec accepts non-minimal
integers, so canonical form costs a decode, an encode and a comparison.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, TypeVar, overload

import msgspec

from qustream.errors import fault
from qustream.model.base import Noun

__all__ = ["Message", "decode", "encode"]

_T = TypeVar("_T")
_ENCODER = msgspec.msgpack.Encoder()


class Message(Noun, frozen=True, tag=True):
    """A noun that travels by itself: the first element of its array is the integer tag that `proto/spec/encoding.md` lists."""


_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {}  # one a kind: bounded by the number of message types


def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    return _DECODERS[kind]


def encode(value: Noun) -> bytes:
    """Return the canonical bytes of `value`."""
    return _ENCODER.encode(value)


@overload
def decode(data: bytes | bytearray | memoryview, kind: type[_T], *, max_bytes: int) -> _T: ...
@overload
def decode(data: bytes | bytearray | memoryview, kind: UnionType, *, max_bytes: int) -> Any: ...
def decode(data: bytes | bytearray | memoryview, kind: Any, *, max_bytes: int) -> Any:
    """Decode hostile bytes as `kind` (a struct or a union of tagged structs).

    Errors: `E-WIRE-OVERSIZE` before anything is read, `E-WIRE-MALFORMED`, `E-WIRE-NONCANONICAL`.
    """
    if len(data) > max_bytes:
        raise fault("E-WIRE-OVERSIZE", f"{len(data)} bytes where at most {max_bytes} may stand")
    try:
        value = _decoder(kind).decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise fault("E-WIRE-MALFORMED", f"not a {_name(kind)}: {type(error).__name__}") from None
    if _ENCODER.encode(value) != data:
        raise fault("E-WIRE-NONCANONICAL", f"a {_name(kind)} that does not re-encode to itself")
    return value


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", "message"))
