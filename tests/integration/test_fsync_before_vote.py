"""The kernel's own witness: a validator's sign-state is on the disk before what it allows is said (`proto/spec/consensus.md` §2)."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
from support.chain_circle import ChainCircle

pytestmark = [pytest.mark.e2e, pytest.mark.needs("strace", "root")]

CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,write"
# Putting the new sign-state in place of the old takes this long: whatever were said before it is there would be said in this time.
SLOW_US = 40_000
CALL = re.compile(r"^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed)")
SENT = re.compile(r"= (\d+)$")
# A vote is a signature of 2,420 bytes and a few more, and nothing else that a validator says while nobody asks it is as large.
VOTE_BYTES = 2_420
ROUNDS = 12


def test_what_is_signed_is_on_the_disk_before_it_is_said(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with ChainCircle(tmp_path, 4) as circle:
        circle.start()
        circle.until_height(3)
        watched = circle.nodes[0]
        assert watched.process is not None
        with subprocess.Popen(
            ["strace", "-f", "-s", "200", "-e", CALLS, "-e", f"inject=rename,renameat,renameat2:delay_enter={SLOW_US}", "-o", trace,
             "-p", str(watched.process.pid)],
            stderr=subprocess.PIPE, text=True,
        ) as strace:  # fmt: skip
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            others = circle.nodes[1:]  # whoever asks the watched one for pages would be answered as largely
            circle.until_height(others[0].height + 9, others)
            strace.send_signal(signal.SIGINT)
    renames, votes = _looked_through(trace.read_text().splitlines())
    assert renames >= ROUNDS, "the sign-state was not written"
    assert votes >= ROUNDS, "no votes were seen"


def _looked_through(lines: list[str]) -> tuple[int, int]:
    """How often the sign-state was put in place, and how many votes left; nothing leaves while it is not there yet, and it is synced when
    it comes."""
    renames = votes = since = 0
    under_way, synced = set[str](), set[str]()  # by task
    for line in lines:
        found = CALL.match(line)
        if found is None:
            continue
        task, call, is_over = found[1], found[2] or found[3], "<unfinished" not in line
        if call in ("fsync", "fdatasync") and is_over:
            synced.add(task)
        elif call.startswith("rename"):
            if "sign-state" in line:
                assert task in synced, f"put in place without having been synced: {line}"
                under_way.add(task)
            if is_over and task in under_way:
                under_way.remove(task)
                synced.remove(task)
                since, renames = 0, renames + 1
        elif (
            call in ("sendto", "sendmsg", "write")
            and is_over
            and (size := SENT.search(line))
            and VOTE_BYTES <= int(size[1]) < 2 * VOTE_BYTES
        ):
            assert not under_way, f"said before it was on the disk: {line}"
            votes, since = votes + 1, since + 1
            # Two statements at most are put down together, and go to three others.
            assert since <= 6 or not renames, "more is said than was put down"
    return renames, votes
