"""Sockets from systemd: what is taken, what is refused. With a real process in tests/integration/test_qrngd_daemon.py."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys

import pytest

from qrngd.sockets import inherited_sockets
from qustream.errors import OperatorFault

# The descriptors are fixed by the protocol, so each case runs in a process of its own.
PROGRAM = """
import os, socket
from qrngd.sockets import inherited_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
found = inherited_sockets()
assert not any(name.startswith("LISTEN") for name in os.environ)
assert not any(os.get_inheritable(sock.fileno()) for socks in found.values() for sock in socks)
print({name: len(socks) for name, socks in found.items()})
"""


def taken(names: str, *sockets: socket.socket) -> subprocess.CompletedProcess[str]:
    with_copies = [os.dup(sock.fileno()) for sock in sockets]
    shuffle = "import os, sys\n" + "".join(
        f"os.dup2({descriptor}, {100 + n})\n" for n, descriptor in enumerate(with_copies)
    ) + "".join(f"os.dup2({100 + n}, {3 + n})\n" for n in range(len(with_copies)))  # fmt: skip
    environment = {**os.environ, "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
    try:
        return subprocess.run(
            [sys.executable, "-c", shuffle + PROGRAM], capture_output=True, text=True, check=False, env=environment, pass_fds=with_copies
        )
    finally:
        for descriptor in with_copies:
            os.close(descriptor)


def test_none_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert inherited_sockets() == {}
    monkeypatch.setenv("LISTEN_PID", "1")  # meant for another process
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert inherited_sockets() == {}
    assert "LISTEN_FDS" not in os.environ


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "17")
    with pytest.raises(OperatorFault, match="E-CONFIG"):
        inherited_sockets()


def test_listeners_are_taken_by_name() -> None:
    with (
        socket.create_server(("127.9.0.1", 0)) as a,
        socket.create_server(("127.9.0.1", 0)) as b,
        socket.create_server(("127.9.0.1", 0)) as c,
    ):
        done = taken("feed:pages:feed", a, b, c)
    assert (done.stdout, done.stderr) == ("{'feed': 2, 'pages': 1}\n", "")


def test_other_sockets_are_refused() -> None:
    with socket.create_server(("127.9.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert "FileDescriptorName= is one of" in taken("web", server).stderr
        assert "not a listening TCP socket" in taken("feed", datagrams).stderr
    with socket.socket() as silent:
        assert "not a listening TCP socket" in taken("feed", silent).stderr


@pytest.mark.parametrize(("before", "after"), [((100, 5000), (5000, 5000)), ((100, 50_000), (8192, 50_000)), ((9000, 9500), (9000, 9500))])
def test_as_many_descriptors_as_are_permitted_and_needed(before: tuple[int, int], after: tuple[int, int]) -> None:
    if before[1] > resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
        before = after = (100, 100)  # this machine permits less, and nobody may raise that
    code = f"""
import resource
from qrngd.sockets import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, {before})
allow_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(after)
