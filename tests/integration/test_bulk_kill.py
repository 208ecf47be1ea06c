"""kill -9 in the middle of a fetch: the next life goes on with what is on the disk, and asks for no more than what is missing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from support.bulk_pair import BulkNode, Hooked, listening, made_object

from qustream.identity.signing import SigningKey
from qustream.wire.bulk import PIECE_BYTES

pytestmark = pytest.mark.e2e
CHILD = Path(__file__).resolve().parents[1] / "support" / "bulk_child.py"
PIECES = 40
KILLS = 4


async def test_killed_again_and_again_it_comes_whole_and_nearly_once(tmp_path: Path) -> None:
    thing = made_object(tmp_path, PIECES * PIECE_BYTES)
    holder = BulkNode(tmp_path / "holder", key=SigningKey(b"h" * 32))
    chance = random.Random(7)
    child: trio.Process | None = None
    kill_at = [8]

    def maybe_kill(served: int) -> None:
        if child is not None and len(kill_at) <= KILLS and served >= kill_at[-1]:
            kill_at.append(served + chance.randrange(4, 12))
            child.kill()

    hooked = Hooked(thing, maybe_kill)
    holder.bulk.offer(hooked)
    environment = dict(os.environ, PYTHONPATH=str(CHILD.parents[1]))
    lives, said = 0, b""
    async with listening([holder]):
        while not said:
            lives += 1
            assert lives <= KILLS + 2
            command = [sys.executable, str(CHILD), str(tmp_path / "child"), holder.address, holder.id.hex(), thing.id.hex()]
            child = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=environment)
            assert child.stdout is not None
            with trio.fail_after(60):
                async with child.stdout:
                    said = b"".join([chunk async for chunk in child.stdout])
                await child.wait()
    assert len(kill_at) == KILLS + 1
    assert lives == KILLS + 1
    path = tmp_path / "child" / "bulk" / f"{thing.id.hex()}.object"
    assert path.read_bytes() == b"".join(thing.read(0, PIECES))
    assert hooked.served <= PIECES + KILLS * 13  # at most a window, and the ask that brought the kill, is lost each time
    assert int(said.split()[1]) < PIECES * PIECE_BYTES
