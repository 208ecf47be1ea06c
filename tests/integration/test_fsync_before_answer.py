"""The kernel's own witness: a node syncs its disk before an answer leaves (`proto/spec/delivery.md` §5)."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
from support.network import Network

pytestmark = [pytest.mark.e2e, pytest.mark.needs("strace", "root")]

SYNC = re.compile(r"(fdatasync|fsync|msync)\(|<\.\.\. (fdatasync|fsync|msync) resumed")
# An answer is 262,504 bytes of block and its proofs; nothing else a node sends is nearly as large.
SENT = re.compile(r"(?:sendto|sendmsg|write)\(.*= (\d+)$|<\.\.\. (?:sendto|sendmsg|write) resumed.*= (\d+)$")
ANSWER_BYTES = 262_504


def test_the_disk_is_synced_before_an_answer_leaves(network: Network, tmp_path: Path) -> None:
    frank = network.user("frank")
    trace = tmp_path / "trace"
    number = (network.directory / "node1.pid").read_text().split()[0]
    with subprocess.Popen(
        ["strace", "-f", "-s", "0", "-e", "trace=fdatasync,fsync,msync,sendto,sendmsg,write", "-o", trace, "-p", number],
        stderr=subprocess.PIPE,
        text=True,
    ) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        (tmp_path / "letter").write_bytes(b"x")
        done = frank("encrypt", tmp_path / "letter", "--to", frank.id)
        strace.send_signal(signal.SIGINT)
    assert done.code == 0, done.err
    syncs = sent = 0
    for line in trace.read_text().splitlines():
        if SYNC.search(line) and line.endswith("= 0"):
            syncs += 1
        elif match := SENT.search(line):
            sent += int(match[1] or match[2])
            if sent > ANSWER_BYTES // 2:
                break
    assert sent > ANSWER_BYTES // 2, "the answer was not seen"
    # The slot file's, the pages' and the current page's: two at the least, whatever LMDB merges.
    assert syncs >= 2
