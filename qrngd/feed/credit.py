"""Who gets the next unit: credit, fairness and bounds of the feed, without a clock or a socket (`proto/spec/entropy-feed.md`, "Feed").

A node grants credit; every unit made for it takes one. Between being made and being taken by the transport a unit is *in
flight*; what may be in flight is shared evenly among the nodes, so a node that reads slowly holds its own share and nobody
else's. Nothing is made for a node without credit, so nothing queues beyond what nodes asked for and `IN_FLIGHT_UNITS` allows.

    open ──► grant* ──► next_node ──► taken          close at any time, with what is in flight
                ▲           │           │
                └───────────┴───────────┘
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from qustream.errors import fault

__all__ = ["CREDIT_MAX_UNITS", "IN_FLIGHT_UNITS", "NODES_MAX", "CreditBook", "CreditLine"]

# Outstanding credit of one node: one full batch. More would let a node reserve seconds of everybody's production.
CREDIT_MAX_UNITS = 256
# Units made and not yet taken by a transport, over all nodes: 134 MB, what a small server can spare.
IN_FLIGHT_UNITS = 512
# One node's part of them at most: half a full batch under way while the other half is being signed.
SHARE_MAX_UNITS = 128
# Nodes with an open feed: at least one unit each may be in flight.
NODES_MAX = IN_FLIGHT_UNITS


@dataclass(slots=True)
class CreditLine:
    """One node's account. `credit`: units it still wants; `in_flight`: made for it, not yet taken; `units`: taken since it opened."""

    node: bytes
    credit: int = 0
    in_flight: int = 0
    units: int = 0


class CreditBook:
    """The accounts of all nodes with an open feed, served in turn."""

    def __init__(self) -> None:
        self._lines: dict[bytes, CreditLine] = {}
        self._turns: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self) -> list[CreditLine]:
        """Every open account, in no particular order."""
        return list(self._lines.values())

    def open(self, node: bytes, credit: int) -> None:
        """Open an account. Raises E-PEER-LIMIT when `NODES_MAX` are open, E-FEED-CREDIT as `grant` does."""
        assert node not in self._lines, "a feed is closed before it is opened again"
        if len(self._lines) >= NODES_MAX:
            raise fault("E-PEER-LIMIT", f"{NODES_MAX} nodes are fed already", retry_after_ms=60_000)
        line = CreditLine(node)
        _add(line, credit)
        self._lines[node] = line
        self._turns.append(node)

    def grant(self, node: bytes, units: int) -> None:
        """Add to a node's credit. Raises E-FEED-CREDIT when more than `CREDIT_MAX_UNITS` would be outstanding."""
        _add(self._lines[node], units)

    def close(self, node: bytes) -> CreditLine:
        """Forget the account; what was in flight is nobody's any more and must be thrown away by the caller."""
        self._turns.remove(node)
        return self._lines.pop(node)

    def next_node(self) -> bytes | None:
        """Whose turn it is among nodes with credit and room in flight; one credit is taken. None when nobody can take a unit."""
        share = self.share_units
        for _ in range(len(self._turns)):
            node = self._turns[0]
            self._turns.rotate(-1)
            line = self._lines[node]
            if line.credit and line.in_flight < share:
                line.credit -= 1
                line.in_flight += 1
                return node
        return None

    def taken(self, node: bytes) -> None:
        """The transport took one unit made for `node`."""
        line = self._lines[node]
        assert line.in_flight > 0
        line.in_flight -= 1
        line.units += 1

    def returned(self, node: bytes) -> None:
        """A unit made for `node` was thrown away before it was attested: the node gets its credit back."""
        line = self._lines.get(node)
        if line is not None:
            assert line.in_flight > 0
            line.in_flight -= 1
            line.credit += 1

    @property
    def share_units(self) -> int:
        """How many units one node may have in flight now."""
        return max(1, min(SHARE_MAX_UNITS, IN_FLIGHT_UNITS // max(1, len(self._lines))))

    @property
    def wanted_units(self) -> int:
        """How many units could be made now without waiting for anybody."""
        share = self.share_units
        return sum(min(line.credit, max(0, share - line.in_flight)) for line in self._lines.values())


def _add(line: CreditLine, units: int) -> None:
    outstanding = line.credit + line.in_flight + units
    if outstanding > CREDIT_MAX_UNITS:
        raise fault("E-FEED-CREDIT", f"{outstanding} units outstanding; at most {CREDIT_MAX_UNITS} may be")
    line.credit += units
