"""Shared by all tests: the list of tests that need more than Python and loopback, checked against `tests/conditional.toml`."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from support.debian import program
from support.lan import namespace
from support.schedule import Schedule

from qustream.identity import keystore

# No test asserts on time: how long an example takes says more about the machine than about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# The cheapest keystores there are, in this process: what they cost is tested with them, and everywhere else it is only time.
keystore.MEMORY_KIB, keystore.OPERATIONS = 8, 1

LIST = Path(__file__).parent / "conditional.toml"

# What a test may need, and how to tell that it is here.
NEEDS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "mount": lambda: subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0,
    "hwrng": lambda: os.access("/dev/hwrng", os.R_OK),
    "strace": lambda: shutil.which("strace") is not None,
    "systemd-analyze": lambda: shutil.which("systemd-analyze") is not None,
    "mdwe": lambda: ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) >= 0,  # PR_GET_MDWE, Linux 6.3
    "sp800-90b": lambda: importlib.util.find_spec("sp800_90b") is not None,
    "ent": lambda: shutil.which("ent") is not None,
    "rngtest": lambda: shutil.which("rngtest") is not None,
    "gcc": lambda: shutil.which("gcc") is not None,
    "promtool": lambda: program("promtool") is not None,
    "prometheus": lambda: program("prometheus") is not None,
    "alertmanager": lambda: program("alertmanager") is not None,
    "netns": namespace.possible,
    "nft": lambda: namespace.kernel_takes("nft", "-f", "-", text="table inet probe {\n}\n"),
    "tbf": lambda: namespace.kernel_takes(
        "tc", "qdisc", "add", "dev", "lo", "root", "tbf", *("rate", "1mbit", "burst", "3000", "limit", "9000")
    ),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name, ...): what this machine must have; listed in tests/conditional.toml")
    # Whoever runs the suite in the background has SIGINT ignored, and all programs the tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule | None:
    return Schedule(config, log) if config.getoption("dist") == "loadfile" else None


@cache
def is_here(need: str) -> bool:
    return NEEDS[need]()


def pytest_collection_finish() -> None:
    """What ten thousand tests are made of stays until the end: no collection of garbage has to look through it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    listed = tomllib.loads(LIST.read_text())["test"] if LIST.exists() else {}
    found: set[str] = set()
    _require_found(config, items)
    for item in items:
        wants = [str(n) for mark in item.iter_markers("needs") for n in mark.args]
        if not wants:
            continue
        name = f"{Path(str(item.path)).relative_to(LIST.parent)}::{getattr(item, 'originalname', item.name)}"
        found.add(name)
        if sorted(listed.get(name, {}).get("needs", [])) != sorted(wants):
            _disagree(config, f"{name} needs {wants}, but tests/conditional.toml does not say so")
        missing = [w for w in wants if not is_here(w)]
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}: {listed[name]['reason']}"))
    whole = not config.getoption("keyword") and len(config.args) == 1 and Path(config.args[0]).name == "tests"
    gone = set(listed) - found
    if whole and gone:
        _disagree(config, f"tests/conditional.toml lists tests that are gone: {sorted(gone)}")


def _require_found(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`scripts/test` collects only files with this text for its end-to-end part: one that is marked otherwise would never be run."""
    text = "mark.e2e"
    for path in {item.path for item in items if item.get_closest_marker("e2e")}:
        if text not in path.read_text():
            _disagree(config, f"{path.name} has end-to-end tests and nowhere the text {text}: scripts/test would not run them")


def _disagree(config: pytest.Config, what: str) -> NoReturn:
    """End the run. A worker of pytest-xdist, which collects everything as well, would take its reason along: it says it first."""
    if hasattr(config, "workerinput"):
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(what, file=sys.stderr)
    raise pytest.UsageError(what)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    # A skip that the list does not know is a hole in the suite: it fails.
    if report.skipped and not any(item.iter_markers("needs")):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped without standing in tests/conditional.toml"
