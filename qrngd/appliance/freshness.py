"""No block twice: an answer out of a cache, or one recorded and played again, has perfect statistics and no entropy at all."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence

from qustream.errors import fault

__all__ = ["BlockMemory"]

# Sixteen megabytes of the usual blocks, in three megabytes of memory: caches of the web keep an answer for seconds to minutes.
REMEMBERED_BLOCKS = 16_384
# 128 bits of a hash: of honest blocks no two ever agree.
DIGEST_BYTES = 16


class BlockMemory:
    """Hashes of the last blocks; never the blocks."""

    def __init__(self, capacity: int = REMEMBERED_BLOCKS) -> None:
        self._order: deque[bytes] = deque()
        self._known: set[bytes] = set()
        self._capacity = capacity

    def admit(self, blocks: Sequence[bytes]) -> None:
        """Remember these. Raises E-APPLIANCE-ANSWER, naming the first that was seen before, here or among themselves; those before it count
        as seen then."""
        for number, block in enumerate(blocks):
            digest = hashlib.sha256(block).digest()[:DIGEST_BYTES]
            if digest in self._known:
                raise fault("E-APPLIANCE-ANSWER", f"block {number} was delivered before: the answer comes from a cache or is played again")
            self._known.add(digest)
            self._order.append(digest)
            if len(self._order) > self._capacity:
                self._known.discard(self._order.popleft())
