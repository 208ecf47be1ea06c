"""Links and leaves, all the time, in both directions."""

from __future__ import annotations

from sim.peers_evil import Evil

__all__ = ["Flapper"]


class Flapper(Evil):
    def beat(self) -> None:
        for peer in list(self.links):
            if self.chance.random() < 0.5:
                self.leave(peer)
        for peer in self.world.honest:
            if peer not in self.links and self.chance.random() < 0.1:
                self.dial(peer)
