"""Drives an operation with threads and blocking connections."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from qustream.client.asking import Ask, Operation
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.blocking import BlockingConnection, connect
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["LOST", "ThreadDriver"]

# Ten nodes are assigned to a request; each may be working while another is asked.
THREADS_MAX = 10
# The connection broke or the time ran out with the request perhaps served: the same request is repeated once, and gets the same bytes.
LOST = frozenset({"E-PEER-CLOSED", "E-DEADLINE"})


class ThreadDriver:
    """Connections to nodes, one each, kept while the driver lives. A context manager."""

    def __init__(self, key: SigningKey, chain: str, timeout_ms: int) -> None:
        self._key = key
        self._hello = LocalHello(chain, (Role.DEVICE,))
        self._timeout_ms = timeout_ms
        self._connections: dict[bytes, BlockingConnection] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="qustream")

    def run(self, operation: Operation) -> None:
        """Run `operation` until it is over and nothing is under way that could still matter."""
        running: dict[Future[bytes], Ask] = {}
        asks = operation.start()
        while True:
            running |= {self._threads.submit(self._ask, ask): ask for ask in asks}
            if not running or operation.is_over:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            asks = [further for future in done for further in operation.completed(running.pop(future), _result(future))]

    def _ask(self, ask: Ask) -> bytes:
        try:
            return self._ask_once(ask)
        except QuStreamError as error:
            if error.code not in LOST:
                raise
        self._drop(ask.id)
        return self._ask_once(ask)

    def _ask_once(self, ask: Ask) -> bytes:
        connection = self._connection(ask)
        try:
            body = ask.request(connection.peer)
            return connection.call(body, deadline_ms=self._timeout_ms, max_answer_bytes=ask.max_answer_bytes)
        except QuStreamError:
            self._drop(ask.id)  # a refusal leaves the connection whole, but nothing is lost by a new one
            raise

    def _connection(self, ask: Ask) -> BlockingConnection:
        with self._lock:
            if ask.id in self._connections:
                return self._connections[ask.id]
        trouble = fault("E-PEER-UNREACHABLE", "the registry lists no address for this node")
        for address in ask.node.addresses:
            try:
                made = connect(address, key=self._key, hello=self._hello, expect=ask.id, timeout_ms=self._timeout_ms)
            except QuStreamError as error:
                trouble = error
                continue
            with self._lock:
                return self._connections.setdefault(ask.id, made)
        raise trouble

    def _drop(self, node: bytes) -> None:
        with self._lock:
            connection = self._connections.pop(node, None)
        if connection:
            connection.close()

    def close(self) -> None:
        """Say goodbye on every connection, without making the caller wait for a slow one."""
        with self._lock:
            connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            self._threads.submit(connection.close)
        self._threads.shutdown(wait=False)

    def __enter__(self) -> ThreadDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _result(future: Future[bytes]) -> bytes | QuStreamError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, QuStreamError):
        return error
    raise error
