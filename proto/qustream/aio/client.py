"""The client for trio programs; the twin of `qustream.client.client` over the same flows (`proto/spec/client.md`).

    async with await AsyncClient.from_home("~/.qustream") as client:
        await client.encrypt("report.pdf", "report.pdf.qs", to=["qu1..."])

Disk and cipher work runs in worker threads, the network in tasks. Cancelled, a call tidies up as any failed one does: no file is left
half-written. A step of cipher work notices the cancellation within about a MiB of content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import trio

from qustream.aio.asking import NodeTasks, run_operation
from qustream.client.asking import Operation
from qustream.client.client import TIMEOUT_MS
from qustream.client.flows import Flow, Flows, Sink, Source
from qustream.client.reports import Encrypted, Opened, Report, Revoked
from qustream.client.settings import Network, close_network, now_ms, open_home
from qustream.envelope import Progress
from qustream.identity.user import UserHome
from qustream.model.network import Grant
from qustream.registry import Registry
from qustream.wire.keys import Alert

__all__ = ["AsyncClient"]

_T = TypeVar("_T")


class AsyncClient:
    """One user device's client; its methods work inside `async with`, and any number of tasks may call them at once.

    Errors are those of `Client`. Streams as `source` or `sink` are ordinary blocking ones; they are used from worker threads.
    """

    def __init__(self, home: UserHome, registry: Registry, *, timeout_ms: int = TIMEOUT_MS, clock_ms: Callable[[], int] = now_ms) -> None:
        """As `Client`."""
        self.home = home
        self.registry = registry
        self._timeout_ms = timeout_ms
        self._flows = Flows(home, registry, clock_ms)
        self._tasks: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nodes: NodeTasks | None = None
        self._opened: Network | None = None  # by this client, so it closes it

    @classmethod
    async def from_home(
        cls, directory: str | Path = "~/.qustream", *, passphrase: bytes | None = None, timeout_ms: int = TIMEOUT_MS
    ) -> AsyncClient:
        """As `Client.from_home`."""
        home, registry = await trio.to_thread.run_sync(open_home, Path(directory), passphrase, now_ms)
        made = cls(home, registry, timeout_ms=timeout_ms)
        made._opened = registry
        return made

    async def encrypt(
        self,
        source: Source,
        sink: Sink,
        *,
        to: Sequence[str | bytes],
        lifetime_ms: int | None = None,
        pad: bool = False,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Encrypted:
        """As `Client.encrypt`; `progress` is called in trio's thread."""
        return await self._follow(
            self._flows.encrypt(source, sink, to=to, lifetime_ms=lifetime_ms, pad=pad, replace=replace, progress=_shown(progress))
        )

    async def open(self, source: Source, sink: Sink, *, replace: bool = False, progress: Progress | None = None) -> Opened:
        """As `Client.open`; `progress` is called in trio's thread."""
        return await self._follow(self._flows.open(source, sink, replace=replace, progress=_shown(progress)))

    async def verify(self, source: Source, *, blocks: bool = False) -> Report:
        """As `Client.verify`."""
        return await self._follow(self._flows.verify(source, blocks=blocks))

    async def revoke(self, source: Source) -> Revoked:
        """As `Client.revoke`."""
        return await self._follow(self._flows.revoke(source))

    async def alerts(self, since_ms: int = 0) -> list[Alert]:
        """As `Client.alerts`."""
        return await self._follow(self._flows.alerts(since_ms))

    async def grants(self) -> list[tuple[Grant, int]]:
        """As `Client.grants`."""
        return await trio.to_thread.run_sync(self._flows.grants)

    # -- life -----------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> AsyncClient:
        if self._tasks is not None:
            raise RuntimeError("a client is entered once")
        self._tasks = trio.open_nursery()
        nursery = await self._tasks.__aenter__()
        self._nodes = NodeTasks(nursery, key=self.home.device, chain=self.registry.chain, timeout_ms=self._timeout_ms)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        assert self._tasks is not None
        assert self._nodes is not None
        self._nodes.close()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if error is not None and group.exceptions == (error,):
                return False  # the body's own error leaves as it is
            raise
        finally:
            if self._opened is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(close_network, self._opened)

    async def _follow(self, flow: Flow[_T]) -> _T:
        """`ThreadDriver.follow`, each step in a worker thread."""
        if self._nodes is None:
            raise RuntimeError("use a client inside `async with`")
        try:
            while True:
                operation, result = await trio.to_thread.run_sync(_step, flow)
                if operation is None:
                    return result  # type: ignore[no-any-return]
                await run_operation(operation, self._nodes)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(flow.close)


def _step(flow: Flow[Any]) -> tuple[Operation | None, Any]:
    """The next operation of a flow, or its result."""
    try:
        return next(flow), None
    except StopIteration as done:
        return None, done.value


def _shown(progress: Progress | None) -> Progress:
    """What a worker thread calls: it ends the work if the caller was cancelled, and carries progress over to trio's thread."""

    def show(done_bytes: int) -> None:
        trio.from_thread.check_cancelled()
        if progress is not None:
            trio.from_thread.run_sync(progress, done_bytes)

    return show
