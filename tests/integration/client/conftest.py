"""One village for all tests of the client; after each test every node is honest and running again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.village import User, Village, village

from qustream.aio import asking
from qustream.client import connections, plan
from qustream.client.asking import Gather

PATIENCE_MS = 60_000


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An honest node on a busy machine is nobody to be passed over; tests of slow ones have less patience. What a command does in a process
    of its own is not within reach of this."""
    monkeypatch.setattr(Gather, "patience_ms", PATIENCE_MS)
    monkeypatch.setattr(plan, "FAREWELL_MS", PATIENCE_MS)
    for connecting in (connections, asking):
        monkeypatch.setattr(connecting, "CONNECT_MAX_MS", PATIENCE_MS)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(tmp_path_factory.mktemp("village")) as made:
        yield made


@pytest.fixture
def net(shared: Village) -> Iterator[Village]:
    yield shared
    shared.heal()


@pytest.fixture(scope="session")
def alice(shared: Village) -> User:
    return shared.user("alice", requests=1024)


@pytest.fixture(scope="session")
def bob(shared: Village) -> User:
    return shared.user("bob", requests=0)
