"""The node of the bench `hostility`: the peer service and listener of a node as the daemon runs them, in a process of its own. Transactions
are judged by their first bytes, requests answered with a few bytes; there is no store and no QRNG server behind it.

Says on standard output where it is, and ends with its input.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from support.peers_town import town

from qnode.service.gossip import Verdict
from qustream.aio.logs import configure_logs
from qustream.wire.gossip import Topic

# The node, who speaks and who hears, and the licences of the attackers.
LICENCES = 80


def judge(body: bytes, _peer: bytes) -> Verdict:
    return {b"old": Verdict.USELESS, b"bad": Verdict.BAD}.get(body[:3], Verdict.GOOD)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with town(Path(folder), LICENCES) as made:
            node = made.nodes[0]
            node.judges[Topic.TRANSACTION] = judge
            await node.start()
            print(json.dumps({"address": node.listen, "id": node.id.hex()}), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            made.nursery.cancel_scope.cancel()


if __name__ == "__main__":
    configure_logs("info")
    trio.run(main)
