"""From the text of a network file to its contents, strictly (`proto/spec/registry.md`, "File").

The text comes from `signed_file.open_file`, so the network's key stands behind it; it is checked as if it did not.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from qustream.errors import QuStreamError, fault
from qustream.registry.contents import EnrolledUser, NetworkContents
from qustream.registry.rows import DeviceRow, FileRow, GrantRow, NodeRow, QrngServerRow, Row, UserRow, hex_from_text

__all__ = ["parse"]

_R = TypeVar("_R", bound=Row)
KNOWN_KEYS: dict[type[Row], frozenset[str]] = {
    kind: frozenset(field.encode_name for field in msgspec.structs.fields(kind))
    for kind in (FileRow, NodeRow, QrngServerRow, UserRow, DeviceRow, GrantRow)
}


def parse(text: str, verified: Mapping[bytes, EnrolledUser] | None = None) -> NetworkContents:
    """Read the text of a network file. `verified`: users of an earlier view, not verified again if unchanged.

    Errors: `E-REGISTRY-FORMAT`, with the path of the offending key (tables are counted from 0).
    """
    top = _row("", _toml(text), FileRow)
    seed = hex_from_text("seed", top.seed)
    contents = NetworkContents(top.chain, top.version, top.genesis_ms, top.epoch_length_ms, seed)

    def node(path: str, table: dict[str, Any]) -> None:
        contents.add_node(*_row(path, table, NodeRow).noun())

    def qrng_server(path: str, table: dict[str, Any]) -> None:
        contents.add_qrng_server(_row(path, table, QrngServerRow).noun())

    def user(path: str, table: dict[str, Any]) -> None:
        row = _row(path, table, UserRow)
        devices = tuple(_row(f"{path}.devices[{i}]", entry, DeviceRow).noun() for i, entry in enumerate(row.devices))
        contents.add_user(*row.noun(devices), verified)

    def grant(path: str, table: dict[str, Any]) -> None:
        contents.add_grant(_row(path, table, GrantRow).noun())

    _each("nodes", top.nodes, node)
    _each("qrng_servers", top.qrng_servers, qrng_server)
    _each("users", top.users, user)
    _each("grants", top.grants, grant)
    return contents


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise fault("E-REGISTRY-FORMAT", f"not TOML: {error}") from None
    except (RecursionError, ValueError) as error:
        # Nesting without end; an integer with thousands of digits.
        raise fault("E-REGISTRY-FORMAT", f"not TOML that a network file may hold: {type(error).__name__}") from None


def _each(name: str, tables: list[dict[str, Any]], add: Callable[[str, dict[str, Any]], None]) -> None:
    for place, table in enumerate(tables):
        path = f"{name}[{place}]"
        try:
            add(path, table)
        except QuStreamError as error:
            detail = error.detail if error.detail.startswith((path, "unknown key")) else f"{path}: {error.detail}"
            raise fault("E-REGISTRY-FORMAT", detail) from None


def _row(path: str, table: dict[str, Any], kind: type[_R]) -> _R:
    for key in table:
        if key not in KNOWN_KEYS[kind]:
            raise fault("E-REGISTRY-FORMAT", _unknown(f"{path}.{key}" if path else key, key, KNOWN_KEYS[kind]))
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise fault("E-REGISTRY-FORMAT", f"{path or 'the top of the file'}: {str(error).replace('`$.', '`')}") from None


def _unknown(path: str, key: str, known: frozenset[str]) -> str:
    nearest = difflib.get_close_matches(key, sorted(known), n=1)
    return f"unknown key {path}" + (f"; did you mean {nearest[0]}?" if nearest else "")
