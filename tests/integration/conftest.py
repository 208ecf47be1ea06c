"""The network that the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.network import ROOT, Network, run, start_network

BASE_PORT = 8100  # beside scripts/run and scripts/testnet.py


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One network for all tests of a session; each test brings its own users and leaves every daemon running."""
    directory = tmp_path_factory.mktemp("net")
    try:
        yield start_network(directory, BASE_PORT)
    finally:
        run(ROOT / "scripts" / "testnet.py", "down", "--forget", "--dir", directory)
