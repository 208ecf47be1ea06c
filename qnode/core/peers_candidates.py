"""Whom a node may open a link to, and the draw among them (`proto/spec/peers.md`, §2 and §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from enum import IntEnum

from qnode.core.chance import Chance
from qnode.core.peers_attempts import Attempts
from qnode.core.peers_book import AddressBook
from qnode.core.peers_events import Known, Purpose
from qnode.core.peers_limits import SAMPLES, SCAN_PAUSE_MS, SCAN_PAUSE_SMALL_MS, SCAN_SMALL
from qnode.core.peers_link import PeerLink

__all__ = ["Candidates", "Fit", "Taken"]


class Fit(IntEnum):
    """What a link to a node would be: under the rule, or spare in order of preference."""

    ABIDES = 0
    PREFIX_TAKEN = 1
    OPERATOR_TAKEN = 2
    OUR_OPERATOR = 3


@dataclass
class Taken:
    """Operators and prefixes of the links that count, and of the dials under way."""

    operators: set[str] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)

    @classmethod
    def by(cls, links: Iterable[PeerLink]) -> Taken:
        counted = [link for link in links if not link.spare]
        return cls({link.operator for link in counted}, {link.prefix for link in counted})

    def add(self, operator: str, prefixes: Set[str]) -> None:
        self.operators.add(operator)
        self.prefixes |= prefixes


class Candidates:
    """All known nodes but ourselves."""

    def __init__(self, book: AddressBook, attempts: Attempts) -> None:
        self._book, self._attempts = book, attempts
        self._nodes: Mapping[bytes, Known] = {}
        self._others: list[bytes] = []
        self._own_operator, self._has_strangers = "", False
        self._scan_after_ms = 0

    def __len__(self) -> int:
        return len(self._others)

    def changed(self, nodes: Mapping[bytes, Known], own: bytes) -> None:
        """The registry is another."""
        self._nodes = nodes
        self._others = [node for node in nodes if node != own]
        self._own_operator = nodes[own].operator if own in nodes else ""
        self._has_strangers = any(known.operator != self._own_operator for known in nodes.values())
        self.stir()

    def stir(self) -> None:
        """What was looked for in vain may be there now."""
        self._scan_after_ms = 0

    def is_paused(self, now_ms: int) -> bool:
        """Whether all were looked through in vain a moment ago, and nothing has happened since. In a large network there is always a draw,
        for it costs less than looking at all."""
        return now_ms < self._scan_after_ms and len(self._others) <= SCAN_SMALL

    def fit(self, node: bytes, taken: Taken) -> Fit | None:
        """What a link to it would be; None if it cannot be one."""
        operator = self._nodes[node].operator
        if operator == self._own_operator:
            found = Fit.OUR_OPERATOR
            if self._has_strangers:
                return None
        elif operator in taken.operators:
            found = Fit.OPERATOR_TAKEN
        elif self._book.is_outside(node, taken.prefixes):
            return Fit.ABIDES
        else:
            found = Fit.PREFIX_TAKEN
        return found if self._book.addresses(node) else None

    def draw(
        self, is_free: Callable[[bytes], bool], taken: Taken, chance: Chance, now_ms: int, *, spare: bool, alone: bool
    ) -> bytes | None:
        """One of the nodes a link under the rule can be opened to, all alike; if there is none and `spare`, one of the next best."""
        if not self._others or self.is_paused(now_ms):
            return None

        def fit(node: bytes) -> Fit | None:
            if not is_free(node) or self._attempts.ready_ms(node, Purpose.CHOSEN, alone) > now_ms:
                return None
            return self.fit(node, taken)

        for _ in range(min(SAMPLES, len(self._others))):
            node = chance.choice(self._others)
            if fit(node) is Fit.ABIDES:
                return node
        if now_ms < self._scan_after_ms:
            return None
        ranks: dict[Fit, list[bytes]] = {}
        for node in self._others:
            if (rank := fit(node)) is not None:
                ranks.setdefault(rank, []).append(node)
        best = min(ranks, default=None)
        if best is None or (best is not Fit.ABIDES and not spare):
            self._scan_after_ms = now_ms + (SCAN_PAUSE_MS if len(self._others) > SCAN_SMALL and not alone else SCAN_PAUSE_SMALL_MS)
            return None
        return chance.choice(ranks[best])

    def draw_feeler(self, is_free: Callable[[bytes], bool], chance: Chance, now_ms: int) -> bytes | None:
        """One of those that have not been tried for long."""

        def fits(node: bytes) -> bool:
            return is_free(node) and self._attempts.is_stale(node, now_ms) and bool(self._book.addresses(node))

        for _ in range(min(SAMPLES, len(self._others))):
            node = chance.choice(self._others)
            if fits(node):
                return node
        fitting = [node for node in self._others if fits(node)]
        return chance.choice(fitting) if fitting else None
