"""Whether others reach us (`proto/spec/peers.md`, §7)."""

from __future__ import annotations

from collections.abc import Iterable

from qnode.core.chance import Chance
from qnode.core.peers_limits import DIAL_BACK_EVERY_MS, DIAL_BACK_FEW_MS, DIAL_BACK_FIRST_MS, DIAL_BACK_PEERS, REACHED_MS
from qnode.core.peers_link import PeerLink

__all__ = ["Reach"]


class Reach:
    """`reached_ms`: when a known node last came in, or said that it could; None: never since the start."""

    __slots__ = ("_answers", "_ask_ms", "is_unreachable", "reached_ms")

    def __init__(self) -> None:
        self.reached_ms: int | None = None
        self.is_unreachable = False
        self._ask_ms: int | None = None  # not before; None: the clock has not been looked at yet
        self._answers: dict[bytes, bool | None] = {}

    def came_in(self, now_ms: int) -> None:
        self.reached_ms, self.is_unreachable = now_ms, False

    def told(self, peer: bytes, reached: bool | None, now_ms: int) -> None:
        if peer not in self._answers:
            return  # nobody asked, or long ago
        if reached:
            self.came_in(now_ms)
        self._answers[peer] = reached
        if len(self._answers) == DIAL_BACK_PEERS and all(answer is False for answer in self._answers.values()):
            self.is_unreachable = not self.is_reached(now_ms)

    def is_reached(self, now_ms: int) -> bool:
        return self.reached_ms is not None and now_ms - self.reached_ms < REACHED_MS

    def to_ask(self, links: Iterable[PeerLink], chance: Chance, now_ms: int) -> list[bytes]:
        """Whom to ask to dial back, now."""
        if self._ask_ms is None:
            self._ask_ms = now_ms + DIAL_BACK_FIRST_MS
        if now_ms < self._ask_ms or self.is_reached(now_ms):
            return []
        asked: dict[str, bytes] = {}
        # Ours first: who comes to us has an interest in what we believe.
        left = sorted(links, key=lambda link: (not link.ours, link.number))
        while left and len(asked) < DIAL_BACK_PEERS:
            same = [link for link in left if link.ours == left[0].ours and link.spare == left[0].spare]
            link = chance.choice(same)
            asked.setdefault(link.operator, link.peer)
            left.remove(link)
        if not asked:
            return []
        self._ask_ms = now_ms + (DIAL_BACK_FEW_MS if len(asked) < DIAL_BACK_PEERS else DIAL_BACK_EVERY_MS)
        self._answers = dict.fromkeys(asked.values())
        return list(asked.values())
