"""`qnode doctor` on the line: does it carry what a node needs, both ways? (`proto/spec/bulk.md`, §6)

A few known nodes of different operators are connected to as this node, on connections that become no links, and asked one after the other:
two measurements at a time would share the line. The median is judged, for one of them may be slow itself, or lie. It takes the line for
some seconds, beside a running node too.
"""

from __future__ import annotations

import secrets
import statistics
from collections import Counter

import trio

from qnode.api.peers import code_shown
from qnode.cli.doctor_peers import Local
from qnode.net.dialer import Dialer
from qnode.net.probe import probe_down, probe_up
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import Registry
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["BANDWIDTH_MIN_MBPS", "Bandwidth"]

# What an operator promises: letters, the network's file and the chain of a full network at the same time, with room.
BANDWIDTH_MIN_MBPS = 100.0
# Of different operators: the median of three stands against one that is slow or lies.
MEASURED_MAX = 3
# Nodes that are tried, for some are away or busy with another's probe.
TRIED_MAX = 8
# Nobody waits longer for a check without asking himself whether it hangs; three slow lines take it.
PATIENCE_S = 45.0


class Bandwidth:
    """The check. `measure` asks the network, `PATIENCE_S` at most. `local`: as `Dialer.reach`, of each node."""

    def __init__(self, key: SigningKey, registry: Registry, *, chain: str, local: Local = lambda _: None) -> None:
        self._key, self._registry, self._local = key, registry, local
        self._hello = LocalHello(chain, (Role.NODE,), (), registry.height)
        self._rates: list[tuple[float, float]] = []  # down, up
        self._failed: Counter[str] = Counter()
        self._operators: set[str] = set()

    def measure(self) -> str:
        """What the line carries, in words. Errors: `E-BANDWIDTH`."""
        others = self._others()
        if not others:
            return "not measured: the network has no other active node"
        trio.run(self._ask, others)
        if not self._rates:
            again = "; each can be asked four times an hour" if "E-PEER-LIMIT" in self._failed else ""
            return f"not measured: no other node could be asked ({_codes(self._failed)}){again}"
        down, up = (statistics.median(ways) for ways in zip(*self._rates, strict=True))
        each = "; ".join(f"{_shown(one)} down, {_shown(other)} up" for one, other in self._rates)
        words = f"{_shown(down)} Mbit/s down, {_shown(up)} Mbit/s up, the median of {len(self._rates)} ({each})"
        if min(down, up) < BANDWIDTH_MIN_MBPS:
            raise fault("E-BANDWIDTH", f"{words}; a node needs {BANDWIDTH_MIN_MBPS:.0f} both ways")
        return words

    def _others(self) -> list[NodeRecord]:
        """Drawn at random, of as many operators as there are, our own last."""
        nodes = [node for node_class in NodeClass for node in self._registry.nodes(node_class) if node.active]
        own = {node.operator for node in nodes if node.key.id == self._key.id}
        drawn = [node for node in nodes if node.key.id != self._key.id]
        secrets.SystemRandom().shuffle(drawn)
        firsts = {node.operator: node for node in drawn}
        return sorted(drawn, key=lambda node: (node.operator in own, firsts[node.operator] is not node))[:TRIED_MAX]

    async def _ask(self, others: list[NodeRecord]) -> None:
        dialer = Dialer(self._key, lambda: self._hello)
        with trio.move_on_after(PATIENCE_S) as patience:
            for node in others:
                if len(self._rates) >= MEASURED_MAX:
                    return
                if node.operator in self._operators:
                    continue
                try:
                    self._rates.append(await self._measured(dialer, node))
                    self._operators.add(node.operator)
                except QuStreamError as error:
                    self._failed[error.code] += 1
        if patience.cancelled_caught:
            self._failed["E-DEADLINE"] += 1

    async def _measured(self, dialer: Dialer, node: NodeRecord) -> tuple[float, float]:
        reached = await dialer.reach(node.key.id, node.addresses, local=self._local(node.key.id))
        async with reached.connection as connection:
            return await probe_down(connection), await probe_up(connection)


def _shown(mbps: float) -> str:
    return f"{mbps:.0f}" if mbps >= 10 else f"{mbps:.1f}"


def _codes(counts: Counter[str]) -> str:
    return ", ".join(f"{code_shown(code)} {count}" for code, count in sorted(counts.items()))
