"""A process that fetches an object and may be killed meanwhile: `bulk_child.py FOLDER ADDRESS HOLDER OBJECT`, ids in hexadecimal.

Says `done BYTES` with how many bytes of pieces came in this life."""

from __future__ import annotations

import sys
from pathlib import Path

import trio
from support.bulk_pair import BulkNode

from qustream.identity.signing import SigningKey


async def fetch(folder: Path, address: str, holder: bytes, name: bytes) -> None:
    node, there = BulkNode(folder, key=SigningKey(b"f" * 32)), BulkNode(folder, key=SigningKey(b"h" * 32))
    there.address = address
    assert there.id == holder
    async with trio.open_nursery() as nursery:
        session = await node.connect(there, nursery)
        await node.bulk.fetch(name, node.store(), [session])
        print("done", node.bulk.count.bytes_in, flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(fetch, Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3]), bytes.fromhex(sys.argv[4]))
