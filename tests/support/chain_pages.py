"""The pages about a chain over real HTTP, of a chain on the disk.

async with shown(chain) as site:
    status, page = await site.get("accounts/qst1…")
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing
from support.stored_chain import StoredChain

from qnode.api.chain import SubmitLimits, chain_folders
from qnode.api.chain_source import ChainSource
from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked
from qnode.core.ledger.state import State
from qustream.aio.http import Limits, serve_http
from qustream.errors import QuStreamError, fault
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import decode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Transaction, open_body, transaction_id

__all__ = ["Site", "Waiters", "shown", "source_of"]


class Waiters:
    """Transactions that wait, admitted as the ledger says; nobody looks at their signatures."""

    def __init__(self, chain: StoredChain) -> None:
        self._chain = chain
        self.waiting: dict[bytes, tuple[bytes, Checked]] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def get(self, name: bytes) -> tuple[bytes, Checked] | None:
        return self.waiting.get(name)

    def _admission(self, state: State) -> Admission:
        return Admission(state, [checked.body for _, checked in self.waiting.values()], self._chain.world.parameters)

    def next_nonce(self, account: bytes) -> int:
        with self._chain.store.state() as view:
            return self._admission(State(view)).next_nonce(account)

    async def submit(self, raw: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        transaction = decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
        checked = Checked(transaction_id(raw), len(raw), open_body(transaction), transaction.key)
        with self._chain.store.state() as view:
            code = self._admission(State(view)).add(checked, view.height + 1)
        if code is not None:
            raise fault(code)
        self.waiting[checked.id] = raw, checked
        return checked.id

    async def submit_all(self, raws: Sequence[bytes]) -> list[bytes | QuStreamError]:
        answers: list[bytes | QuStreamError] = []
        for raw in raws:
            try:
                answers.append(await self.submit(raw))
            except QuStreamError as error:
                answers.append(error)
        return answers

    def take(self) -> list[Checked]:
        """All of them, for a block."""
        taken = [checked for _, checked in self.waiting.values()]
        self.waiting.clear()
        return taken


class News:
    """Says when a block has been executed."""

    def __init__(self, chain: StoredChain) -> None:
        self._chain = chain
        self._event = trio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait_above(self, height: int) -> None:
        while self._chain.store.executed.height <= height:
            await self._event.wait()


def source_of(chain: StoredChain, pool: Any, news: News) -> ChainSource:
    return ChainSource(chain.world.genesis.chain, genesis_digest(chain.world.genesis), chain.store, pool, news.wait_above)


class Site:
    """A served chain. `address`: of the server; `pool`: what waits."""

    def __init__(self, chain: StoredChain, pool: Waiters, news: News, listener: trio.SocketListener) -> None:
        self.chain, self.pool, self.news, self._listener = chain, pool, news, listener
        host, port = listener.socket.getsockname()[:2]
        self.address = f"{host}:{port}"

    def block(self, *transactions: Checked, after_ms: int = 1_000) -> None:
        """One more block, of which those hear who wait."""
        self.chain.block(*transactions, after_ms=after_ms)
        self.news.tell()

    async def connect(self) -> trio.SocketStream:
        return await trio.testing.open_stream_to_socket_listener(self._listener)

    async def raw(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers in lower case, body."""
        data = b""
        async with await self.connect() as stream:
            await stream.send_all(sent)
            with trio.fail_after(60):
                while more := await stream.receive_some(1 << 16):
                    data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}, body

    async def get(self, path: str) -> tuple[int, Any]:
        """A page below the prefix: status and JSON."""
        status, headers, body = await self.raw(f"GET /v1/chain/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return status, body if headers["content-type"] == "application/octet-stream" else json.loads(body)

    async def post(self, path: str, body: bytes) -> tuple[int, Any]:
        """Likewise, with a body."""
        head = f"POST /v1/chain/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
        status, _, answer = await self.raw(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return status, json.loads(answer)


@asynccontextmanager
async def shown(chain: StoredChain, *, limits: Limits | None = None, submits: SubmitLimits | None = None) -> AsyncIterator[Site]:
    """Serve a chain's pages."""
    pool, news = Waiters(chain), News(chain)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        folders = chain_folders(source_of(chain, pool, news), submits)
        served = await nursery.start(partial(serve_http, listeners, {}, folders=folders, limits=limits))
        yield Site(chain, pool, news, served[0])
        nursery.cancel_scope.cancel()
