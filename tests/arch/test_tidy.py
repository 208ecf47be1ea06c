"""`scripts/tidy.py` finds each breach it promises to find, and nothing in a tree that keeps the rules."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/tidy.py"
ERRORS = """CODES = {
    "E-ONE": CodeRow(_O, "x", "y"),
    "E-TWO": CodeRow(
        _U, "x", "y"
    ),
    "E-THREE": CodeRow(_P, "x", "y"),
}
"""


@pytest.fixture
def tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, looking at a small tree in order."""
    spec = importlib.util.spec_from_file_location("tidy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "WORDS_EXEMPT", set())
    for name, text in {
        "proto/qustream/errors.py": ERRORS,
        "qrngd/stock.py": "# Ten fit.\nUNITS_MAX = 10\nUNITS_MIN = 1\n\nLONG_MS = 5  # why\n",
        "qnode/core/delivery.py": "def step(a, b, c, d, e, *, f): pass\n",
        "tests/unit/qnode/core/test_delivery.py": "",
        "tests/unit/qnode/core/test_delivery_kill.py": "",
        "tests/unit/qnode/test_core.py": "",
        "proto/spec/house.md": "TO" + "DO may stand in prose\n",
        "deploy/runbooks/E-ONE.md": "",
        "deploy/runbooks/E-TWO.md": "",
        "README.md": "",
    }.items():
        put(tmp_path, name, text)
    return module


def put(tree: Path, name: str, text: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(tidy: ModuleType) -> list[str]:
    rules: tuple[Callable[[], Iterator[str]], ...] = tidy.RULES
    return [breach for rule in rules for breach in rule()]


def function(lines: int, *, doc: bool = False) -> str:
    return "def f():\n" + ('    """Doc."""\n' if doc else "") + "    x = 1\n" * lines


def test_a_tree_that_keeps_the_rules_has_no_breach(tidy: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(tidy) == []
    assert tidy.main() == 0
    assert capsys.readouterr().out == "tidy: the house is in order\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("qnode/a.py", function(51), "qnode/a.py:1: f has 51 lines, better at most 50"),
        ("qnode/a.py", function(71), "qnode/a.py:1: f has 71 lines, at most 70"),
        ("tests/a.py", "class A:\n    async " + function(71).replace("\n", "\n    "), "tests/a.py:2: f has 71 lines, at most 70"),
        ("scripts/a.py", "x = 1\n" * 401, "scripts/a.py: 401 lines, better at most 400"),
        ("tests/a.py", "x = 1\n" * 501, "tests/a.py: 501 lines, at most 500"),
        ("qrngd/a.py", "def f(self, a, b, c, d, e, /, g): pass\n", "qrngd/a.py:1: f takes 6 positional parameters, at most 5"),
        ("qnode/utils.py", "", "qnode/utils.py: a module named utils: the model lacks a noun"),
        ("tests/helpers/a.py", "", "tests/helpers/a.py: a module named helpers: the model lacks a noun"),
        ("notes.txt", "", "notes.txt: not one of the agreed top-level names"),
        ("tests/unit/qnode/core/test_gone.py", "", "tests/unit/qnode/core/test_gone.py: no source qnode/core/gone.py it could mirror"),
        ("tests/unit/qustream/test_gone.py", "", "tests/unit/qustream/test_gone.py: no source proto/qustream/gone.py it could mirror"),
        ("qnode/a.py", "ROOM_MAX = 1 << 20\n", "qnode/a.py:1: ROOM_MAX is a limit without a why"),
        ("qnode/a.py", "# Of another.\nA = 1\n\nWAIT_MS: int = 5\n", "qnode/a.py:4: WAIT_MS is a limit without a why"),
        ("qnode/a.py", "x = 1  # TO" + "DO\n", "qnode/a.py:1: x = 1  # TO" + "DO"),
        ("scripts/a.py", "raise Not" + "ImplementedError\n", "scripts/a.py:1: raise Not" + "ImplementedError"),
        ("tests/a.py", "@pytest.mark" + ".skip\ndef f(): f()\n", "tests/a.py:1: @pytest.mark" + ".skip"),
        ("proto/spec/a.md", "see /wo" + "rk/main\n", "proto/spec/a.md:1: see /wo" + "rk/main"),
        ("deploy/systemd/a.service", "\nExecStart=/fa" + "rm/x\n", "deploy/systemd/a.service:2: ExecStart=/fa" + "rm/x"),
        ("qnode/a.py", "try:\n    f()\nexcept Exception:\n    pass\n", "qnode/a.py:3: catches everything and says nothing"),
        ("tests/a.py", "try:\n    f()\nexcept:\n    pass\n", "tests/a.py:3: catches everything and says nothing"),
        ("qnode/a.py", "for x in y:\n    try:\n        f()\n    except (OSError, Exception):\n        continue\n", "qnode/a.py:4: catches"),
        ("qnode/a.py", "with contextlib.suppress(BaseException):\n    f()\n", "qnode/a.py:1: catches everything and says nothing"),
        ("deploy/runbooks/E-GONE.md", "", "deploy/runbooks/E-GONE.md: no such code"),
        ("proto/qustream/errors.py", ERRORS.replace("E-TWO", "E-NEW"), "deploy/runbooks/E-NEW.md is missing"),
    ],
)  # fmt: skip
def test_a_breach_is_found(tidy: ModuleType, tmp_path: Path, name: str, text: str, said: str) -> None:
    put(tmp_path, name, text)
    assert any(breach.startswith(said) for breach in found(tidy)), found(tidy)
    assert tidy.main() == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qnode/a.py", function(50, doc=True)),
        ("tests/a.py", "x = 1\n" * 500),
        ("tests/a.py", "def f(a, b, c, d, e, f): pass\n"),
        ("qnode/a.py", "ROOM_MAX = OTHER * 2\nNAMES_MAX = ('a',)\nroom_max = 5\n"),
        ("qnode/a.py", "try:\n    f()\nexcept Exception:\n    raise Other from None\n"),
        ("qnode/a.py", "try:\n    f()\nexcept OSError:\n    pass\n"),
        ("qnode/a.py", "with contextlib.suppress(FileNotFoundError):\n    f()\n"),
    ],
)
def test_what_is_allowed_is_not_found(tidy: ModuleType, tmp_path: Path, name: str, text: str) -> None:
    put(tmp_path, name, text)
    assert found(tidy) == []
