"""The client object: its life."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import trio
from support.village import PASSPHRASE, User

import qustream
import qustream.aio.client as trio_module
import qustream.client.client as module
from qustream.aio.client import AsyncClient
from qustream.client.client import Client
from qustream.client.connections import Connections
from qustream.errors import QuStreamError


def test_from_home_opens_what_init_made(alice: User) -> None:
    with qustream.Client.from_home(str(alice.home), passphrase=PASSPHRASE) as client:
        assert client.home.user == alice.device.user
        assert [left for _, left in client.grants()] == [64]


@pytest.mark.parametrize(("passphrase", "code"), [(b"wrong", "E-KEYSTORE-OPEN"), (None, "E-SECRET-MISSING")])
def test_from_home_without_the_right_passphrase(alice: User, passphrase: bytes | None, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(QuStreamError) as caught:
        Client.from_home(alice.home, passphrase=passphrase)
    assert caught.value.code == code


def test_from_home_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(QuStreamError) as caught:
        Client.from_home(tmp_path)
    assert caught.value.code == "E-HOME"


def test_connections_are_closed_with_the_client_or_when_nobody_has_it_any_more(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Connections] = []

    def close(self: Connections) -> None:
        closed.append(self)

    monkeypatch.setattr(Connections, "close", close)
    with Client(alice.device, alice.registry()) as client:
        pass
    client.close()
    assert len(closed) == 1
    forgotten = Client(alice.device, alice.registry())
    gone = weakref.ref(forgotten)
    del forgotten
    gc.collect()
    assert gone() is None
    assert len(closed) == 2


class Chain:
    """As much of a chain by proofs as a client that asks nothing needs."""

    def __init__(self, name: str) -> None:
        self.chain, self.closed = name, 0

    def close(self) -> None:
        self.closed += 1


def test_a_network_that_the_client_has_opened_ends_with_it_and_no_other(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Chain(alice.registry().chain)
    monkeypatch.setattr(module, "open_home", lambda *_: (alice.device, network))
    with Client.from_home(alice.home) as client:
        assert network.closed == 0
    client.close()
    assert network.closed == 1
    forgotten = Client.from_home(alice.home)
    del forgotten
    gc.collect()
    assert network.closed == 2
    with Client(alice.device, network):  # type: ignore[arg-type]  # whoever gave it closes it
        pass
    assert network.closed == 2


def test_a_network_that_the_trio_client_has_opened_ends_with_it(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Chain(alice.registry().chain)
    monkeypatch.setattr(trio_module, "open_home", lambda *_: (alice.device, network))

    async def use() -> None:
        async with await AsyncClient.from_home(alice.home):
            assert network.closed == 0
        assert network.closed == 1
        with trio.CancelScope() as scope:
            async with await AsyncClient.from_home(alice.home):
                scope.cancel()
                await trio.sleep_forever()
        assert network.closed == 2, "also of who is told to stop"

    trio.run(use)
