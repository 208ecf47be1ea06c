"""A blocking client's connections to nodes: taken for one request, kept for the next (`proto/spec/client.md`, "Connections")."""

from __future__ import annotations

import threading
import time

from qustream.client.asking import Ask
from qustream.client.idle import CONNECT_MAX_MS, LOST, NO_ADDRESS, Idle, at_address
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.blocking import BlockingConnection, connect
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["Connections"]


class Connections:
    """Connections of one device on one network. Any number of threads may use it at once."""

    def __init__(self, key: SigningKey, chain: str, timeout_ms: int) -> None:
        self._key = key
        self._hello = LocalHello(chain, (Role.DEVICE,))
        self._timeout_ms = timeout_ms
        self._idle: Idle[BlockingConnection] = Idle()
        self._lock = threading.Lock()

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
        given_up: BlockingConnection | None = connection  # after a refusal it would be whole, but that is rare enough to begin anew
        try:
            body = ask.request(connection.peer)
            answer = connection.call(body, deadline_ms=self._timeout_ms, max_answer_bytes=ask.max_answer_bytes)
            with self._lock:
                given_up = self._idle.put(ask.id, connection, time.monotonic())
            return answer
        finally:
            if given_up is not None:
                given_up.close()

    def _kept(self, node: bytes) -> BlockingConnection | None:
        with self._lock:
            connection, given_up = self._idle.take(node, time.monotonic())
        if given_up is not None:
            given_up.close()
        return connection

    def _connected(self, ask: Ask) -> BlockingConnection:
        """A new connection, to the first address that answers as this node, all within the time a connection may take."""
        trouble = fault("E-PEER-UNREACHABLE", NO_ADDRESS)
        ends_s = time.monotonic() + min(CONNECT_MAX_MS, self._timeout_ms) / 1000
        for address in ask.addresses:
            left_ms = round((ends_s - time.monotonic()) * 1000)
            if left_ms <= 0:
                break
            try:
                return connect(address, key=self._key, hello=self._hello, expect=ask.id, timeout_ms=left_ms)
            except QuStreamError as error:
                trouble = at_address(address, error)
        raise trouble

    def close(self) -> None:
        """Say goodbye on every idle connection; those in use close when their request is done. Harmless when repeated."""
        with self._lock:
            connections = self._idle.close()
        for connection in connections:
            connection.close()
