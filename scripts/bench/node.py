"""Bench `node`: what an idle node costs, and how long it takes to be ready.

A real QRNG server (the emulator) runs; each round starts the node daemon on the same data as a service manager would, takes the time from
the start of its process until `/readyz` says 200, waits until its pool is full, leaves it alone for `NODE_IDLE_S` seconds, and reads
CPU time and resident memory from /proc. The last row is the same node with 64 devices connected that ask for nothing. There is no
other side; targets are absolute. The keystore has the parameters `qnode init` gives it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from report import emit, plain

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.node import PASSPHRASE, QNode  # noqa: E402
from support.qrng_server import CHAIN, Server  # noqa: E402

from qnode.cli.options import KEYSTORE_KIND  # noqa: E402
from qustream.identity import keystore  # noqa: E402
from qustream.identity.signing import SigningKey  # noqa: E402
from qustream.transport.blocking import connect  # noqa: E402
from qustream.transport.greeting import LocalHello  # noqa: E402
from qustream.wire.hello import Role  # noqa: E402

ROUNDS = int(os.environ.get("NODE_ROUNDS", "5"))
IDLE_S = float(os.environ.get("NODE_IDLE_S", "10"))
DEVICES = 64  # as many as one address may have by default
STATUS = "127.8.0.9:17480"
KEY = SigningKey(b"n" * 32)
# As in the systemd unit: freed 256 KiB buffers are kept for the next message.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def is_ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://{STATUS}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mb(pid: int) -> float:
    """Resident memory in MB of 10^6 bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def one_round(node: QNode) -> tuple[float, float, float, float]:
    """Seconds until ready, resident MB idle, CPU per cent idle, resident MB with the devices connected."""
    began = time.perf_counter()
    node.start(**MALLOC)
    while not is_ready():
        time.sleep(0.002)
    ready_s = time.perf_counter() - began
    assert node.process is not None
    node.until(lambda status: status.pool.units == status.pool.capacity)
    time.sleep(1)  # what starting leaves behind (the last commits, freed memory) is not what idling costs
    before = cpu_s(node.process.pid)
    time.sleep(IDLE_S)
    busy = 100 * (cpu_s(node.process.pid) - before) / IDLE_S
    idle_mb = resident_mb(node.process.pid)
    with ExitStack() as open_connections:
        hello = LocalHello(CHAIN, (Role.DEVICE,))
        for _ in range(DEVICES):
            open_connections.enter_context(connect(node.addresses[0], key=KEY, hello=hello, expect=node.key.id))
        connected_mb = resident_mb(node.process.pid)
    node.stop()
    return ready_s, idle_mb, busy, connected_mb


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "qrngd").mkdir()
        node_key = SigningKey(os.urandom(32))
        with Server(Path(folder) / "qrngd", allow=[node_key]).running() as server:
            node = QNode(Path(folder) / "qnode", [server], key=node_key, status_listen=STATUS, held_blocks=4096)
            (node.folder / "node.keystore").unlink()
            keystore.write(node.folder / "node.keystore", KEYSTORE_KIND, node_key.seed, PASSPHRASE)
            figures = [one_round(node) for _ in range(ROUNDS)]
    ready_s, idle_mb, busy, connected_mb = zip(*figures, strict=True)
    rows = [
        plain("ready", ready_s, unit="s", at_most=2),
        plain("resident, idle", idle_mb, unit="MB", at_most=90),
        plain("CPU, idle", busy, unit="%", at_most=1),
        plain(f"resident, {DEVICES} idle devices connected", connected_mb, unit="MB"),
    ]
    emit("node", rows, ROUNDS)


if __name__ == "__main__":
    main()
