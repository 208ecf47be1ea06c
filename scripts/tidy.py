#!/usr/bin/env python3
"""The house rules as a test: lengths, names, mirrors, limits with a why, runbooks, no stray words (`proto/spec/house.md`).

Exit 0 when the tree keeps them, 1 with one line a breach. Standard library only, so it runs before anything is installed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("proto/qustream", "qrngd", "qnode")
CODE = (*SOURCES, "scripts", "tests")
TOP_LEVEL = {
    "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "qnode", "qrngd", "proto", "deploy", "tests", "scripts",
}  # fmt: skip
BODY_SOFT, BODY_HARD = 50, 70  # lines: a function one screen can hold
FILE_SOFT, FILE_HARD = 400, 500  # lines: a file one reading can hold
POSITIONAL = 5  # beyond this a caller mixes them up
# How many may stand between soft and hard limit. Lower these when the count falls; never raise them.
RATCHET = {"body": 0, "file": 0}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
BANNED_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError|pytest\.mark\.(skip|xfail)")
EVERYTHING = {"Exception", "BaseException"}
# The rule itself, and the one place that may skip a test.
WORDS_EXEMPT = {Path(__file__).resolve(), ROOT / "tests" / "conftest.py"}
LIMIT = re.compile(r"(MAX|MIN|LIMIT|_MS|_BYTES|_SECONDS|_PER_|CAP|CAPACITY|WINDOW|RATE|COUNT)")


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring."""
    first = node.body[0]
    is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    body = node.body[1:] if is_doc else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def positional(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    return len([n for n in names if n not in ("self", "cls")])


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


def lengths() -> Iterator[str]:
    over = {"body": 0, "file": 0}
    soft: list[str] = []
    for path in python_files(*CODE):
        name, text = path.relative_to(ROOT), path.read_text()
        lines = text.count("\n")
        is_test = name.parts[0] == "tests"
        if lines > FILE_HARD:
            yield f"{name}: {lines} lines, at most {FILE_HARD}: split it by meaning"
        elif lines > FILE_SOFT and not is_test:
            over["file"] += 1
            soft.append(f"{name}: {lines} lines, better at most {FILE_SOFT}")
        for node in functions(ast.parse(text)):
            size = body_lines(node)
            if size > BODY_HARD:
                yield f"{name}:{node.lineno}: {node.name} has {size} lines, at most {BODY_HARD}"
            elif size > BODY_SOFT:
                over["body"] += 1
                soft.append(f"{name}:{node.lineno}: {node.name} has {size} lines, better at most {BODY_SOFT}")
            if positional(node) > POSITIONAL and not is_test:
                yield f"{name}:{node.lineno}: {node.name} takes {positional(node)} positional parameters, at most {POSITIONAL}"
    for what, count in over.items():
        if count > RATCHET[what]:
            yield f"{count} over the soft {what} limit, the ratchet stands at {RATCHET[what]}:"
    if any(over[w] > RATCHET[w] for w in over):
        yield from soft


def names() -> Iterator[str]:
    for path in python_files(*CODE):
        for part in (*path.relative_to(ROOT).parts[:-1], path.stem):
            if part in BANNED_NAMES:
                yield f"{path.relative_to(ROOT)}: a module named {part}: the model lacks a noun"
    ignore = ROOT / ".gitignore"  # names where scripts leave what they make
    ignored = {line.strip("/") for line in ignore.read_text().split()} if ignore.exists() else set()
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in TOP_LEVEL | ignored:
            yield f"{entry.name}: not one of the agreed top-level names"


def mirrors() -> Iterator[str]:
    """Each tests/unit file stands where its source stands: tests/unit/qustream/block/test_build.py ~ qustream/block/build.py."""
    base = ROOT / "tests" / "unit"
    for path in sorted(base.rglob("test_*.py")):
        parts = path.relative_to(base).parts
        root = ROOT / "proto" if parts[0] == "qustream" else ROOT
        folder = root.joinpath(*parts[:-1])
        stem = path.stem.removeprefix("test_")
        if not (any(folder.glob(f"{stem}.py")) or (folder / stem).is_dir() or longest_prefix(folder, stem)):
            yield f"{path.relative_to(ROOT)}: no source {folder.relative_to(ROOT)}/{stem}.py it could mirror"


def longest_prefix(folder: Path, stem: str) -> bool:
    """test_codec_hostile.py may stand beside test_codec.py: both mirror codec.py."""
    return any(stem.startswith(f"{p.stem}_") for p in folder.glob("*.py"))


def limits() -> Iterator[str]:
    """A module-level numeric limit says why: a comment on its line or above it."""
    for path in python_files(*SOURCES):
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.parse(text).body:
            target = single_target(node)
            if target and LIMIT.search(target) and target.isupper() and is_number(getattr(node, "value", None)):
                here, above = lines[(node.end_lineno or node.lineno) - 1], commented_above(lines, node.lineno - 1)
                if "#" not in here and not above:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: {target} is a limit without a why"


def single_target(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None


def is_number(node: ast.expr | None) -> bool:
    """A literal number or arithmetic over literals; a value derived from other names has its why there."""
    if node is None or any(isinstance(n, (ast.Name, ast.Attribute, ast.Call)) for n in ast.walk(node)):
        return False
    return any(isinstance(n, ast.Constant) and isinstance(n.value, int) for n in ast.walk(node))


def commented_above(lines: list[str], index: int) -> bool:
    """Whether the run of assignments that this line ends starts under a comment."""
    while index > 0:
        index -= 1
        if lines[index].startswith("#"):
            return True
        if not lines[index].strip() or not re.match(r"[A-Z_0-9]+( *:[^=]+)? *=", lines[index]):
            return False
    return False


def words() -> Iterator[str]:
    # No path of the machine somebody worked on belongs in the tree; spelled so that this file does not hold one.
    stray = re.compile("/" + "work/|/" + r"farm/|\." + "library")
    for path in (
        *python_files(*CODE),
        *(ROOT / "proto" / "spec").rglob("*.md"),
        *(ROOT / "deploy").rglob("*"),
        ROOT / "README.md",
    ):
        if not path.is_file() or path in WORDS_EXEMPT:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if stray.search(line) or (path.suffix == ".py" and BANNED_WORDS.search(line)):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"


def swallowed() -> Iterator[str]:
    """Whoever catches everything does something with it: what is thrown away there is our own bug."""
    for path in python_files(*CODE):
        for node in ast.walk(ast.parse(path.read_text())):
            caught = None
            if isinstance(node, ast.ExceptHandler) and all(is_empty(statement) for statement in node.body):
                caught = [node.type]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
                caught = node.args
            if caught and any(is_everything(each) for each in caught):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: catches everything and says nothing"


def is_empty(statement: ast.stmt) -> bool:
    is_value = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_value or isinstance(statement, (ast.Pass, ast.Continue))


def is_everything(caught: ast.expr | None) -> bool:
    """A bare `except`, `Exception`, or a tuple that holds it."""
    listed = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(each is None or ast.unparse(each) in EVERYTHING for each in listed)


def runbooks() -> Iterator[str]:
    """Every code whose remedy lies with an operator has a runbook, and no runbook speaks of a code that is gone."""
    table = (ROOT / "proto/qustream/errors.py").read_text()
    rows = dict(re.findall(r'"(E-[A-Z0-9-]+)": CodeRow\(\s*(_[POU])', table))
    books = {p.stem for p in (ROOT / "deploy/runbooks").glob("E-*.md")}
    for code in sorted(c for c, family in rows.items() if family in ("_O", "_U") and c not in books):
        yield f"deploy/runbooks/{code}.md is missing"
    for code in sorted(books - set(rows)):
        yield f"deploy/runbooks/{code}.md: no such code"


RULES = (lengths, names, mirrors, limits, words, swallowed, runbooks)


def main() -> int:
    breaches = [b for rule in RULES for b in rule()]
    for breach in breaches:
        print(breach)
    print(f"tidy: {len(breaches)} breaches" if breaches else "tidy: the house is in order")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
