"""Connections that are kept, found broken, and replaced: over real TLS."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from qustream.aio.connection import Connection
from qustream.aio.listener import open_listener, serve
from qustream.aio.rpc import serve_requests
from qustream.client import connections as module
from qustream.client import idle
from qustream.client.asking import Ask
from qustream.client.connections import Connections
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord
from qustream.transport import blocking
from qustream.transport.engine import LocalHello
from qustream.transport.greeting import Peer
from qustream.wire.hello import Role

CHAIN = "connections-test"
DEVICE = SigningKey(b"d" * 32)


class Server:
    """A node that counts connections and requests; `drop`: how many requests end with the connection, unanswered."""

    def __init__(self, seed: bytes) -> None:
        self.key = SigningKey(seed)
        self.connections: list[Connection] = []
        self.requests: list[bytes] = []
        self.drop = 0
        self.socket = open_listener("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    async def handle(self, connection: Connection) -> None:
        self.connections.append(connection)

        async def answer(body: bytes, deadline_ms: int) -> bytes:
            self.requests.append(body)
            if self.drop:
                self.drop -= 1
                connection._link.close()
            if body == b"refuse":
                raise fault("E-NODE-FULL")
            if body == b"wait":
                await trio.sleep_forever()
            return b"<" + body + b">"

        await serve_requests(connection, answer)

    def record(self, *addresses: str) -> NodeRecord:
        return NodeRecord(self.key.public, NodeClass.COMMUNITY, "op", bytes(16), addresses or (self.address,), 1, True)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made = [Server(bytes([n]) * 32) for n in range(3)]
    token: list[Any] = []
    ready, stop = threading.Event(), trio.Event()

    async def main() -> None:
        token.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            for server in made:
                hello = LocalHello(CHAIN, (Role.NODE,))

                async def run(task_status: Any, server: Server = server, hello: LocalHello = hello) -> None:
                    await serve([server.socket], key=server.key, hello=hello, handler=server.handle, task_status=task_status)

                await nursery.start(run)
            ready.set()
            await stop.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    ready.wait(60)
    yield made
    token[0].run_sync_soon(stop.set)
    thread.join()


@pytest.fixture
def kept() -> Iterator[Connections]:
    made = Connections(DEVICE, CHAIN, 5_000)
    yield made
    made.close()


def ask(record: NodeRecord, body: bytes = b"a") -> Ask:
    def request(peer: Peer) -> bytes:
        assert peer.id == record.key.id
        return body

    return Ask(record, request, 100)


def test_a_connection_serves_again(servers: list[Server], kept: Connections) -> None:
    server = servers[0]
    assert [kept.ask(ask(server.record(), body)) for body in (b"a", b"b")] == [b"<a>", b"<b>"]
    assert len(server.connections) == 1


def test_each_request_is_made_for_the_channel_it_travels_on(servers: list[Server], kept: Connections) -> None:
    seen: list[bytes] = []

    def request(peer: Peer) -> bytes:
        seen.append(peer.exporter)
        return b"a"

    servers[0].drop = 1
    assert kept.ask(Ask(servers[0].record(), request, 100)) == b"<a>"
    assert len(seen) == 2
    assert seen[0] != seen[1]


def test_a_lost_answer_is_asked_for_once_more_and_then_given_up(servers: list[Server], kept: Connections) -> None:
    server = servers[0]
    server.drop = 1
    assert kept.ask(ask(server.record())) == b"<a>"
    assert server.requests == [b"a", b"a"]
    server.drop = 2
    with pytest.raises(QuStreamError) as caught:
        kept.ask(ask(server.record()))
    assert caught.value.code == "E-PEER-CLOSED"
    assert len(server.requests) == 4


def test_a_connection_that_died_meanwhile_is_made_anew(servers: list[Server], kept: Connections) -> None:
    server = servers[0]
    kept.ask(ask(server.record()))
    server.connections[0]._link._socket.shutdown(2)
    assert kept.ask(ask(server.record(), b"b")) == b"<b>"
    assert len(server.connections) == 2


def test_a_refusal_is_not_repeated(servers: list[Server], kept: Connections) -> None:
    with pytest.raises(QuStreamError) as caught:
        kept.ask(ask(servers[0].record(), b"refuse"))
    assert caught.value.code == "E-NODE-FULL"
    assert servers[0].requests == [b"refuse"]


def test_a_deadline_that_passes_is_tried_once_more(servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server, kept = servers[0], Connections(DEVICE, CHAIN, 400)
    # A slow clock, which leaps when the node has the request: no deadline passes on the way there.
    monkeypatch.setattr(blocking, "time", SimpleNamespace(monotonic=lambda: time.monotonic() / 100 + 3600 * len(server.requests)))
    with pytest.raises(QuStreamError) as caught:
        kept.ask(ask(server.record(), b"wait"))
    assert caught.value.code == "E-DEADLINE"
    assert server.requests == [b"wait", b"wait"]
    kept.close()


def test_addresses_are_tried_in_turn_and_the_trouble_names_the_last(servers: list[Server], kept: Connections, tmp_path: Path) -> None:
    with open_listener("127.0.0.1:0") as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    assert kept.ask(ask(servers[0].record(nobody, servers[1].address, servers[0].address))) == b"<a>"
    assert servers[1].requests == []
    for addresses, code, word in [
        ((nobody,), "E-PEER-UNREACHABLE", nobody),
        ((servers[1].address,), "E-PEER-IDENTITY", servers[1].address),
        (("no port",), "E-PEER-UNREACHABLE", "no port"),
        (("no..host:1",), "E-PEER-UNREACHABLE", "does not resolve"),
    ]:
        with pytest.raises(QuStreamError) as caught:
            kept.ask(ask(servers[2].record(*addresses)))
        assert caught.value.code == code
        assert word in caught.value.detail
    # Nobody proves who he is on a Unix socket: a licence's owner could have any program of this machine asked.
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as anybody:
        anybody.bind(path)
        anybody.listen()
        anybody.setblocking(False)
        with pytest.raises(QuStreamError, match="no address"):
            kept.ask(ask(servers[2].record(f"unix:{path}")))
        with pytest.raises(BlockingIOError):
            anybody.accept()
    without = NodeRecord(servers[2].key.public, NodeClass.COMMUNITY, "op", bytes(16), (), 1, True)
    with pytest.raises(QuStreamError, match="no address"):
        kept.ask(ask(without))


def test_an_address_that_swallows_everything_costs_no_more_than_a_connection_may(
    servers: list[Server], kept: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_MAX_MS", 300)
    with open_listener("127.0.0.1:0") as mute:  # the kernel accepts, nobody answers
        swallowing = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(QuStreamError) as caught:
            kept.ask(ask(servers[0].record(swallowing, servers[0].address)))
    assert caught.value.code == "E-DEADLINE"
    assert swallowing in caught.value.detail


def test_what_is_idle_for_long_is_not_trusted(servers: list[Server], kept: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.ask(ask(servers[0].record()))
    monkeypatch.setattr(idle, "IDLE_MAX_MS", -1)
    kept.ask(ask(servers[0].record()))
    assert len(servers[0].connections) == 2


def test_few_idle_connections_are_kept_the_longest_unused_goes(
    servers: list[Server], kept: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "IDLE_MAX", 2)
    for server in (*servers, servers[1], servers[2], servers[0]):
        kept.ask(ask(server.record()))
    assert [len(server.connections) for server in servers] == [2, 1, 1]


def test_two_threads_at_one_node_use_two_connections_and_one_stays(servers: list[Server], kept: Connections) -> None:
    together = threading.Barrier(2, timeout=60)

    def request(peer: Peer) -> bytes:
        together.wait()
        return b"a"

    one = Ask(servers[0].record(), request, 100)
    threads = [threading.Thread(target=kept.ask, args=(one,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.ask(ask(servers[0].record()))
    assert len(servers[0].connections) == 2


def test_closed_means_that_nothing_is_kept(servers: list[Server], kept: Connections) -> None:
    kept.ask(ask(servers[0].record()))
    kept.close()
    kept.close()
    kept.ask(ask(servers[0].record()))
    assert len(servers[0].connections) == 2
    assert not kept._idle._kept
