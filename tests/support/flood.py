"""Strangers in numbers: connections from many prefixes, each of which asks a node for everything that strangers may ask, without a pause.

flood = Flood(circle, circle.nodes[0], asks)
with flood:
    ...
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

import trio
from support.chain_circle import CHAIN, ChainNodeProcess
from support.places import WORKER

from qustream.aio.connection import Connection, establish
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.engine import Engine
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["Flood"]

# More than the places that strangers have for questions that wait, and than the prefixes that all they have is shared by.
PREFIXES, OF_EACH, AT_ONCE = 12, 3, 4
FIRST_NET = 150
ASK_MS = 25_000


class Flood:
    """`asks`: makes a question, by kind. `said`: what came of it, by kind and code (empty: an answer)."""

    def __init__(self, target: ChainNodeProcess, asks: Mapping[str, Callable[[], bytes]]) -> None:
        self.target, self.asks = target, asks
        self.said: Counter[tuple[str, str]] = Counter()
        self.connected = 0
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._began = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._began.wait(60)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()

    def count(self, kind: str, code: str) -> int:
        return self.said[kind, code]

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                for number in range(PREFIXES):
                    for _ in range(OF_EACH):
                        nursery.start_soon(self._stay, f"127.{FIRST_NET + number}.{WORKER}.1")
                self._began.set()

    async def _stay(self, source: str) -> None:
        """One connection, and another when that is over: with a key of its own each time."""
        while True:
            try:
                connection = await self._connect(source)
                async with connection:
                    self.connected += 1
                    async with trio.open_nursery() as nursery:
                        for kind in self.asks:
                            for _ in range(AT_ONCE if kind == "waits" else 1):
                                nursery.start_soon(partial(self._hammer, connection, kind))
            except* (QuStreamError, OSError):
                pass
            await trio.sleep(0.2)

    async def _connect(self, source: str) -> Connection:
        host, port = self.target.listen.rsplit(":", 1)
        sock = socket.socket()
        sock.bind((source, 0))
        sock.setblocking(False)
        stream = trio.socket.from_stdlib_socket(sock)
        await stream.connect((host, int(port)))
        engine = Engine("client", key=SigningKey(os.urandom(32)), hello=LocalHello(CHAIN, (Role.NODE,)), expect=self.target.key.id)
        return await establish(stream._sock, engine)

    async def _hammer(self, connection: Connection, kind: str) -> None:
        while True:
            try:
                await connection.call(self.asks[kind](), deadline_ms=ASK_MS)
                self.said[kind, ""] += 1
            except QuStreamError as error:
                self.said[kind, error.code] += 1
                if connection.end_code or error.code in ("E-PEER-CLOSED", "E-PEER-UNREACHABLE"):
                    raise
