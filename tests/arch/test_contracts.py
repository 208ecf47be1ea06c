"""The import contracts are as strict as they read: each of these lines, put where it does not belong, is found (`proto/spec/house.md`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"qustream": Path("proto/qustream"), "qrngd": Path("qrngd"), "qnode": Path("qnode")}

# (module, what it must not import): one line each, in modules that exist.
BREACHES = [
    # Pure rooms wait for nothing, remember nothing, draw nothing.
    ("qustream.errors", "time"),
    ("qustream.model.base", "os"),
    ("qustream.rules.merkle", "random"),
    ("qustream.wire.codec", "logging"),
    ("qustream.block.bits", "secrets"),
    ("qustream.entropy.batch", "datetime"),
    ("qustream.sharing", "threading"),
    ("qrngd.health.state", "time"),
    ("qrngd.conditioning.ledger", "socket"),
    ("qrngd.alerts.core", "time"),
    ("qrngd.alerts.outbox", "trio"),
    ("qrngd.alerts.conditions", "qustream.aio.logs"),
    ("qnode.core.delivery", "uuid"),
    ("qnode.core.delivery_checks", "trio"),
    # They hold no key, and share nouns and rules.
    ("qnode.core.delivery_alerts", "qustream.identity.signing"),
    ("qrngd.health.verdict", "qustream.settings"),
    ("qustream.rules.ruid", "qustream.wire.codec"),
    ("qustream.model.ids", "qustream.sharing"),
    # Layers run one way.
    ("qnode.core.delivery", "qnode.store.slots"),
    ("qnode.core.delivery", "qnode.config"),
    ("qnode.store.slots", "qnode.service.counts"),
    ("qnode.store.vault", "qnode.api.status"),
    ("qnode.api.pages", "qnode.config"),
    ("qnode.config", "qnode.service.counts"),
    ("qnode.service.counts", "qnode.daemon"),
    ("qrngd.health.rows", "qrngd.pipeline"),
    ("qrngd.stock", "qrngd.status"),
    ("qrngd.feed.credit", "qrngd.cutter"),
    ("qrngd.leaflog.log", "qrngd.feed.batch"),
    ("qrngd.config", "qrngd.daemon"),
    ("qrngd.appliance.reader", "qrngd.config"),
    ("qrngd.alerts.pusher", "qrngd.daemon"),
    ("qrngd.daemon", "qrngd.alerts.core"),
    ("qustream.wire.hello", "qustream.identity.files"),
    ("qustream.identity.files", "qustream.transport.address"),
    ("qustream.envelope.keys", "qustream.client.idle"),
    ("qustream.client.idle", "qustream.aio.deadline"),
    ("qustream.client.plan", "qustream.leaflog.audit"),
    ("qustream.leaflog.segment", "qustream.client.plan"),
    ("qustream.registry.view", "qustream.leaflog.segment"),
    ("qustream.cli.screen", "qustream.aio.deadline"),
    # Who may know whom.
    ("qrngd.bell", "qnode.service.counts"),
    ("qnode.service.counts", "qrngd.bell"),
    ("qustream.settings", "qnode.config"),
    ("qustream.settings", "qrngd.config"),
    # What comes from outside has its rooms.
    ("qnode.daemon", "lmdb"),
    ("qrngd.stock", "lmdb"),
    ("qustream.registry.view", "lmdb"),
    ("qrngd.daemon", "cryptography"),
    ("qrngd.feed.batch", "nacl"),
    ("qnode.store.vault", "nacl"),
    ("qustream.settings", "OpenSSL"),
    ("qustream.block.segment", "cryptography"),
    ("qustream", "nacl"),
    ("qustream.client.flows", "trio"),
    ("qustream.leaflog.source", "trio"),
    ("qustream", "trio"),
    ("qustream.transport.engine", "asyncio"),
    ("qustream.settings", "structlog"),
    ("qustream.client.plan", "numpy"),
]


def file_of(tree: Path, module: str) -> Path:
    package, *rest = module.split(".")
    path = tree.joinpath(FOLDERS[package], *rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def checked(tree: Path) -> str:
    """What import-linter says of the copy at `tree`."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"],
        cwd=tree, env={**os.environ, "PYTHONPATH": f"{tree / 'proto'}:{tree}", "COLUMNS": "400"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources and their contracts, to be spoiled."""
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_line_in_the_wrong_room_is_found(tree: Path) -> None:
    for module, imported in BREACHES:
        path = file_of(tree, module)
        path.write_text(f"{path.read_text()}\nimport {imported}\n")
    said = checked(tree)
    missed = [(module, imported) for module, imported in BREACHES if f"{module} -> {imported} (l" not in said]
    assert missed == []


def test_a_room_that_nobody_placed_is_found_and_held_to_the_rules_all_the_same(tree: Path) -> None:
    for package in FOLDERS:
        file_of(tree, package).with_name("annex.py").write_text("import cryptography\nimport lmdb\n")
    (tree / "qnode/core/annex.py").write_text("import time\n")
    said = checked(tree)
    for package in FOLDERS:
        assert f"- {package}.annex" in said
        assert f"{package}.annex -> cryptography (l.1)" in said
        assert f"{package}.annex -> lmdb (l.2)" in said
    assert "qnode.core.annex -> time (l.1)" in said


def test_the_sources_keep_every_contract(tree: Path) -> None:
    said = checked(tree)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in said
