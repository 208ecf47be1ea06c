"""Sockets that systemd opened for us (`sd_listen_fds(3)`): then the daemon needs no network of its own and can call nobody.

FileDescriptorName=feed     listeners for nodes, in place of `listen`
FileDescriptorName=pages    the listener of the status pages, in place of `status_listen`
"""

from __future__ import annotations

import os
import resource
import socket

from qustream.errors import fault

__all__ = ["allow_descriptors", "inherited_sockets"]

FIRST = 3  # by the protocol: after standard input, output and error
# Eight addresses for nodes as in the configuration, one for the pages, and room for a mistake to be named.
SOCKETS_MAX = 16
NAMES = ("feed", "pages")
# As in the unit: 1,024 connections to each listener, the pages, files, a few for each worker.
DESCRIPTORS = 8192


def allow_descriptors() -> None:
    """Let this process have as many descriptors as its limits of connections may take, if it is permitted: the usual 1,024 are used up by
    strangers who only connect, and then no worker can be started and no page be read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def inherited_sockets() -> dict[str, list[socket.socket]]:
    """The listening stream sockets handed to this process, by name; the environment forgets them. Raises E-CONFIG."""
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    if int(count) > SOCKETS_MAX:
        raise fault("E-CONFIG", f"{count} sockets were handed over; at most {SOCKETS_MAX} are expected")
    found: dict[str, list[socket.socket]] = {}
    listed = names.split(":")
    for number in range(int(count)):
        name = listed[number] if number < len(listed) else ""
        if name not in NAMES:
            raise fault("E-CONFIG", f"a socket named {name!r} was handed over; FileDescriptorName= is one of {', '.join(NAMES)}")
        os.set_inheritable(FIRST + number, False)
        found.setdefault(name, []).append(_listening(FIRST + number, name))
    return found


def _listening(number: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
        listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise fault("E-CONFIG", f"the socket {name!r} cannot be used: {error.strerror}") from None
    if not listens or sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise fault("E-CONFIG", f"the socket {name!r} is not a listening TCP socket; is ListenStream= an address?")
    return sock
