"""The network that the end-to-end tests share."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.network import ROOT, Network, run, start_network

BASE_PORTS = range(8100, 8900, 7)  # beside scripts/run and scripts/testnet.py
PAGES = 80  # above the base port: the status pages


def free_base_port() -> int:
    """A base port nobody uses, so that two runs of these tests can stand beside each other."""
    for port in BASE_PORTS:
        try:
            for number in (port, port + PAGES):
                with socket.socket() as probe:
                    probe.bind(("127.100.0.1", number))
        except OSError:
            continue
        return port
    raise AssertionError("every base port is taken")


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One network for all tests of a session; each test brings its own users and leaves every daemon running."""
    directory = tmp_path_factory.mktemp("net")
    try:
        yield start_network(directory, free_base_port())
    finally:
        run(ROOT / "scripts" / "testnet.py", "down", "--dir", directory, "--forget")
