"""The lines between nodes: delays between regions of the world, bandwidth, and what goes wrong with them, all from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sim.clockwork import Clockwork

__all__ = ["REGIONS", "Faults", "Wires", "one_way_ms"]

# One way in ms between seven places, about half of what a ping between data centres there takes.
REGIONS = ("europe", "us-east", "us-west", "brazil", "japan", "singapore", "australia")
_ONE_WAY_MS = (
    (8, 42, 70, 100, 110, 85, 130),
    (42, 8, 32, 60, 75, 105, 100),
    (70, 32, 8, 90, 52, 85, 72),
    (100, 60, 90, 8, 130, 165, 160),
    (110, 75, 52, 130, 6, 35, 52),
    (85, 105, 85, 165, 35, 5, 47),
    (130, 100, 72, 160, 52, 47, 6),
)


def one_way_ms(a: int, b: int) -> int:
    """Between two regions, by number."""
    return _ONE_WAY_MS[a][b]


def nowhere(_a: int, _b: int) -> bool:
    return False


@dataclass
class Faults:
    """What goes wrong, as chances in thousandths of a message; a lost one is a queue that was full. `cut`: whether two nodes cannot reach
    each other now. `jitter`: most that is added to a delay, in thousandths of it."""

    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    jitter: int = 100
    cut: Callable[[int, int], bool] = field(default=nowhere)


class Wires:
    """Carries messages between nodes, which are numbers. `even_ms`: every line is as long as every other; 0: as the regions say."""

    def __init__(self, clock: Clockwork, *, seed: int, regions: list[int], uplink_bps: int = 100_000_000, even_ms: int = 0) -> None:
        self.faults = Faults()
        self.sent = self.sent_bytes = self.lost = 0
        self._clock, self._regions = clock, regions
        self.uplinks_bps = [uplink_bps] * len(regions)  # out of each node
        self._delays_us = [[1000 * (even_ms or delay_ms) for delay_ms in row] for row in _ONE_WAY_MS]
        self._draw = random.Random(seed).random
        self._free_us = [0] * len(regions)  # when a node's line out is free again
        self._last_us: list[dict[int, int]] = [{} for _ in regions]  # of each node, to each other: order is kept

    def delay_ms(self, source: int, target: int) -> int:
        """What the two ends measure, one way, when nothing goes wrong."""
        return self._delays_us[self._regions[source]][self._regions[target]] // 1000

    def carry(self, source: int, target: int, size: int, arrive: Callable[..., None], *arguments: Any) -> None:
        """Plan `arrive(*arguments)` when the message is there, if it comes there."""
        faults, draw, free_us, clock = self.faults, self._draw, self._free_us, self._clock
        self.sent += 1
        self.sent_bytes += size
        now_us, gone_us = clock.now_us, free_us[source]
        free_us[source] = gone_us = (now_us if now_us > gone_us else gone_us) + size * 8_000_000 // self.uplinks_bps[source]
        if (faults.cut is not nowhere and faults.cut(source, target)) or (faults.lost and draw() * 1000 < faults.lost):
            self.lost += 1
            return
        delay_us = self._delays_us[self._regions[source]][self._regions[target]]
        at_us = gone_us + delay_us + int(delay_us * faults.jitter * draw() / 1000)
        if not (faults.reordered and draw() * 1000 < faults.reordered):
            last_us = self._last_us[source]
            if (before_us := last_us.get(target, 0)) > at_us:
                at_us = before_us
            last_us[target] = at_us
        clock.plan(at_us, arrive, *arguments)
        if faults.doubled and draw() * 1000 < faults.doubled:
            clock.plan(at_us + delay_us, arrive, *arguments)
