"""A client's connections to nodes: taken for one request, kept for the next (`proto/spec/client.md`, "Connections")."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from qustream.client.asking import Ask
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.blocking import BlockingConnection, connect
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["CONNECT_MAX_MS", "IDLE_MAX_MS", "LOST", "Connections"]

# Two round trips and a few signatures; five seconds cover a satellite and a node that is busy.
CONNECT_MAX_MS = 5_000
# A node closes what is idle for two minutes; half of that leaves no doubt on whose side it is still open.
IDLE_MAX_MS = 60_000
# Idle connections kept, the longest unused given up first: a user's envelopes touch new nodes with every index.
IDLE_MAX = 32
# The connection broke, or the time ran out, with the request perhaps served: the same request is repeated once, and gets the same bytes.
LOST = frozenset({"E-PEER-CLOSED", "E-DEADLINE"})


class Connections:
    """Connections of one device on one network. Any number of threads may use it at once."""

    def __init__(self, key: SigningKey, chain: str, timeout_ms: int) -> None:
        self._key = key
        self._hello = LocalHello(chain, (Role.DEVICE,))
        self._timeout_ms = timeout_ms
        self._idle: OrderedDict[bytes, tuple[BlockingConnection, float]] = OrderedDict()  # node -> connection, since when (monotonic)
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, ask: Ask) -> bytes:
        """Make the request on a connection to its node and return the answer. Where the answer was lost, it is asked for once more.

        Errors: the node's refusal, those of `connect`, `E-DEADLINE`, whatever ended the connection.
        """
        connection = self._kept(ask.id) or self._connected(ask)
        try:
            return self._ask_on(connection, ask)
        except QuStreamError as error:
            if error.code not in LOST:
                raise
        return self._ask_on(self._connected(ask), ask)

    def _ask_on(self, connection: BlockingConnection, ask: Ask) -> bytes:
        keep = False
        try:
            body = ask.request(connection.peer)
            answer = connection.call(body, deadline_ms=self._timeout_ms, max_answer_bytes=ask.max_answer_bytes)
            keep = True
            return answer
        finally:
            # After a refusal the connection would be whole, but that is rare enough to begin anew.
            self._put_back(ask.id, connection, keep=keep)

    def _kept(self, node: bytes) -> BlockingConnection | None:
        with self._lock:
            connection, since = self._idle.pop(node, (None, 0.0))
        if connection is not None and (time.monotonic() - since) * 1000 > IDLE_MAX_MS:
            connection.close()
            return None
        return connection

    def _connected(self, ask: Ask) -> BlockingConnection:
        """A new connection, to the first address that answers as this node, all within the time a connection may take."""
        trouble = fault("E-PEER-UNREACHABLE", "the registry lists no address for this node")
        ends = time.monotonic() + min(CONNECT_MAX_MS, self._timeout_ms) / 1000
        for address in ask.node.addresses:
            left_ms = round((ends - time.monotonic()) * 1000)
            if left_ms <= 0:
                break
            try:
                return connect(address, key=self._key, hello=self._hello, expect=ask.id, timeout_ms=left_ms)
            except QuStreamError as error:
                trouble = fault(error.code, f"{address}: {error.detail or error.row.meaning}", retry_after_ms=error.retry_after_ms)
        raise trouble

    def _put_back(self, node: bytes, connection: BlockingConnection, *, keep: bool) -> None:
        with self._lock:
            keep = keep and not self._closed and node not in self._idle
            if keep:
                self._idle[node] = (connection, time.monotonic())
            given_up = self._idle.popitem(last=False)[1][0] if len(self._idle) > IDLE_MAX else None
        for one in (None if keep else connection, given_up):
            if one is not None:
                one.close()

    def close(self) -> None:
        """Say goodbye on every idle connection; those in use close when their request is done. Harmless when repeated."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, OrderedDict()
        for connection, _ in idle.values():
            connection.close()
