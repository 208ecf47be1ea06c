"""Tells lies about where nodes are: records it forged, of nodes nobody knows, from the future, of its own too often, and addresses that
are none."""

from __future__ import annotations

import hashlib

from qustream.model.base import Signed
from qustream.model.network import AddressRecord
from qustream.wire.codec import encode
from sim.peers_evil import Evil

__all__ = ["AddressFlooder"]

NOWHERE = ("66.6.6.6:666",)


class AddressFlooder(Evil):
    def beat(self) -> None:
        if self.chance.random() < 0.2:
            self.dial(self.chance.choice(list(self.world.honest)))
        for peer in list(self.links):
            self.push(peer, self.chance.choice((self._forged, self._stranger, self._future, self._often, self._nonsense))())

    def records(self) -> list[bytes]:
        return [self._forged() for _ in range(50)]

    def _record(self, node: bytes, ahead_ms: int = 0, addresses: tuple[str, ...] = NOWHERE) -> AddressRecord:
        return AddressRecord("sim", node, self.world.now_wall_ms() + ahead_ms, addresses)

    def _forged(self) -> bytes:
        """Of an honest node, in its name, signed by us."""
        return self.world.signed(self._record(self.world.ids[self.chance.choice(list(self.world.honest))]), self.number)

    def _stranger(self) -> bytes:
        body = encode(self._record(hashlib.sha256(self.chance.randbytes(8)).digest()))
        return encode(Signed(body, bytes(3373)))

    def _future(self) -> bytes:
        return self.world.signed(self._record(self.world.ids[self.number], 3_600_000))

    def _often(self) -> bytes:
        return self.world.signed(self._record(self.world.ids[self.number], self.chance.randrange(1_000)))

    def _nonsense(self) -> bytes:
        return self.world.signed(self._record(self.world.ids[self.number], 0, ("unix:/etc/passwd", "127.1:80")))
