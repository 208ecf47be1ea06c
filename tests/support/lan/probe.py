"""A peer played by a test: a licensed key that talks to nodes by the protocol, from a host of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from support.lan.hosts import Host
from support.lan.nodes import CHAIN, LanNode, key_of

from qustream.aio.connection import Connection, connect
from qustream.model.network import AddressRecord
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.hello import Role
from qustream.wire.peers import RECORDS_MAX, AddressAnswer, AddressAsk

__all__ = ["Probe"]

_T = TypeVar("_T")
_DEADLINE_MS = 20_000  # a loaded machine, and links that lose packets
_ANSWER_MAX_BYTES = 600 * 1024


class Probe:
    """Whoever has the key of this name, on this host."""

    def __init__(self, name: str, host: Host) -> None:
        self.key, self._host = key_of(name), host

    def talk(self, node: LanNode, conversation: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Connect to the node and hold this conversation."""

        async def run() -> _T:
            hello = LocalHello(CHAIN, (Role.NODE,))
            address = node.public_addresses[0]
            async with await connect(address, key=self.key, hello=hello, expect=node.key.id, timeout_ms=_DEADLINE_MS) as connection:
                return await conversation(connection)

        return self._host.run(trio.run, run)

    def records(self, node: LanNode) -> dict[bytes, AddressRecord]:
        """Every address record that the node has, by the id of whose it is. The signatures are not looked at: that was the node's work."""

        async def ask(connection: Connection) -> dict[bytes, AddressRecord]:
            found: dict[bytes, AddressRecord] = {}
            while True:
                body = encode(AddressAsk(max(found, default=bytes(32))))
                answer = decode(await connection.call(body, deadline_ms=_DEADLINE_MS), AddressAnswer, max_bytes=_ANSWER_MAX_BYTES)
                for signed in answer.records:
                    record = decode(signed.body, AddressRecord, max_bytes=_ANSWER_MAX_BYTES)
                    found[record.node] = record
                if len(answer.records) < RECORDS_MAX:
                    return found

        return self.talk(node, ask)
