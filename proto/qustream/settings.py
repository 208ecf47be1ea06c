"""Configuration files: TOML, checked whole before anything starts; an unknown key is refused with its path and a suggestion.

Sections are frozen msgspec structs that forbid unknown fields. Paths that are not absolute are taken from the folder of the file.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from qustream.errors import QuStreamError, fault

__all__ = ["SETTINGS_MAX_BYTES", "Section", "load", "loads"]

# A configuration that lists every node of the network by hand (4,732 entries of 100 bytes) fits twice.
SETTINGS_MAX_BYTES = 1 << 20
_T = TypeVar("_T", bound="Section")


class Section(Struct, forbid_unknown_fields=True, frozen=True):
    """A table of a configuration file."""


def load(path: Path, kind: type[_T]) -> _T:
    """Read and check the file at `path`. Raises `E-CONFIG` with file and key at fault; `E-FILE` when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(SETTINGS_MAX_BYTES + 1)
    except OSError as error:
        raise fault("E-FILE", f"{path}: {error.strerror}") from None
    if len(data) > SETTINGS_MAX_BYTES:
        raise fault("E-CONFIG", f"{path}: larger than {SETTINGS_MAX_BYTES} bytes")
    try:
        return loads(data.decode(), kind, path.resolve().parent)
    except UnicodeDecodeError:
        raise fault("E-CONFIG", f"{path}: not UTF-8 text") from None
    except QuStreamError as error:
        raise fault(error.code, f"{path}: {error.detail}") from None


def loads(text: str, kind: type[_T], folder: Path) -> _T:
    """Check the text of a configuration; relative paths are taken from `folder`. Raises `E-CONFIG`."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise fault("E-CONFIG", f"not TOML: {error}") from None
    refuse_unknown(raw, kind, "")

    def hook(wanted: type[Any], value: Any) -> Any:
        if wanted is Path and isinstance(value, str) and value:
            return folder / Path(value).expanduser()
        raise ValueError(f"Expected `{wanted.__name__}`, got {value!r}")  # msgspec adds the place to this one alone

    try:
        return msgspec.convert(raw, kind, dec_hook=hook)
    except msgspec.ValidationError as error:
        raise fault("E-CONFIG", _placed(str(error), kind)) from None


def refuse_unknown(table: dict[str, Any], kind: type[Struct], place: str) -> None:
    """Raise `E-CONFIG` for the first key of `table`, or of a table below it, that `kind` does not have."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
            raise fault("E-CONFIG", f"unknown key {place}{key}; {hint}")
        below = _section(known[key])
        if below is None:
            continue
        if isinstance(value, dict):
            refuse_unknown(value, below, f"{place}{key}.")
        elif isinstance(value, list):
            for number, entry in enumerate(value):
                if isinstance(entry, dict):
                    refuse_unknown(entry, below, f"{place}{key}[{number}].")


def _section(annotation: Any) -> type[Struct] | None:
    """The struct inside `X`, `X | None`, `tuple[X, ...]` or an annotated form of these."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)


def _placed(message: str, kind: type[Struct]) -> str:
    """msgspec's `... - at `$.device[0].kind`` as `device[0].kind: ...`, and what would do there where the types say it."""
    text, _, place = message.partition(" - at `$.")
    if not place:
        return text
    annotation: Any = kind
    for name in re.findall(r"[a-z_][a-z0-9_]*", place):
        section = _section(annotation)
        annotation = {field.encode_name: field.type for field in msgspec.structs.fields(section)}.get(name) if section else None
    wanted = _wanted(annotation)
    return f"{place.removesuffix('`')}: {text.partition(' matching regex')[0]}{'; wanted: ' * bool(wanted)}{wanted}"


def _wanted(annotation: Any) -> str:
    """The description that a type carries (`Meta`), or the words of a `Literal`; "" if there is neither."""
    if isinstance(annotation, Meta):
        return annotation.description or ""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    return next(filter(None, map(_wanted, get_args(annotation))), "")
