"""What is being judged, and who brought it (`proto/spec/gossip.md`, §9): so much in all, and a part of it of one peer, so that nobody who
brings more than can be looked at takes the place of all others."""

from __future__ import annotations

from qnode.core.gossip_limits import CHECKS_BYTES_MAX, CHECKS_DOUBTED_BYTES_MAX, CHECKS_MAX, CHECKS_PEER_BYTES_MAX, CHECKS_PEER_MAX

__all__ = ["Checks"]


class Checks:
    """Counts alone: whose, and how many bytes."""

    __slots__ = ("_bytes", "_count", "_of")

    def __init__(self) -> None:
        self._count = self._bytes = 0
        self._of: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def take(self, peer: bytes, size: int, *, is_trusted: bool = True) -> bool:
        """A place for a body that this peer has brought, if there is one. `is_trusted`: what it brought lately came to something."""
        count, held = self._of.get(peer, (0, 0))
        if not is_trusted and held + size > CHECKS_DOUBTED_BYTES_MAX:
            return False
        if self._count >= CHECKS_MAX or self._bytes + size > CHECKS_BYTES_MAX:
            return False
        if count >= CHECKS_PEER_MAX or held + size > CHECKS_PEER_BYTES_MAX:
            return False
        self._of[peer] = count + 1, held + size
        self._count, self._bytes = self._count + 1, self._bytes + size
        return True

    def leave(self, peer: bytes, size: int) -> None:
        """It has been judged."""
        count, held = self._of.pop(peer)
        if count > 1:
            self._of[peer] = count - 1, held - size
        self._count, self._bytes = self._count - 1, self._bytes - size
