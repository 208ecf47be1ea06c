"""Our side of the bench `gossip`: hosts with the node's own gossip service, sessions and hub, on real PQ-TLS connections.

The rest of a node (the registry, who is linked to whom) is left out: the graph is given. Messages of 1 KiB are transactions, those of
64 KiB blocks; what a peer may send a second is lifted for both, as it is on the other side. Every message is judged good at once.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial

import trio
from gossip_measure import HOSTS, PUBLISHER, Tally, neighbours, serve

from qnode.core import gossip_limits
from qnode.net.hub import Hub
from qnode.net.session import NODE_CHANNELS, Session
from qnode.service.gossip import GossipService, Judge, Verdict
from qustream.aio.connection import Connection, connect
from qustream.aio.listener import ListenerLimits
from qustream.aio.listener import serve as serve_peers
from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.transport.greeting import LocalHello
from qustream.wire.gossip import Topic
from qustream.wire.hello import Role

HELLO = LocalHello("bench", (Role.NODE,))
KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, HOSTS + 1)]
LINKS = 2 * len(neighbours(0))
SMALL_MAX_BYTES = 1024
LIFTED = 1 << 30
for topic in Topic:
    limits = gossip_limits.TOPIC_LIMITS[topic]
    gossip_limits.TOPIC_LIMITS[topic] = limits._replace(rate_per_s=LIFTED, burst=LIFTED)


async def refuse(_session: Session, _body: bytes, _deadline_ms: int) -> bytes:
    raise fault("E-PEER-LIMIT", "nothing is served here")


class Host:
    """One node's gossip and its links, each of them whoever connects or is connected to."""

    def __init__(self, key: SigningKey, judge: Judge) -> None:
        self.key = key
        self.hub = Hub()
        judges = {Topic.TRANSACTION: judge, Topic.BLOCK: judge}
        self.gossip = GossipService(say=self.hub.say, expel=self._expel, judges=judges)

    def _expel(self, peer: bytes, _until_ms: int) -> None:
        raise AssertionError(f"a link to {peer.hex()[:8]} is to be closed, though nobody misbehaves")

    async def listen(self, nursery: trio.Nursery, address: str, limits: ListenerLimits | None = None) -> str:
        """Where it listens."""
        handler = partial(self.hold, ours=False)
        run = partial(serve_peers, key=self.key, hello=HELLO, handler=handler, limits=limits, permit=lambda _peer: NODE_CHANNELS)
        [bound] = await nursery.start(run, address)
        return str(bound)

    async def dial(self, address: str, peer: bytes, task_status: trio.TaskStatus[None]) -> None:
        """A link of our own, from `started` until it is closed."""
        connection = await connect(address, key=self.key, hello=HELLO, expect=peer, permit=lambda _peer: NODE_CHANNELS)
        async with connection:
            task_status.started()
            await self.hold(connection, ours=True)

    async def hold(self, connection: Connection, *, ours: bool) -> None:
        session = Session(self.hub.number(), connection, ours=ours)
        self.hub.join(session)
        self.hub.make_link(session, self.gossip.heard)
        self.gossip.opened(session.peer, operator=session.peer.hex(), ours=ours, assigned=False)
        await session.run(refuse, None)


class OurHosts:
    """`Side` for us."""

    def __init__(self, hosts: list[int], tally: Tally, nursery: trio.Nursery) -> None:
        self.hosts = hosts
        self._nursery = nursery
        self._of = {number: Host(KEYS[number], partial(self._judge, tally, number)) for number in hosts}

    @staticmethod
    def _judge(tally: Tally, number: int, body: bytes, _peer: bytes) -> Verdict:
        tally.delivered(number, body)
        return Verdict.GOOD

    async def open(self) -> dict[int, str]:
        addresses = {}
        for number, host in self._of.items():
            addresses[number] = await host.listen(self._nursery, f"127.9.1.{number + 1}:0")
            await self._nursery.start(host.gossip.run)
        return addresses

    async def link(self, addresses: dict[int, str]) -> None:
        for number, host in self._of.items():
            for peer in neighbours(number):
                await self._nursery.start(host.dial, addresses[peer], KEYS[peer].id)
        while not all(len(host.gossip.core.mesh) == LINKS for host in self._of.values()):  # noqa: ASYNC110 - the core has no event to say so
            await trio.sleep(0.01)

    async def publish(self, body: bytes) -> None:
        topic = Topic.TRANSACTION if len(body) <= SMALL_MAX_BYTES else Topic.BLOCK
        self._of[PUBLISHER].gossip.publish(topic, body)
        await trio.lowlevel.checkpoint()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", type=json.loads)
    parser.add_argument("tally")
    arguments = parser.parse_args()
    tally = Tally(arguments.tally)
    async with trio.open_nursery() as nursery:
        side = OurHosts(arguments.hosts, tally, nursery)
        await serve(side, await side.open(), tally)
        os._exit(0)


if __name__ == "__main__":
    trio.run(main)
