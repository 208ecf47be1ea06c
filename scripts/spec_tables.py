#!/usr/bin/env python3
"""Write the tables of the specification that follow from the code: error codes, message kinds.

scripts/spec_tables.py            rewrite them between their markers in proto/spec/{errors,encoding}.md
scripts/spec_tables.py --check    exit 1 if a table is not what this program would write
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import inspect

from qustream.errors import CODES
from qustream.model.base import Noun
from qustream.wire.codec import Message
from qustream.wire.transactions import Action

SPEC = Path(__file__).resolve().parent.parent / "proto/spec"
# Where the kinds are that travel between parties, in the order of the table.
MESSAGE_MODULES = (
    "wire.hello",
    "wire.rpc",
    "wire.keys",
    "wire.feed",
    "wire.gossip",
    "wire.peers",
    "wire.bulk",
    "wire.consensus",
    "wire.transactions",
    "wire.bundle",
    "wire.mempool",
    "wire.sync",
    "wire.light",
    "wire.snapshot",
)
NOUN_MODULES = (
    "model.base",
    "model.keys",
    "model.network",
    "model.entropy",
    "wire.keys",
    "wire.gossip",
    "wire.peers",
    "wire.consensus",
    "wire.transactions",
    "model.state",
    "model.genesis",
    "rules.radix",
    "rules.radix_plan",
    "wire.light",
    "wire.snapshot",
    "identity.enrolment",
)
POWERS = {(1 << bits) - 1: f"2^{bits} − 1" for bits in (16, 32, 63)} | {1 << 20: "2^20"}


def kinds(modules: tuple[str, ...], *, tagged: bool) -> Iterator[type[Noun]]:
    """The nouns defined in `modules`; a tag makes one a message."""
    for name in modules:
        module = importlib.import_module(f"qustream.{name}")
        own = (value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__)
        yield from (each for each in own if is_noun(each) and issubclass(each, Message) is tagged)


def is_noun(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Noun) and value not in (Noun, Message, Action)


def number(value: int | None) -> str:
    return POWERS.get(value or 0, f"{value:,}")


def shape(kind: inspect.Type) -> str:
    """A field's type in words."""
    match kind:
        case inspect.BytesType(min_length=low, max_length=high):
            return f"bytes {number(high)}" if low == high else f"bytes {low} … {number(high)}" if low else f"bytes ≤ {number(high)}"
        case inspect.StrType(max_length=high):
            return f"text ≤ {number(high)}"
        case inspect.IntType(ge=low, le=high):
            return f"{low} … {number(high)}"
        case inspect.BoolType():
            return "boolean"
        case inspect.VarTupleType(item_type=item, max_length=high):
            return f"array ≤ {high} of {shape(item)}"
        case inspect.TupleType(item_types=items):
            return "[" + ", ".join(map(shape, items)) + "]"
        case inspect.StructType(cls=cls):
            return f"*{cls.__name__}*"
        case inspect.EnumType(cls=cls):
            return " or ".join(f"{member.value} ({member.name.lower().replace('_', ' ')})" for member in cls)
        case inspect.UnionType(types=types) if all(isinstance(each, inspect.StructType) and issubclass(each.cls, Action) for each in types):
            return "an action"
        case inspect.UnionType(types=types):
            return " or ".join("nil" if isinstance(each, inspect.NoneType) else shape(each) for each in types)
    raise TypeError(f"no words for {kind}")


def head_bytes(length: int, short: int) -> int:
    """Bytes in front of a byte string or array of up to `length`; up to `short` fit into the first."""
    return 1 if length <= short else 3 if length <= 0xFFFF else 5


def most_bytes(kind: inspect.Type) -> int:
    """The longest canonical encoding a value of this type can have."""
    match kind:
        case inspect.BytesType(max_length=int(high)):
            return (2 if high <= 0xFF else 3 if high <= 0xFFFF else 5) + high
        case inspect.StrType(max_length=int(high)):
            # A character takes up to four bytes of UTF-8.
            return (1 if 4 * high <= 31 else 2 if 4 * high <= 0xFF else 3) + 4 * high
        case inspect.IntType(le=int(high)):
            return 1 if high < 0x80 else 2 if high <= 0xFF else 3 if high <= 0xFFFF else 5 if high <= 0xFFFFFFFF else 9
        case inspect.BoolType() | inspect.EnumType():
            return 1
        case inspect.VarTupleType(item_type=item, max_length=int(high)):
            return head_bytes(high, 15) + high * most_bytes(item)
        case inspect.TupleType(item_types=items):
            return head_bytes(len(items), 15) + sum(map(most_bytes, items))
        case inspect.StructType(fields=fields, tag=tag):
            count = len(fields) + (tag is not None)
            return head_bytes(count, 15) + (tag is not None) + sum(most_bytes(field.type) for field in fields)
        case inspect.UnionType(types=types):
            return max(1 if isinstance(each, inspect.NoneType) else most_bytes(each) for each in types)
    raise TypeError(f"no bound on {kind}")


def struct_of(kind: type[Noun]) -> inspect.StructType:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return described


def row(kind: type[Noun]) -> list[str]:
    described = struct_of(kind)
    fields = ", ".join(f"{field.name}: {shape(field.type)}" for field in described.fields)
    return [f"*{kind.__name__}*", fields, f"{most_bytes(described):,}"]


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def messages() -> str:
    rows = [[str(struct_of(kind).tag), *row(kind)] for kind in kinds(MESSAGE_MODULES, tagged=True)]
    return table(["tag", "message", "fields after the tag", "bytes at most"], sorted(rows, key=lambda line: int(line[0])))


def nouns() -> str:
    rows = [row(kind) for kind in kinds(NOUN_MODULES, tagged=False) if not issubclass(kind, Action)]
    return table(["noun", "fields", "bytes at most"], rows)


def actions() -> str:
    found = [kind for kind in kinds(("wire.transactions",), tagged=False) if issubclass(kind, Action)]
    rows = [[str(struct_of(kind).tag), *row(kind)] for kind in found]
    return table(["number", "action", "fields after the number", "bytes at most"], rows)


def errors() -> str:
    rows = [[f"`{code}`", line.family.value, line.meaning, line.remedy] for code, line in CODES.items()]
    return table(["code", "family", "meaning", "remedy"], rows)


TABLES: dict[str, dict[str, Any]] = {
    "errors.md": {"codes": errors},
    "encoding.md": {"messages": messages, "nouns": nouns, "actions": actions},
}


def rewritten(text: str, tables: dict[str, Any]) -> str:
    """`text` with what stands between `<!-- NAME -->` and `<!-- end NAME -->` made anew."""
    for name, make in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text, times = pattern.subn(lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", text)  # type: ignore[misc]
        assert times == 1, f"the markers of {name}"
    return text


def main() -> int:
    stale = []
    for name, tables in TABLES.items():
        path = SPEC / name
        before = path.read_text()
        after = rewritten(before, tables)
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(after)
    if "--check" in sys.argv and stale:
        print(f"not up to date: {', '.join(stale)}; run scripts/spec_tables.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
