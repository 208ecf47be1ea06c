"""A small TOML writer: the same value always gives the same text (`proto/spec/registry.md`, "File").

Writes what network files hold and nothing else: strings, integers, booleans, lists of strings, arrays of tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qustream.errors import fault

__all__ = ["emit"]

Table = Mapping[str, Any]


def emit(table: Table) -> str:
    """The TOML text of `table`; keys stand in the order given, `None` is left out, arrays of tables come last.

    Errors: `E-REGISTRY-FORMAT` for text that UTF-8 cannot hold.
    """
    return "\n".join(_lines("", table)) + "\n"


def _lines(path: str, table: Table) -> list[str]:
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if value is not None and not _is_tables(value)]
    for key, value in table.items():
        if _is_tables(value):
            inner = f"{path}.{key}" if path else key
            for row in value:
                lines += ["", f"[[{inner}]]", *_lines(inner, row)]
    return lines


def _is_tables(value: object) -> bool:
    """An array of tables; an empty one is left out, as a list of strings never is."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value) and bool(value)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _string(value)
        case list():
            return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"a network file holds no {type(value).__name__}")


def _string(text: str) -> str:
    # Literal strings where they can be: a reader skips to their end at once, which for 15 MB of keys makes the difference.
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise fault("E-REGISTRY-FORMAT", "text with half a surrogate pair in it")
    return '"' + "".join(_escaped(c) for c in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"
