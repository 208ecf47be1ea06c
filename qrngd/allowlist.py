"""Who may have a feed: the nodes the configuration lists, and all active licensed ones if it names a network file."""

from __future__ import annotations

from typing import Protocol

from qustream.errors import QuStreamError
from qustream.model.network import NodeClass
from qustream.registry import NetworkFileRegistry

__all__ = ["AllowList", "Allowed"]


class Allowed(Protocol):
    """Who may have a feed. Asked in the event loop, but for `refresh`."""

    @property
    def source(self) -> str: ...

    @property
    def height(self) -> int: ...

    @property
    def trouble(self) -> QuStreamError | None: ...

    def __contains__(self, node: bytes) -> bool: ...

    def __len__(self) -> int: ...

    def refresh(self, now_ms: int) -> bool:
        """Look what is new; True if the list may be another now. Blocking."""
        ...


class AllowList:
    """Asked for every feed; `refresh` reads the network file again. `source`: where nodes are read from, for the log."""

    source = "network file"

    def __init__(self, listed: frozenset[bytes], registry: NetworkFileRegistry | None) -> None:
        self._listed = listed
        self._registry = registry

    def __contains__(self, node: bytes) -> bool:
        if node in self._listed:
            return True
        try:
            return self._registry is not None and self._registry.node(node).active
        except QuStreamError:  # no such node
            return False

    def __len__(self) -> int:
        if self._registry is None:
            return len(self._listed)
        try:
            licensed = {r.key.id for kind in NodeClass for r in self._registry.nodes(kind) if r.active}
        except QuStreamError:  # no network file yet
            licensed = set()
        return len(licensed | self._listed)

    @property
    def height(self) -> int:
        """The version of the network file, 0 without one."""
        try:
            return self._registry.height if self._registry is not None else 0
        except QuStreamError:
            return 0

    @property
    def trouble(self) -> QuStreamError | None:
        """Why the network file in use is not the one on the disk; None if it is."""
        return self._registry.trouble if self._registry is not None else None

    def refresh(self, now_ms: int) -> bool:
        """Read the network file if it changed; True if the list may be another now. Blocking."""
        return self._registry is not None and self._registry.refresh(now_ms)
