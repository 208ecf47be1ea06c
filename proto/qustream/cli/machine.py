"""Results as JSON, for programs: ids as text, everything else as the client's reports have it."""

from __future__ import annotations

import dataclasses
import json
from enum import IntEnum

import click

from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text

__all__ = ["as_json", "print_json"]

# What the raw ids in reports name, by field; a tuple of ids has the field's kind too.
_KINDS = {
    "grant": IdKind.GRANT,
    "node": IdKind.NODE,
    "server": IdKind.QRNG,
    "sender": IdKind.USER,
    "sender_device": IdKind.DEVICE,
    "inconsistent": IdKind.NODE,
    "unacknowledged": IdKind.NODE,
}


def as_json(value: object, name: str = "") -> object:
    """What `json` takes: a dataclass or dict becomes an object, an id its text, a coded error its code and detail. `name`: the field's."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name), field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return to_text(_KINDS[name], value) if value else None
    if isinstance(value, QuStreamError):
        return {"code": value.code, "detail": value.detail}
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, dict):
        return {key: as_json(each, key) for key, each in value.items()}
    if isinstance(value, tuple):
        return [as_json(one, name) for one in value]
    return value


def print_json(value: object, *, err: bool = False) -> None:
    """Print a report; `err`: on standard error, because standard output carries content."""
    click.echo(json.dumps(as_json(value), indent=1), err=err)
