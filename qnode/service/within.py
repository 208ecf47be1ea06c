"""Which addresses of other nodes may lead into a local network, or to this machine (`proto/spec/peers.md`, §5): or whoever names an address
could make nodes knock at what only they can reach."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from qnode.net.dialer import is_local
from qnode.net.hub import Hub
from qnode.service.peers_known import KnownNodes
from qustream.errors import QuStreamError
from qustream.transport.address import parse_address

__all__ = ["Within", "is_local_number"]


class Within:
    """`vouched`: addresses by node id that are not a stranger's word: of genesis, and of the configuration. None: the registry is a network
    file, and what it says the word of who keeps it; on a chain it is each operator's own."""

    def __init__(self, hub: Hub, known: KnownNodes, told: Sequence[str], vouched: Mapping[bytes, Collection[str]] | None) -> None:
        self._hub, self._known, self._vouched = hub, known, vouched
        self._is_told_local = any(map(is_local_number, told))

    @property
    def is_sure(self) -> bool:
        """Whether this node is in a local network itself: by what it says of itself, here or in the registry, or what it has opened a link
        to."""
        own = self._known.own
        is_registered_local = own is not None and any(map(is_local_number, own.addresses))
        return self._is_told_local or is_registered_local or any(map(is_local, self._ours()))

    def local(self, peer: bytes) -> Collection[str] | None:
        """Those of a peer that may; None: all."""
        if self._vouched is not None:
            return None if self.is_sure else self._vouched.get(peer, ())
        ours, known = self._ours(), self._known.get(peer)
        return None if not ours or any(map(is_local, ours)) else known.addresses if known is not None else ()

    def _ours(self) -> list[str]:
        return [link.connection.remote for link in self._hub.links if link.ours and link.connection.remote]


def is_local_number(address: str) -> bool:
    """Whether it is a number of a local network; a name is none."""
    try:
        return not parse_address(address).path and is_local(address)
    except (ValueError, QuStreamError):
        return False
