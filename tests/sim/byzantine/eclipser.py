"""Wants to be all that a node sees: takes a place at its victim (node 0) and never gives it back, takes places at everybody else so that
nobody gets one there, accepts all links and passes nothing on."""

from __future__ import annotations

from sim.peers_evil import Evil

__all__ = ["Eclipser"]

VICTIM = 0


class Eclipser(Evil):
    def beat(self) -> None:
        """Every second at the victim, every few seconds at somebody else."""
        if VICTIM not in self.links:
            self.dial(VICTIM)
        if self.chance.random() < 0.3:
            other = self.chance.choice(list(self.world.honest))
            if other not in self.links:
                self.dial(other)
