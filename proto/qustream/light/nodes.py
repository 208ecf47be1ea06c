"""The configured nodes, asked over the post-quantum channel by nobody in particular (`proto/spec/light-client.md`).

The questions say what an application is about to do, so they are asked under a key of this run alone: a
node learns that somebody asks, not who.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SEED_BYTES, SigningKey
from qustream.model.ids import IdKind, from_text
from qustream.transport.address import parse_address
from qustream.wire.hello import Role
from qustream.wire.light import LIGHT_ANSWER_MAX_BYTES

if TYPE_CHECKING:
    from qustream.transport.blocking import BlockingConnection

__all__ = ["AskedNode", "ChannelNodes", "node_from_text"]

# For one answer: a node that has to look sixteen entries up needs milliseconds, half a megabyte on a slow line some seconds.
ANSWER_MS, CONNECT_MS = 10_000, 5_000


class AskedNode(NamedTuple):
    """A node that is asked: its 32-byte id, and where."""

    id: bytes
    address: str


def node_from_text(text: str) -> AskedNode:
    """`qn1…@host:port` as people configure it. Errors: `E-CONFIG`."""
    name, _, address = text.partition("@")
    try:
        if parse_address(address).path:  # nobody proves who he is there
            raise fault("E-CONFIG", "a path is no address of a node")
        return AskedNode(from_text(name, IdKind.NODE), address)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{text!r} is not qn1…@host:port: {error.detail}") from None


class ChannelNodes:
    """`registry.Nodes` over channels that are opened when they are needed and kept. One thread at a time may use it."""

    def __init__(self, nodes: Sequence[AskedNode], chain: str) -> None:
        self._nodes = tuple(nodes)
        self._key = SigningKey(os.urandom(SEED_BYTES))
        self._chain = chain
        self._open: dict[int, BlockingConnection] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def ask(self, number: int, body: bytes) -> bytes:
        """The answer of a node; on a kept connection that has ended meanwhile, of a new one. Errors: see `registry.Nodes`."""
        kept = self._open.pop(number, None)
        if kept is not None:
            try:
                return self._ask_on(number, kept, body)
            except QuStreamError as error:
                if error.code not in ("E-PEER-CLOSED", "E-PEER-UNREACHABLE"):
                    raise
        node = self._nodes[number]
        # As in `qustream.cli.context`: most commands open no channel.
        from qustream.transport.blocking import connect
        from qustream.transport.greeting import LocalHello

        hello = LocalHello(self._chain, (Role.DEVICE,))
        fresh = connect(node.address, key=self._key, hello=hello, expect=node.id, timeout_ms=CONNECT_MS)
        return self._ask_on(number, fresh, body)

    def _ask_on(self, number: int, connection: BlockingConnection, body: bytes) -> bytes:
        try:
            answer = connection.call(body, deadline_ms=ANSWER_MS, max_answer_bytes=LIGHT_ANSWER_MAX_BYTES)
        except BaseException:
            connection.close()
            raise
        self._open[number] = connection
        return answer

    def close(self) -> None:
        """End what is open. Harmless when repeated."""
        while self._open:
            self._open.popitem()[1].close()
