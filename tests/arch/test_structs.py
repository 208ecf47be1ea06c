"""A default of a msgspec struct is a value, or of the `field` of msgspec: that of `dataclasses` would be the default itself, unseen."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("proto/qustream", "qnode", "qrngd") for path in sorted((ROOT / folder).rglob("*.py"))]
IS_DATACLASS = "dataclass"


def misplaced(source: str) -> list[str]:
    """Classes that are no dataclasses and have a default made by the `field` of `dataclasses`."""
    tree = ast.parse(source)
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        for alias in node.names if alias.name == "field"
    }  # fmt: skip
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not any(IS_DATACLASS in ast.unparse(each) for each in node.decorator_list)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Call) and _called(line.value) in {*ours, "dataclasses.field"}
    ]


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def test_no_struct_has_a_default_of_dataclasses() -> None:
    assert len(SOURCES) > 300
    assert {path.relative_to(ROOT): found for path in SOURCES if (found := misplaced(path.read_text()))} == {}


@pytest.mark.parametrize("form", ["from dataclasses import field\n{}field()", "import dataclasses\n{}dataclasses.field()"])
def test_one_would_be_found(form: str) -> None:
    source = "import msgspec\n" + form.format("class Bad(msgspec.Struct):\n    held: list[int] = ")
    assert misplaced(source) == ["Bad"]
    names: dict[str, type[msgspec.Struct]] = {}
    exec(source, names)
    assert not isinstance(names["Bad"]().held, list), "why this test is here"  # type: ignore[attr-defined]
    assert misplaced(source.replace("class Bad(msgspec.Struct)", "@dataclass(slots=True)\nclass Good")) == []
