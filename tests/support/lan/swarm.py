"""Very many peers at one node: each with a licence and an address of its own, each connected and asking for a link, as long as this runs.

`python -m support.lan.swarm ADDRESS NODE_ID CONNECTIONS NAME=SOURCE…` answers each line on standard input with what has come of it so far,
and ends with its input. `Swarm` is the other side.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import trio
from support.lan.hosts import Host
from support.lan.nodes import CHAIN, LanNode, key_of

from qustream.aio.connection import establish
from qustream.errors import QuStreamError
from qustream.transport.address import parse_address
from qustream.transport.engine import Engine
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.hello import Role
from qustream.wire.peers import LinkAccepted, LinkOpen, LinkReason

__all__ = ["Swarm"]

_TESTS = Path(__file__).resolve().parents[2]
_DEADLINE_MS = 30_000
_AT_ONCE = 16  # handshakes under way: a listener takes so many of one address, and our own machine is not to be what is measured
_AGAIN_S = 1.0  # a connection that was closed is made again after this


class Crowd:
    """All of them, in one event loop."""

    def __init__(self, address: str, node: bytes) -> None:
        self._where, self._node = parse_address(address), node
        self._handshakes = trio.CapacityLimiter(_AT_ONCE)
        self.linked: Counter[str] = Counter()  # by name, those that stand now
        self.connected = 0
        self.made = 0  # connections, ever
        self.refused: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    async def member(self, name: str, source: str) -> None:
        """Connect, ask for a link, stay; again when it ends."""
        key = key_of(name)
        while True:
            try:
                await self._stay(name, source, key)
            except QuStreamError as error:
                self.ended[error.code] += 1
            except (OSError, trio.TooSlowError) as error:
                self.ended[type(error).__name__] += 1
            await trio.sleep(_AGAIN_S)

    async def _stay(self, name: str, source: str, key: Any) -> None:
        async with self._handshakes:
            with trio.fail_after(_DEADLINE_MS / 1000):
                sock = socket.socket()
                sock.bind((source, 0))
                sock.setblocking(False)
                await trio.socket.from_stdlib_socket(sock).connect((self._where.host, self._where.port))
                engine = Engine("client", key=key, hello=LocalHello(CHAIN, (Role.NODE,)), expect=self._node, permit=None)
                connection = await establish(sock, engine)
        async with connection:
            self.connected += 1
            self.made += 1
            accepted = False
            try:
                answer = await connection.call(encode(LinkOpen(LinkReason.CHOSEN, 0)), deadline_ms=_DEADLINE_MS)
                decode(answer, LinkAccepted, max_bytes=4096)
                accepted = True
                self.linked[name] += 1
                while True:
                    await connection.receive()
            except QuStreamError as error:
                if accepted:
                    raise
                self.refused[error.code] += 1
                while True:  # refused as a link, not as a connection
                    await connection.receive()
            finally:
                self.connected -= 1
                if accepted:
                    self.linked[name] -= 1

    def told(self) -> dict[str, Any]:
        return {
            "connected": self.connected, "made": self.made, "linked": sorted((+self.linked).elements()), "refused": dict(self.refused),
            "ended": dict(self.ended),
        }  # fmt: skip


class Swarm:
    """A crowd on this host, run in a process of its own. `members`: by name, the address each comes from."""

    def __init__(self, host: Host, node: LanNode, members: Mapping[str, str], *, each: int = 1) -> None:
        self._host, self._node, self._members, self._each = host, node, members, each

    def __enter__(self) -> Self:
        arguments = [self._node.public_addresses[0], self._node.key.id.hex(), str(self._each)]
        arguments += [f"{name}={source}" for name, source in self._members.items()]
        self._process = self._host.run(
            subprocess.Popen, [sys.executable, "-m", "support.lan.swarm", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=_TESTS,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()

    def told(self) -> dict[str, Any]:
        """`connected` now, connections `made` so far, names `linked` now, `refused` links and `ended` connections by code."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("\n")
        stdin.flush()
        answer = json.loads(stdout.readline())
        assert isinstance(answer, dict)
        return answer


async def main() -> None:
    crowd = Crowd(sys.argv[1], bytes.fromhex(sys.argv[2]))
    async with trio.open_nursery() as nursery:
        for member in sys.argv[4:]:
            name, _, source = member.partition("=")
            for _ in range(int(sys.argv[3])):
                nursery.start_soon(crowd.member, name, source)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(crowd.told()), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
