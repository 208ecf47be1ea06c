"""What becomes of the packets that one host sends to one other: the conditions, and a verdict from a seed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random

__all__ = ["Conditions", "Counts", "Way"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """How packets fare one way. Without any they arrive at once. Chances are from 0 to 1."""

    delay_ms: float = 0.0
    # Up to so much more, drawn evenly. Packets keep their order all the same, as on a path with queues.
    jitter_ms: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    # The chance that a packet stays behind for `reorder_ms` while others pass it.
    reorder: float = 0.0
    reorder_ms: float = 5.0
    rate_mbit: float = 0.0  # 0: as fast as it goes
    queue_bytes: int = 65536  # what may wait for the rate; more is dropped
    cut: bool = False


@dataclass(slots=True)
class Counts:
    """What happened to the packets of a way so far, and by how much the link itself was late with them."""

    packets: int = 0
    bytes: int = 0
    delivered: int = 0
    lost: int = 0
    cut: int = 0
    overflowed: int = 0
    duplicated: int = 0
    reordered: int = 0
    latest_us: int = 0

    def as_dict(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Way:
    """One direction between two hosts. The same seed gives the n-th packet the same fate, whatever passes elsewhere meanwhile."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self.counts = Counts()
        self.plain = True
        self.change(Conditions())

    def change(self, conditions: Conditions) -> None:
        """New conditions; the draws begin anew with the seed."""
        self.conditions = conditions
        self.plain = conditions == Conditions()
        self._draw = Random(self._seed).random
        self._free_ns = 0  # when the last byte that waits for the rate will have left
        self._last_ns = 0  # when the last packet that keeps its order is due

    def due(self, now_ns: int, size: int) -> tuple[int, ...]:
        """When a packet of `size` bytes that comes now is due at the other end: never, once, or twice."""
        conditions, counts = self.conditions, self.counts
        # As many draws for each packet: what happens to one moves nobody else's.
        lost, twice, jitter, behind = self._draw(), self._draw(), self._draw(), self._draw()
        if conditions.cut:
            counts.cut += 1
            return ()
        if lost < conditions.loss:
            counts.lost += 1
            return ()
        leaves_ns = now_ns
        if conditions.rate_mbit:
            begins_ns = max(now_ns, self._free_ns)
            if (begins_ns - now_ns) * conditions.rate_mbit / 8000 > conditions.queue_bytes:
                counts.overflowed += 1
                return ()
            leaves_ns = self._free_ns = begins_ns + round(size * 8000 / conditions.rate_mbit)
        arrives_ns = leaves_ns + round((conditions.delay_ms + conditions.jitter_ms * jitter) * 1e6)
        if behind < conditions.reorder:
            counts.reordered += 1
            arrives_ns += round(conditions.reorder_ms * 1e6)
        else:
            arrives_ns = self._last_ns = max(arrives_ns, self._last_ns)
        if twice < conditions.duplicate:
            counts.duplicated += 1
            return (arrives_ns, arrives_ns)
        return (arrives_ns,)
