"""When a node may be dialled again (`proto/spec/peers.md`, §5)."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from qnode.core.chance import Chance
from qnode.core.peers_events import Purpose
from qnode.core.peers_limits import (
    BACKOFF_ALONE_MAX_MS,
    BACKOFF_DUE_MAX_MS,
    BACKOFF_FIRST_MS,
    BACKOFF_MAX_MS,
    CUT_FAILURES,
    FEELER_AGAIN_MS,
)

__all__ = ["Attempt", "Attempts"]

# Doublings until the longest back-off.
_DOUBLINGS_MAX = (BACKOFF_MAX_MS // BACKOFF_FIRST_MS).bit_length()


@dataclass(slots=True)
class Attempt:
    """What came of dialling one node. `failures`: in a row; `failed_ms`: the last; `until_ms`: not before; `code`: why it failed."""

    tried_ms: int
    failures: int = 0
    failed_ms: int = 0
    until_ms: int = 0
    code: str = ""


class Attempts:
    """Of each node that was dialled since the start."""

    __slots__ = ("_of", "_over_ms")

    def __init__(self) -> None:
        self._of: dict[bytes, Attempt] = {}
        self._over_ms = -1  # when the last cut was over

    def __len__(self) -> int:
        return len(self._of)

    def of(self, node: bytes) -> Attempt | None:
        return self._of.get(node)

    def failing(self) -> list[bytes]:
        """The nodes that did not answer when they were last dialled."""
        return [node for node, attempt in self._of.items() if attempt.failures]

    def keep(self, nodes: Container[bytes]) -> None:
        """Forget all but these."""
        self._of = {node: attempt for node, attempt in self._of.items() if node in nodes}

    def tried(self, node: bytes, now_ms: int) -> None:
        """It is being dialled."""
        attempt = self._of.get(node)
        if attempt is None:
            self._of[node] = Attempt(now_ms)
        else:
            attempt.tried_ms = now_ms

    def failed(self, node: bytes, code: str, now_ms: int, *, chance: Chance, alone: bool, retry_after_ms: int = 0) -> None:
        """It was not reached, or its link fell at once. `alone`: we have no link at all, so it may well be us."""
        attempt = self._of.setdefault(node, Attempt(now_ms))
        delay_ms = min(BACKOFF_FIRST_MS << min(attempt.failures, _DOUBLINGS_MAX), BACKOFF_ALONE_MAX_MS if alone else BACKOFF_MAX_MS)
        if not alone or attempt.failures == 0:
            attempt.failures += 1
        attempt.failed_ms, attempt.code = now_ms, code
        attempt.until_ms = now_ms + max(chance.about(delay_ms), min(retry_after_ms, BACKOFF_MAX_MS))

    def stood(self, node: bytes) -> None:
        """A link of ours to it has stood for long enough."""
        attempt = self._of.get(node)
        if attempt is not None:
            attempt.failures, attempt.until_ms, attempt.code = 0, 0, ""

    def met(self, node: bytes, now_ms: int) -> None:
        """We have reached it, or it us. If it had failed for long, a cut is over: others may be there again, too."""
        attempt = self._of.get(node)
        if attempt is not None and attempt.failures >= CUT_FAILURES:
            self._over_ms = now_ms

    def moved(self, node: bytes) -> None:
        """It says that it is somewhere else: that is worth a dial, whatever came of those to where it was."""
        attempt = self._of.get(node)
        if attempt is not None:
            attempt.until_ms = 0

    def ready_ms(self, node: bytes, purpose: Purpose, alone: bool) -> int:
        """From when on it may be dialled."""
        attempt = self._of.get(node)
        if attempt is None or attempt.failures == 0:
            return 0
        until_ms = attempt.until_ms
        if alone:
            until_ms = min(until_ms, attempt.failed_ms + BACKOFF_ALONE_MAX_MS)
        elif purpose in (Purpose.ASSIGNED, Purpose.MESHED):
            until_ms = min(until_ms, attempt.failed_ms + BACKOFF_DUE_MAX_MS)
        return min(until_ms, self._over_ms + BACKOFF_FIRST_MS) if attempt.failed_ms < self._over_ms else until_ms

    def is_stale(self, node: bytes, now_ms: int) -> bool:
        """Whether it has not been tried for so long that a feeler may look at it."""
        attempt = self._of.get(node)
        return attempt is None or now_ms - attempt.tried_ms >= FEELER_AGAIN_MS
