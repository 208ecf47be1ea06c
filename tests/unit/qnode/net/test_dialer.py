"""Reaching a node: addresses in turn, the right node or none, names, bounds."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from support.session_pair import ALICE, BOB, HELLO

from qnode.net import dialer as module
from qnode.net.dialer import Dialer, is_local
from qnode.net.session import NODE_CHANNELS
from qustream.aio.connection import Connection
from qustream.aio.listener import serve
from qustream.errors import QuStreamError

NOBODY = "127.0.0.1:1"


@asynccontextmanager
async def listening() -> AsyncIterator[str]:
    """Bob's address."""
    handler: Callable[[Connection], Awaitable[None]] = lambda connection: connection.wait_closed()  # type: ignore[assignment,return-value]  # noqa: E731
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(
            partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, permit=lambda _: NODE_CHANNELS)
        )
        yield address
        nursery.cancel_scope.cancel()


async def code_of(addresses: list[str], peer: bytes = BOB.id) -> str:
    with pytest.raises(QuStreamError) as caught:
        await Dialer(ALICE, lambda: HELLO).reach(peer, addresses)
    return caught.value.code


async def test_the_first_address_that_answers_is_taken() -> None:
    async with listening() as address:
        reached = await Dialer(ALICE, lambda: HELLO).reach(BOB.id, [NOBODY, "unix:/nowhere", "not an address", address, NOBODY])
        async with reached.connection as connection:
            assert reached.address == connection.remote == address
            assert connection.peer.id == BOB.id
            assert connection.is_licensed


async def test_a_name_is_looked_up() -> None:
    async with listening() as address:
        named = f"localhost:{address.rpartition(':')[2]}"
        reached = await Dialer(ALICE, lambda: HELLO).reach(BOB.id, [named])
        async with reached.connection as connection:
            assert (reached.address, connection.remote) == (named, address)


async def test_who_is_somebody_else_is_not_taken() -> None:
    async with listening() as address:
        assert await code_of([address], ALICE.id) == "E-PEER-IDENTITY"


@pytest.mark.parametrize("addresses", [[], [NOBODY], ["unix:/run/somebody"], ["a..b:1"], ["no.such.name.invalid:1"], ["%%%"]])
async def test_what_leads_nowhere_is_unreachable(addresses: list[str]) -> None:
    assert await code_of(addresses) == "E-PEER-UNREACHABLE"


async def test_silence_costs_one_address_its_time_and_the_dial_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes the connection and says nothing does not hide the address behind his; together they have a bound as well."""
    monkeypatch.setattr(module, "ADDRESS_MS", 2_000)  # for the good one's handshake as well
    monkeypatch.setattr(module, "DIAL_MS", 6_000)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"127.0.0.1:{silent.getsockname()[1]}"
        async with listening() as address:
            reached = await Dialer(ALICE, lambda: HELLO).reach(BOB.id, [mute, address])
            async with reached.connection:
                assert reached.address == address
        monkeypatch.setattr(module, "ADDRESS_MS", 300)
        monkeypatch.setattr(module, "DIAL_MS", 900)
        assert await code_of([mute] * 50) == "E-DEADLINE"


async def test_lookups_that_hang_hold_no_more_than_their_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    release = trio.Event()
    asked = 0

    def hangs(_where: object) -> list[str]:
        nonlocal asked
        asked += 1
        trio.from_thread.run(release.wait, trio_token=token)
        return []

    token = trio.lowlevel.current_trio_token()
    monkeypatch.setattr(module, "_look_up", hangs)
    dialer = Dialer(ALICE, lambda: HELLO)

    async def dial(number: int) -> None:
        with pytest.raises(QuStreamError):
            await dialer.reach(BOB.id, [f"name{number}.example:1"])

    with monkeypatch.context() as short:  # not for the handshake below
        short.setattr(module, "ADDRESS_MS", 200)
        short.setattr(module, "DIAL_MS", 400)
        async with trio.open_nursery() as nursery:
            for number in range(3 * module.LOOKUPS_MAX):
                nursery.start_soon(dial, number)
    assert asked == module.LOOKUPS_MAX
    async with listening() as address:  # a number needs no lookup
        reached = await dialer.reach(BOB.id, [address])
        async with reached.connection:
            assert reached.address == address
    release.set()


async def test_no_descriptor_left_is_an_address_that_is_not_reached() -> None:
    await code_of([NOBODY])  # whatever is loaded late has been
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        assert await code_of([NOBODY, "[::1]:1"]) == "E-PEER-UNREACHABLE"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_family_that_the_machine_does_not_have_is_an_address_that_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr("qustream.aio.link.socket.socket", without_ipv6)
    assert await code_of(["[::1]:7400"]) == "E-PEER-UNREACHABLE"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:22", "10.1.2.3:7400", "192.168.0.1:1", "169.254.169.254:80", "100.64.0.1:1", "[::1]:7400", "[fe80::1]:1",
     "[fe80::1%eth0]:1", "[fd00::1]:1", "[::ffff:10.0.0.1]:1", "0.0.0.0:1", "[64:ff9b::10.0.0.1]:22", "[64:ff9b:1::9.9.9.9]:1",
     "[2002:a00:1::1]:22", "[::10.0.0.1]:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1", "[64:ff9b::224.0.0.1]:1"],
)  # fmt: skip
def test_what_is_local(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize("address", ["9.9.9.9:7400", "[2620:fe::fe]:7400", "[::ffff:9.9.9.9]:1", "[64:ff9b::9.9.9.9]:1"])
def test_what_is_not(address: str) -> None:
    assert not is_local(address)


async def test_nothing_local_is_reached_where_that_is_not_wanted_not_behind_a_name_either() -> None:
    async with listening() as address:
        named = f"localhost:{address.rpartition(':')[2]}"
        with pytest.raises(QuStreamError) as caught:
            await Dialer(ALICE, lambda: HELLO).reach(BOB.id, [address, named], local=())
        assert caught.value.code == "E-PEER-UNREACHABLE"
        reached = await Dialer(ALICE, lambda: HELLO).reach(BOB.id, [address, named], local=[named])
        async with reached.connection:
            assert reached.address == named
