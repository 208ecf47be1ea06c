"""Who may have a feed on a chain: the active licensed nodes, by proofs of a light client (`proto/spec/entropy-feed.md`).

Nodes are asked in `refresh`, in a thread of its own; the event loop reads what came of it. A node that nobody has proven yet is refused,
and proven with the next `refresh`, a second later, if the chain's nodes list it: it comes again by itself. So strangers do not make this
server ask about whatever key they come with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from qustream.errors import QuStreamError
from qustream.identity import files
from qustream.identity.voting import verify_vote
from qustream.light.nodes import AskedNode, ChannelNodes
from qustream.light.registry import LightRegistry
from qustream.light.trust import Known
from qustream.wire.codec import decode, encode

__all__ = ["ChainAllowList", "open_chain"]

# What is proven is asked for again so often: a node that loses its licence loses its feed half a minute later.
PROVE_MS = 30_000
# Who is listed is asked for again so often, and at once for a node that comes and is not listed, but no more often than the second.
LIST_MS, LIST_AGAIN_MS = 300_000, 15_000
# A network of so few nodes is proven whole, before they come: sixteen questions.
WHOLE_MAX = 64
# Nodes that have come, and are proven again and again: as many as can be fed, and more than the network has.
WANTED_MAX = 8_192
# After a failure: nodes that are asked are let alone for so long.
AGAIN_MS = 5_000
KNOWN_FILE = "chain-known"
# A set of a hundred validators with its vote keys is 140 KB.
KNOWN_MAX_BYTES = 1 << 20


class ChainAllowList:
    """`registry`: of the chain; `only`: if it is not empty, nobody else may have a feed."""

    source = "chain"

    def __init__(self, registry: LightRegistry, only: frozenset[bytes] = frozenset()) -> None:
        self._registry, self._only = registry, only
        self._active: frozenset[bytes] = frozenset()
        self._claimed: frozenset[bytes] = frozenset()
        self._wanted: OrderedDict[bytes, None] = OrderedDict()
        self._new = False  # somebody came who is not proven yet
        self._listed_ms = self._proven_ms = self._rests_until_ms = 0
        self.trouble: QuStreamError | None = None

    def __contains__(self, node: bytes) -> bool:
        if self._only and node not in self._only:
            return False
        if node in self._active:
            return True
        self._new = True
        self._wanted[node] = None
        if len(self._wanted) > WANTED_MAX:
            self._wanted.popitem(last=False)
        return False

    def __len__(self) -> int:
        return len(self._active)

    @property
    def height(self) -> int:
        """Of the newest state of the chain that anything was proven in."""
        return self._registry.height

    def refresh(self, now_ms: int) -> bool:
        """Ask what is due. True if others may have a feed than before. Blocking."""
        is_due = now_ms - self._proven_ms >= PROVE_MS
        if now_ms < self._rests_until_ms or not (is_due or self._new):
            return False
        new, self._new = self._new, False
        try:
            if is_due:
                self._registry.refresh(now_ms)  # what was proven a while ago is proven anew
            self._list(now_ms, has_come=new)
            active = self._registry.active_among(self._asked())
        except QuStreamError as error:
            # Those who were active stay: a server that is cut off from the chain's nodes goes on, as with a network file that is not good.
            self.trouble, self._rests_until_ms, self._new = error, now_ms + AGAIN_MS, new
            return False
        self.trouble = None
        self._proven_ms = now_ms if is_due else self._proven_ms
        before, self._active = self._active, active
        return active != before

    def _list(self, now_ms: int, *, has_come: bool) -> None:
        """Whom nodes list, if that is due, or somebody has come whom they did not list a while ago."""
        age_ms = now_ms - self._listed_ms
        is_unlisted = has_come and any(node not in self._claimed for node in list(self._wanted))
        if age_ms >= LIST_MS or (is_unlisted and age_ms >= LIST_AGAIN_MS):
            self._registry.refresh(now_ms)  # or it would answer what it was told before
            self._claimed, self._listed_ms = self._registry.claimed(), now_ms

    def _asked(self) -> list[bytes]:
        """Of those who are listed: all, if they are few; else those who have come. Who is not listed is forgotten, and may come again."""
        for node in [node for node in list(self._wanted) if node not in self._claimed]:
            self._wanted.pop(node, None)
        listed = self._claimed if len(self._claimed) <= WHOLE_MAX else self._claimed & set(self._wanted)
        wanted = listed | self._active
        return sorted(wanted & self._only if self._only else wanted)


def open_chain(directory: Path, chain: str, pinned: bytes, nodes: Sequence[AskedNode], *, clock_ms: Callable[[], int]) -> LightRegistry:
    """The chain, as these nodes prove it; what is learnt of it is remembered in `directory`. Errors: `E-CHECKPOINT-OLD`, `E-FILE`."""
    path = directory / KNOWN_FILE
    known = decode(files.read(path, KNOWN_MAX_BYTES, private=False), Known, max_bytes=KNOWN_MAX_BYTES) if path.exists() else None
    return LightRegistry(
        chain, pinned, ChannelNodes(nodes, chain), verify=verify_vote, clock_ms=clock_ms, known=known,
        remember=lambda newest: files.replace(path, encode(newest)),
    )  # fmt: skip
