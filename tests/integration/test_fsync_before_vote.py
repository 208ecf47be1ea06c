"""The kernel's own witness: a validator's sign-state is on the disk before what it allows is said (`proto/spec/consensus.md` §2)."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chain_circle import ChainCircle, ChainNodeProcess

pytestmark = [pytest.mark.e2e, pytest.mark.needs("strace", "root")]

CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,write"
# Syncing the new sign-state takes this long, so that what was said before has left; putting it in place of the old takes longer: whatever
# were said before it is there would be said in this time.
SYNC_US, SLOW_US = 20_000, 40_000
DELAYS = (f"inject=fsync:delay_enter={SYNC_US}", f"inject=rename,renameat,renameat2:delay_enter={SLOW_US}")
CALL = re.compile(r"^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed)")
SENT = re.compile(r"= (\d+)$")
STATE, UNDER_TLS = '"qnode-votes-v1', r'"\27\3\3'  # what a sign-state begins with, and what is said to a peer
# A vote is a signature of 2,420 bytes and a few more, and nothing else that a validator says while nobody asks it is as large.
VOTE_BYTES = 2_420
ROUNDS = 12
STATEMENTS = 2  # at most are put down together


def signed(node: ChainNodeProcess) -> int:
    voting = node.ledger.voting
    assert voting is not None
    return voting.signed


def test_what_is_signed_is_on_the_disk_before_it_is_said(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with ChainCircle(tmp_path, 4) as circle:
        circle.start()
        circle.until_height(3)
        watched = circle.nodes[0]
        assert watched.process is not None
        with subprocess.Popen(
            ["strace", "-f", "-s", "200", "-e", CALLS, "-e", DELAYS[0], "-e", DELAYS[1], "-o", trace, "-p", str(watched.process.pid)],
            stderr=subprocess.PIPE, text=True,
        ) as strace:  # fmt: skip
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            before = signed(watched)
            circle.until(lambda node: signed(node) - before >= STATEMENTS * (ROUNDS + 1), [watched])
            new = signed(watched) - before
            strace.send_signal(signal.SIGINT)
    saves, votes = _looked_through(trace.read_text().splitlines())
    assert saves >= ROUNDS, "the sign-state was not written"
    assert votes >= ROUNDS, "no votes were seen"
    assert new <= STATEMENTS * (saves + 1), "more is signed than was put down"


def _looked_through(lines: list[str]) -> tuple[int, int]:
    """How often the sign-state was put in place, and how many votes left; nothing leaves while it is not there yet, and it is synced when
    it comes."""
    saves = votes = 0
    step: dict[str, str] = {}  # of what each task puts down; of what it had begun before it was watched there is nothing to say
    for task, call, text, is_over in _calls(lines):
        if call == "write" and STATE in text:
            step[task] = "written"
        elif call == "fsync" and is_over and task in step:
            if step[task] == "placed":  # this was the directory
                del step[task]
                saves += 1
            else:
                step[task] = "synced"
        elif call.startswith("rename") and "sign-state" in text and task in step:
            assert step[task] != "written", f"put in place without having been synced: {text}"
            step[task] = "placed"
        elif UNDER_TLS in text and is_over and (size := SENT.search(text)) and VOTE_BYTES <= int(size[1]) < 2 * VOTE_BYTES:
            assert "placed" not in step.values(), f"said before it was on the disk: {text}"
            votes += 1
    return saves, votes


def _calls(lines: list[str]) -> Iterator[tuple[str, str, str, bool]]:
    """Task, name and text of each call as it begins and as it is over, which may be one line; the end of another has its beginning too."""
    begun: dict[str, str] = {}
    for line in lines:
        found = CALL.match(line)
        if found is None:
            continue
        task, is_over = found[1], "<unfinished" not in line
        text = line if found[2] else begun.pop(task, "") + line
        if not is_over:
            begun[task] = line
        yield task, found[2] or found[3], text, is_over
