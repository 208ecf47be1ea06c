"""Where the tests of one process listen: two processes of pytest-xdist must never want the same address."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["free_base_port", "free_port", "free_ports", "host"]

# 0 without pytest-xdist, else the worker's number from 1.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")) + 1
LOCALNET_PORTS = range(8100, 8900, 82)  # beside scripts/run (7600 to 7999) and scripts/testnet.py (7300)
PAGES = 80  # above the base port: the status pages


def host(net: int) -> str:
    """A loopback address of this process alone, so that a port which a test gave back is still there when it comes again.

    7: the programs of others and pages, 8: nodes, 9: QRNG servers, 30 to 39: circles, from 40: towns, from 120: attackers.
    `scripts/testnet.py` has 127.1.0.1 to 127.6.0.1 and 127.100.0.1."""
    return f"127.{net}.{WORKER}.1"


def free_port(net: int) -> int:
    """A port that was free a moment ago at `host(net)`, where nobody but this process looks for one."""
    [port] = free_ports(net, 1)
    return port


def free_ports(net: int, count: int) -> list[int]:
    """As many, each another: two that are drawn one after the other may be the same."""
    with ExitStack() as held:
        return [held.enter_context(socket.create_server((host(net), 0))).getsockname()[1] for _ in range(count)]


@contextmanager
def free_base_port() -> Iterator[int]:
    """A base port for `scripts/testnet.py` that no other tests use; a bound socket tells them so while this lasts."""
    for port in LOCALNET_PORTS:
        with socket.socket() as mark:
            try:
                mark.bind(("127.100.0.1", port + PAGES + 1))
                for number in (port, port + PAGES):
                    with socket.socket() as probe:
                        probe.bind(("127.100.0.1", number))
            except OSError:
                continue
            yield port
            return
    raise AssertionError("every base port is taken")
