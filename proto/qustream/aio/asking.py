"""Drives operations with trio tasks; the twin of `qustream.client.driver` and `qustream.client.connections` (`proto/spec/client.md`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from qustream.aio.connection import Connection, connect
from qustream.client.asking import Ask, Operation, Result
from qustream.client.idle import CONNECT_MAX_MS, LOST, NO_ADDRESS, Idle, at_address
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role

__all__ = ["NodeTasks", "run_operation"]

# Ten nodes are assigned to a request, five of a class are asked for alerts: no operation has more under way.
ASKS_MAX = 10


@dataclass(frozen=True, slots=True)
class _Held:
    """A connection that a task of its own keeps alive until `scope` is cancelled."""

    connection: Connection
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def close(self) -> None:
        self.scope.cancel()


class NodeTasks:
    """Connections of one device on one network, each held by a task in `nursery`."""

    def __init__(self, nursery: trio.Nursery, *, key: SigningKey, chain: str, timeout_ms: int) -> None:
        self._nursery = nursery
        self._key = key
        self._hello = LocalHello(chain, (Role.DEVICE,))
        self._timeout_ms = timeout_ms
        self._idle: Idle[_Held] = Idle()

    async def ask(self, ask: Ask) -> bytes:
        """As `Connections.ask`."""
        held, given_up = self._idle.take(ask.id, trio.current_time())
        if given_up is not None:
            given_up.close()
        held = held or await self._connected(ask)
        try:
            return await self._ask_on(held, ask)
        except QuStreamError as error:
            if error.code not in LOST:
                raise
        return await self._ask_on(await self._connected(ask), ask)

    async def _ask_on(self, held: _Held, ask: Ask) -> bytes:
        given_up: _Held | None = held
        try:
            body = await trio.to_thread.run_sync(ask.request, held.connection.peer)
            answer = await held.connection.call(body, deadline_ms=self._timeout_ms, max_answer_bytes=ask.max_answer_bytes)
            given_up = self._idle.put(ask.id, held, trio.current_time())
            return answer
        finally:
            if given_up is not None:
                given_up.close()

    async def _connected(self, ask: Ask) -> _Held:
        trouble = fault("E-PEER-UNREACHABLE", NO_ADDRESS)
        ends_s = trio.current_time() + min(CONNECT_MAX_MS, self._timeout_ms) / 1000
        for address in ask.addresses:
            left_ms = round((ends_s - trio.current_time()) * 1000)
            if left_ms <= 0:
                break
            try:
                held: _Held = await self._nursery.start(self._hold, address, ask.id, left_ms)
                return held
            except QuStreamError as error:
                trouble = at_address(address, error)
        raise trouble

    async def _hold(self, address: str, node: bytes, timeout_ms: int, task_status: trio.TaskStatus[_Held]) -> None:
        async with await connect(address, key=self._key, hello=self._hello, expect=node, timeout_ms=timeout_ms) as connection:
            held = _Held(connection)
            with held.scope:
                task_status.started(held)
                await connection.wait_closed()

    def close(self) -> None:
        """Say goodbye on every idle connection; those in use close when their request is done."""
        for held in self._idle.close():
            held.close()


async def run_operation(operation: Operation, nodes: NodeTasks) -> None:
    """Run `operation` until it is over; asks that no longer matter are cancelled. Answers are checked in worker threads."""
    done_in, done_out = trio.open_memory_channel[tuple[Ask, Result]](ASKS_MAX)
    patience_s = operation.patience_ms / 1000 if operation.patience_ms is not None else math.inf

    async def ask_one(ask: Ask) -> None:
        result: Result
        try:
            result = await nodes.ask(ask)
        except QuStreamError as error:
            result = error
        await done_in.send((ask, result))

    def begin(asks: Sequence[Ask]) -> int:
        for ask in asks:
            nursery.start_soon(ask_one, ask)
        return len(asks)

    async with trio.open_nursery() as nursery:
        under_way = begin(operation.start())
        while under_way and not operation.is_over:
            done: Any = None
            with trio.move_on_after(patience_s):
                done = await done_out.receive()
            if done is None:
                under_way += begin(operation.waited())
            else:
                under_way += begin(await trio.to_thread.run_sync(operation.completed, *done)) - 1
        nursery.cancel_scope.cancel()
