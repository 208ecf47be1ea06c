"""The client object: its life."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from support.village import PASSPHRASE, User

import qustream
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
