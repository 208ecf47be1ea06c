"""kill -9 at random points: what was said to be final, kept or signed is there, and state and progress belong together."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import support.chain_child as child

ROUNDS = 20
TESTS = Path(child.__file__).parents[1]


class Process:
    """One life of the child."""

    def __init__(self, directory: Path, *more: str, before: tuple[str, ...] = ()) -> None:
        command = [*before, sys.executable, child.__file__, str(directory), *more]
        environment = os.environ | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        self._stream = self._process.stdout

    def hear(self) -> list | None:
        """What it says next, in full; None when there is no more."""
        line = self._stream.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> str:
        """What it wrote of trouble."""
        self._process.kill()
        _, trouble = self._process.communicate(timeout=60)
        return trouble.decode()


class Witness:
    """Everything that was ever said, and whether what is found afterwards has it."""

    def __init__(self) -> None:
        self.final: dict[int, str] = {}
        self.roots: dict[int, str] = {}
        self.signed = 0

    def hear(self, what: str, *said) -> None:
        if what == "opened":
            height, digest, executed, root, signed = said
            assert height >= max(self.final, default=0), "a final block is gone"
            assert executed >= max(self.roots, default=0), "an executed block is gone"
            assert signed >= self.signed, "what was signed is forgotten"
            assert self.final.setdefault(height, digest) == digest
            assert self.roots.setdefault(executed, root) == root
        elif what == "final":
            assert self.final.setdefault(said[0], said[1]) == said[1], "another block of that height"
        elif what == "executed":
            assert self.roots.setdefault(said[0], said[1]) == said[1], "another state after that block"
        elif what == "signed":
            self.signed = max(self.signed, said[0])


def live(process: Process, witness: Witness, messages: int) -> int:
    """Hear that many messages, kill it, and hear what left it before."""
    heard = 0
    while heard < messages and (said := process.hear()) is not None:
        witness.hear(*said)
        heard += 1
    process.kill()
    while (said := process.hear()) is not None:
        witness.hear(*said)
        heard += 1
    trouble = process.end()
    assert not trouble, trouble
    return heard


def test_kill_9(tmp_path):
    chance = random.Random(2026)  # the points of death are the clock's all the same
    witness = Witness()
    for _ in range(ROUNDS):
        assert live(Process(tmp_path), witness, chance.randrange(1, 40)) > 0
    last = Process(tmp_path)
    witness.hear(*(last.hear() or pytest.fail(last.end())))
    last.end()
    assert max(witness.final) > ROUNDS * 2, "too few blocks to show anything"


@pytest.mark.needs("mount")
def test_a_disk_that_fills_up_in_the_middle_of_a_block(tmp_path):
    """On a file system of 12 MiB of its own: coded, nothing half done, and the same chain goes on when it has room."""
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    script = f'mount -t tmpfs -o size=12m none {small} && "$@" && cp -a {small} {kept}'
    witness = Witness()
    process = Process(small, "3000", before=("unshare", "-m", "sh", "-c", script, "-"))
    refused = []
    while (said := process.hear()) is not None:
        if said[0] == "refused":
            refused.append(said[1])
        else:
            witness.hear(*said)
    trouble = process.end()
    assert not trouble, trouble
    assert refused in (["E-DISK-FULL"], ["E-NODE-READONLY"])
    assert max(witness.final) >= 2
    live(Process(kept), witness, 20)
    assert max(witness.roots) > 3
