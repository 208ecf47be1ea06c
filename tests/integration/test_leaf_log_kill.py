"""kill -9 while a leaf log is written, and a disk that fills up: what was acknowledged stays, and the log goes on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import support.leaf_log_child as child
from support.leaf_logs import CHAIN, Writer

from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.source import DirectorySource

WRITER = Writer()
ROUNDS = 12
KEEP_ALL = 1 << 30


def started(folder: Path, *, before: Sequence[str] = (), keep_bytes: int = KEEP_ALL) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(child.__file__).parents[1])}
    command = [*before, sys.executable, child.__file__, str(folder), str(keep_bytes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def audited(folder: Path) -> AuditedLog:
    (log,) = audit([DirectorySource(folder)], chain=CHAIN, server_of={WRITER.key.id: WRITER.record}.get)
    return log


def test_what_was_acknowledged_is_in_the_log_whenever_the_writer_dies(tmp_path: Path) -> None:
    chance, acknowledged = random.Random(3), -1
    for _ in range(ROUNDS):
        with started(tmp_path) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 60)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read()
        # A line may have left just before the end; one that is cut says nothing.
        said = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(said[-1]) if said else acknowledged
        log = audited(tmp_path)
        assert log.last_batch in (acknowledged, acknowledged + 1), "one that was written and not yet said"
        assert log.entries == log.last_batch + 1
    assert log.last_segment > 0
    assert log.leaves == log.entries * child.UNITS


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the write that goes over it is cut short, then refused."""
    with started(tmp_path, before=["bash", "-c", 'ulimit -f 100; exec "$@"', "-"]) as process:
        said = process.stdout.read().split() if process.stdout else []
    assert said[-1] in ("E-FILE", "E-DISK-FULL")
    assert len(said) > 5
    log = audited(tmp_path)
    assert (log.last_batch, log.torn_bytes) == (int(said[-2]), 0)
    with started(tmp_path) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == log.last_batch + 1
        process.kill()


@pytest.mark.needs("mount")
def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    script = f'mount -t tmpfs -o size=300k none {small} && "$@" && cp -a {small}/leaves {kept}'
    with started(small / "leaves", before=["unshare", "-m", "sh", "-c", script, "-"]) as process:
        said = process.stdout.read().split() if process.stdout else []
    assert said[-1] == "E-DISK-FULL"
    assert len(said) > 5
    log = audited(kept)
    assert (log.last_batch, log.torn_bytes) == (int(said[-2]), 0)
    with started(kept) as process:  # on a disk with room it goes on
        assert process.stdout is not None
        assert int(process.stdout.readline()) == log.last_batch + 1
        process.kill()
