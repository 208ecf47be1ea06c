"""Who gets the next unit: credit, fairness and bounds of the feed, without a clock or a socket (`proto/spec/entropy-feed.md`, "Feed").

A node grants credit; every unit made for it takes one. Between being made and being taken by the transport a unit is *in
flight*; what may be in flight is shared evenly among the nodes, so a node that reads slowly holds its own share and nobody
else's. Nothing is made for a node without credit, so nothing queues beyond what nodes asked for and `IN_FLIGHT_UNITS` allows.
If the operator caps what a node gets in a minute, a node that has had that much waits, and keeps its credit.

    open ──► grant* ──► next_node ──► taken          close at any time, with what is in flight
                ▲           │           │
                └───────────┴───────────┘
"""

from __future__ import annotations

import math
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
# A unit costs what a cap of one unit a minute fills in a minute: integers for every cap and every millisecond.
UNIT_COST = 60_000


@dataclass(slots=True)
class CreditLine:
    """One node's account. `credit`: units it still wants; `in_flight`: made for it, not yet taken; `units`: taken since it opened."""

    node: bytes
    credit: int = 0
    in_flight: int = 0
    units: int = 0


@dataclass(slots=True)
class _Allowance:
    """What one node may still have under the cap: a bucket of one minute's units, in `UNIT_COST`ths, kept while its feed is closed."""

    level: int
    filled_ms: int


class CreditBook:
    """The accounts of all nodes with an open feed, served in turn. `units_per_minute`: the cap of one node, 0 for none."""

    def __init__(self, units_per_minute: int = 0) -> None:
        self._units_per_minute = units_per_minute
        self._allowances: dict[bytes, _Allowance] = {}  # of nodes on the allow-list, which bounds it
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

    def next_node(self, now_ms: int) -> bytes | None:
        """Whose turn it is among nodes with credit and room in flight; one credit is taken. None when nobody can take a unit."""
        share = self.share_units
        for _ in range(len(self._turns)):
            node = self._turns[0]
            self._turns.rotate(-1)
            line = self._lines[node]
            if line.credit and line.in_flight < share and self._allowed(node, now_ms) > 0:
                line.credit -= 1
                line.in_flight += 1
                if self._units_per_minute:
                    self._allowances[node].level -= UNIT_COST
                return node
        return None

    def _allowed(self, node: bytes, now_ms: int) -> int:
        """Units the cap leaves the node now."""
        if not self._units_per_minute:
            return CREDIT_MAX_UNITS
        most = self._units_per_minute * UNIT_COST
        purse = self._allowances.setdefault(node, _Allowance(most, now_ms))
        purse.level = min(most, purse.level + max(0, now_ms - purse.filled_ms) * self._units_per_minute)
        purse.filled_ms = now_ms
        return purse.level // UNIT_COST

    def allowance_in_ms(self, now_ms: int) -> float:
        """When a node that waits for nothing but its cap may have a unit; infinite if none does."""
        share = self.share_units
        waiting = [
            line.node for line in self._lines.values() if line.credit and line.in_flight < share and not self._allowed(line.node, now_ms)
        ]
        lacking = [UNIT_COST - self._allowances[node].level for node in waiting]
        return -(-min(lacking) // self._units_per_minute) if lacking else math.inf

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
            if self._units_per_minute:
                self._allowances[node].level += UNIT_COST

    @property
    def share_units(self) -> int:
        """How many units one node may have in flight now."""
        return max(1, min(SHARE_MAX_UNITS, IN_FLIGHT_UNITS // max(1, len(self._lines))))

    def wanted_units(self, now_ms: int) -> int:
        """How many units could be made now without waiting for anybody."""
        share = self.share_units
        return sum(
            min(line.credit, max(0, share - line.in_flight), self._allowed(line.node, now_ms)) for line in self._lines.values()
        )  # fmt: skip


def _add(line: CreditLine, units: int) -> None:
    outstanding = line.credit + line.in_flight + units
    if outstanding > CREDIT_MAX_UNITS:
        raise fault("E-FEED-CREDIT", f"{outstanding} units outstanding; at most {CREDIT_MAX_UNITS} may be")
    line.credit += units
