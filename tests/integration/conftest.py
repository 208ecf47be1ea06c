"""The network that the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.hostile import Siege
from support.network import ROOT, Network, run, start_network
from support.places import free_base_port


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One network for all tests of a session; each test brings its own users and leaves every daemon running."""
    directory = tmp_path_factory.mktemp("net")
    with free_base_port() as base_port:
        try:
            yield start_network(directory, base_port)
        finally:
            run(ROOT / "scripts" / "testnet.py", "down", "--dir", directory, "--forget")


@pytest.fixture(scope="session")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """A node among honest ones, for all tests that attack it; each brings its own attackers and leaves it as it was."""
    made = Siege(tmp_path_factory.mktemp("siege"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
