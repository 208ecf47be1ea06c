"""A node whose disk is full: at its start, and while it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.node import QNode, until

pytestmark = pytest.mark.e2e
NOBODY = ("127.0.0.1:1", bytes(32))
MIB = 1 << 20


def test_a_disk_that_takes_nothing_is_named_at_the_start(tmp_path: Path) -> None:
    node = QNode(tmp_path / "qnode", others=[NOBODY])
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", node.program, "run", "--config", node.config],
        env=node.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert done.stderr.splitlines()[-1].startswith("qnode: E-DISK-FULL: ")
    assert "Traceback" not in done.stderr
    with node.running():  # what was left behind does not stop the next start
        assert node.page("/livez")[0] == 200


@pytest.mark.needs("mount")
def test_a_disk_that_fills_up_stops_new_keys_and_nothing_else(tmp_path: Path) -> None:
    node = QNode(tmp_path / "qnode", others=[NOBODY])
    # 80 MiB, of which the store keeps the last 64 for erasures.
    node.command_line = [
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=80m none {node.data_dir} && touch {node.data_dir}/first-start && exec "$@"',
        "-",
    ]
    with node.running():
        assert node.process is not None
        inside = Path(f"/proc/{node.process.pid}/root{node.data_dir}")
        assert not node.status().ready  # no randomness, but the disk is in order
        assert "E-DISK-FULL" not in {c.code for c in node.status().conditions}
        (inside / "filler").write_bytes(bytes(40 * MIB))
        snapshot = node.until(lambda status: any(c.code == "E-DISK-FULL" for c in status.conditions))
        [full] = [c for c in snapshot.conditions if c.code == "E-DISK-FULL"]
        assert full.stops
        assert "MiB are free" in full.detail
        (inside / "filler").unlink()
        node.until(lambda status: all(c.code != "E-DISK-FULL" for c in status.conditions))
        until(lambda: node.page("/livez")[0] == 200)
    lines = [line for line in node.log() if line.get("code") == "E-DISK-FULL"]
    assert len(lines) <= 1  # said once, not once a second
