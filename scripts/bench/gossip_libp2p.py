"""The other side of the bench `gossip`: hosts of py-libp2p 0.8.1 with its gossipsub, each limit set so that it can do its best.

It runs in the environment that `gossip_install.py` makes and imports nothing of ours but the measuring. TCP, noise and peer records are as
it does them by default. What is set, and why (with the defaults it carries ten messages a second):

- `spam_protection_enabled=False`: above ten messages a second of a peer and topic it drops them silently.
- `SUBSCRIPTION_CHANNEL_SIZE`, `RpcQueue(max_size)`: above 32 waiting messages it drops them silently.
- `max_ihave_messages_per_second`, `max_iwant_requests_per_second`: the same for announcements and pulls.
- `heartbeat_interval=1` instead of 120 s: the mesh is whole at once. `degree` is that of the graph, so every link is in the mesh.
- `adaptive_gossip_enabled=False`, `eclipse_protection_enabled=False`: they change the degree meanwhile, and all hosts have one address.
- `strict_signing=False`: a signature of Ed25519 made and verified for each message; ours has none either.
- `validation_cache_size=1`: the cache searches a list for each message.
- `/meshsub/1.1.0`: with 1.2 it sends a message of its own for each message to each peer, and takes twice the time.
- `--muxer`: mplex is quicker with small messages, yamux with large ones. `DEFAULT_WINDOW_SIZE` of yamux is raised from 256 KiB to 8 MiB at
  both ends: a sender that has used up its window asks every 10 ms whether there is more, and gets a third of the rate.

What no setting turns off: a signed peer record goes with every message and is verified at every hop.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from contextlib import AsyncExitStack

import libp2p.stream_muxer.yamux.yamux as yamux
import trio
from gossip_measure import PUBLISHER, Tally, neighbours, serve
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub import pubsub as pubsub_module
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.subscription import TrioSubscriptionAPI
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

TOPIC = "bench"
DEGREE = 2 * len(neighbours(0))
UNLIMITED = 1 << 20
YAMUX_WINDOW_BYTES = 8 << 20  # all that the bench has under way at a time
MESH_S = 60.0  # a mesh that is not whole by then never will be


def lift_limits() -> None:
    """What can be set in its modules alone."""
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = UNLIMITED
    pubsub_module.RpcQueue = functools.partial(RpcQueue, max_size=UNLIMITED)
    yamux.DEFAULT_WINDOW_SIZE = YAMUX_WINDOW_BYTES


def make_router() -> GossipSub:
    router = GossipSub(
        protocols=[PROTOCOL_ID_V11],
        degree=DEGREE,
        degree_low=DEGREE,
        degree_high=DEGREE,
        heartbeat_interval=1,
        adaptive_gossip_enabled=False,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
    )
    router.max_ihave_messages_per_second = router.max_iwant_requests_per_second = UNLIMITED
    return router


class Libp2pHosts:
    """`Side` for py-libp2p."""

    def __init__(self, hosts: list[int], tally: Tally, muxer: str) -> None:
        self.hosts = hosts
        self._tally, self._muxer = tally, muxer
        self._of: dict[int, tuple[BasicHost, Pubsub]] = {}

    async def open(self, stack: AsyncExitStack, nursery: trio.Nursery) -> dict[int, str]:
        addresses = {}
        for number in self.hosts:
            listen = [Multiaddr(f"/ip4/127.9.0.{number + 1}/tcp/0")]
            host = new_host(key_pair=create_new_key_pair(), muxer_preference=self._muxer, listen_addrs=listen)
            router = make_router()
            pubsub = Pubsub(host, router, strict_signing=False, validation_cache_size=1)
            await stack.enter_async_context(host.run(listen_addrs=listen))
            await stack.enter_async_context(background_trio_service(pubsub))
            await stack.enter_async_context(background_trio_service(router))
            await pubsub.wait_until_ready()
            nursery.start_soon(self._read, number, await pubsub.subscribe(TOPIC))
            self._of[number] = host, pubsub
            addresses[number] = str(host.get_addrs()[0])
        return addresses

    async def _read(self, number: int, subscription: TrioSubscriptionAPI) -> None:
        while True:
            message = await subscription.get()
            self._tally.delivered(number, message.data)

    async def link(self, addresses: dict[int, str]) -> None:
        for number, (host, _) in self._of.items():
            for peer in neighbours(number):
                await host.connect(info_from_p2p_addr(Multiaddr(addresses[peer])))
        with trio.fail_after(MESH_S):
            while not all(self._is_meshed(number) for number in self.hosts):  # noqa: ASYNC110 - it tells of one peer at a time
                await trio.sleep(0.05)

    def _is_meshed(self, number: int) -> bool:
        return len(self._of[number][1].router.mesh.get(TOPIC, ())) == DEGREE

    async def publish(self, body: bytes) -> None:
        await self._of[PUBLISHER][1].publish(TOPIC, body)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", type=json.loads)
    parser.add_argument("tally")
    parser.add_argument("--muxer", choices=["MPLEX", "YAMUX"], required=True)
    arguments = parser.parse_args()
    lift_limits()
    tally = Tally(arguments.tally)
    side = Libp2pHosts(arguments.hosts, tally, arguments.muxer)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        await serve(side, await side.open(stack, nursery), tally)
        os._exit(0)  # it takes seconds to close, and nobody waits for it


if __name__ == "__main__":
    trio.run(main)
