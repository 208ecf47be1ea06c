"""A peer played by a test: a licensed key that talks to nodes by the protocol, from a host of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import trio
from support.lan.hosts import Host
from support.lan.nodes import CHAIN, LanNode, key_of

from qustream.aio.connection import Connection, connect
from qustream.errors import QuStreamError
from qustream.model.network import AddressRecord
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import GOSSIP_MAX_BYTES, Announced, GossipAnnounce, GossipMessage, GossipPull, GossipPush, Topic
from qustream.wire.hello import Role
from qustream.wire.peers import RECORDS_MAX, AddressAnswer, AddressAsk, LinkAccepted, LinkOpen, LinkReason

__all__ = ["Probe"]

_T = TypeVar("_T")
_DEADLINE_MS = 20_000  # a loaded machine, and links that lose packets
_ANSWER_MAX_BYTES = 600 * 1024
_LOOK_S = 0.3  # a node answers a hundred such questions an hour


class Probe:
    """Whoever has the key of this name, on this host."""

    def __init__(self, name: str, host: Host) -> None:
        self.key, self._host = key_of(name), host

    def talk(self, node: LanNode, conversation: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Connect to the node and hold this conversation."""

        async def run() -> _T:
            with trio.fail_after(_DEADLINE_MS / 1000):
                async with await self._connect(node) as connection:
                    return await conversation(connection)

        return self._host.run(trio.run, run)

    async def _connect(self, node: LanNode) -> Connection:
        families = {":" in each for each in self._host.addresses}
        address = next(each for each in node.public_addresses if each.startswith("[") in families)
        hello = LocalHello(CHAIN, (Role.NODE,))
        return await connect(address, key=self.key, hello=hello, expect=node.key.id, timeout_ms=_DEADLINE_MS)

    def records(self, node: LanNode) -> dict[bytes, AddressRecord]:
        """Every address record that the node has, by the id of whose it is. The signatures are not looked at: that was the node's work."""
        return self.talk(node, _records)

    def await_record(self, nodes: Iterable[LanNode], of: bytes, addresses: Sequence[str], patience_s: float) -> list[str]:
        """Until all of these have been told that the node with the id `of` is at these addresses; the names of those that have not been."""
        missing = {node.name: node for node in nodes}

        async def ask(node: LanNode) -> None:
            while True:
                with suppress(QuStreamError):  # the line is bad; so once more
                    async with await self._connect(node) as connection:
                        while (record := (await _records(connection)).get(of)) is None or record.addresses != tuple(addresses):
                            await trio.sleep(_LOOK_S)
                        del missing[node.name]
                        return
                await trio.sleep(_LOOK_S)

        async def run() -> None:
            with trio.move_on_after(patience_s):
                async with trio.open_nursery() as nursery:
                    for node in list(missing.values()):
                        nursery.start_soon(ask, node)

        self._host.run(trio.run, run)
        return sorted(missing)

    def link(self, node: LanNode) -> None:
        """Be linked for a moment."""
        self.talk(node, _open)

    def publish(self, node: LanNode, *addresses: str) -> AddressRecord:
        """Tell the network, by this node, that we are at these addresses; until the node has kept it. A node takes one a minute of us."""
        record = AddressRecord(CHAIN, self.key.id, time.time_ns() // 1_000_000, addresses)
        body = encode(self.key.sign_noun("address", record))

        async def tell(connection: Connection) -> None:
            await _open(connection)
            await _say(connection, Topic.ADDRESS, body)
            while (await _records(connection)).get(self.key.id) != record:
                await trio.sleep(_LOOK_S)

        self.talk(node, tell)
        return record


async def _open(connection: Connection) -> None:
    answer = await connection.call(encode(LinkOpen(LinkReason.CHOSEN, 0)), deadline_ms=_DEADLINE_MS)
    decode(answer, LinkAccepted, max_bytes=_ANSWER_MAX_BYTES)


async def _say(connection: Connection, topic: Topic, body: bytes) -> None:
    """Announce a large message, and give it when it is asked for."""
    text = b"qustream/1/gossip"
    name = hashlib.sha256(bytes([len(text)]) + text + bytes([topic]) + body).digest()
    await connection.send(Channel.GOSSIP, encode(GossipAnnounce((Announced(name, topic, len(body), True),))))
    while True:
        _, heard = await connection.receive()
        message = decode(heard, GossipMessage, max_bytes=GOSSIP_MAX_BYTES)
        if isinstance(message, GossipPull) and name in message.ids:
            break
    await connection.send(Channel.GOSSIP, encode(GossipPush(topic, body)))


async def _records(connection: Connection) -> dict[bytes, AddressRecord]:
    found: dict[bytes, AddressRecord] = {}
    while True:
        body = encode(AddressAsk(max(found, default=bytes(32)), 0))
        answer = decode(await connection.call(body, deadline_ms=_DEADLINE_MS), AddressAnswer, max_bytes=_ANSWER_MAX_BYTES)
        for signed in answer.records:
            record = decode(signed.body, AddressRecord, max_bytes=_ANSWER_MAX_BYTES)
            found[record.node] = record
        if len(answer.records) < RECORDS_MAX:
            return found
