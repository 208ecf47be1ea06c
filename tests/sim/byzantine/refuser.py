"""Takes connections and then refuses the link, with a code or a time of its choice, or says nothing at all."""

from __future__ import annotations

from sim.peers_evil import Evil

__all__ = ["Refuser"]


class Refuser(Evil):
    def asked(self, peer: int) -> str | None:
        return self.chance.choice(("E-PEER-LIMIT", "E-PEER-UNLICENSED", "words of its own", None))
