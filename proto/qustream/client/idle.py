"""Which idle connections are kept; without input or output, for both clients (`proto/spec/client.md`, "Connections")."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from qustream.errors import QuStreamError, fault

__all__ = ["CONNECT_MAX_MS", "IDLE_MAX", "IDLE_MAX_MS", "LOST", "NO_ADDRESS", "Idle", "at_address"]

_T = TypeVar("_T")

# Two round trips and a few signatures; five seconds cover a satellite and a node that is busy.
CONNECT_MAX_MS = 5_000
# A node closes what is idle for two minutes; half of that leaves no doubt on whose side it is still open.
IDLE_MAX_MS = 60_000
# Idle connections kept, the longest unused given up first: a user's envelopes touch new nodes with every index.
IDLE_MAX = 32
# The connection broke, or the time ran out, with the request perhaps served: the same request is repeated once, and gets the same bytes.
LOST = frozenset({"E-PEER-CLOSED", "E-DEADLINE"})
NO_ADDRESS = "the registry lists no address for this node"


def at_address(address: str, error: QuStreamError) -> QuStreamError:
    """The same error, naming the address where it happened."""
    return fault(error.code, f"{address}: {error.detail or error.row.meaning}", retry_after_ms=error.retry_after_ms)


class Idle(Generic[_T]):
    """Idle connections, one a node. Times are seconds of any monotonic clock. What a method says is to be closed is no longer in here."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[_T, float]] = OrderedDict()  # longest unused first
        self._closed = False

    def take(self, node: bytes, now_s: float) -> tuple[_T | None, _T | None]:
        """A connection to use, and one to close because it has been idle for too long; at most one of them."""
        connection, since_s = self._kept.pop(node, (None, now_s))
        if (now_s - since_s) * 1000 > IDLE_MAX_MS:
            return None, connection
        return connection, None

    def put(self, node: bytes, connection: _T, now_s: float) -> _T | None:
        """Keep a connection that is whole; returns one to close: this one, if the node has one or all is closed, or the longest unused."""
        if self._closed or node in self._kept:
            return connection
        self._kept[node] = (connection, now_s)
        return self._kept.popitem(last=False)[1][0] if len(self._kept) > IDLE_MAX else None

    def close(self) -> list[_T]:
        """Keep nothing from now on; returns what is to be closed."""
        self._closed = True
        connections = [connection for connection, _ in self._kept.values()]
        self._kept.clear()
        return connections
