"""Network namespaces without names: each lives as long as somebody holds its descriptor or runs in it, and no file tells of it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.debian import environment, program

__all__ = ["DEVICE", "enter", "holders", "inode", "inside", "kernel_takes", "kill_inside", "make", "open_tun", "possible"]

DEVICE = "tun0"  # what the link is called inside a host
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_TUN, _BARE = 0x0001, 0x1000  # IFF_TUN, IFF_NO_PI: IP packets and nothing before them
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter(descriptor: int) -> None:
    """Put the calling thread, and what it starts, into this network namespace. Its sockets stay where they were made."""
    _check(_libc.setns(descriptor, _NEW_NETWORK))


@contextmanager
def _back() -> Iterator[None]:
    """The calling thread is where it was when the context ends."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        enter(home)
        os.close(home)


@contextmanager
def make() -> Iterator[int]:
    """A new namespace, the calling thread inside it while the context lasts; its descriptor stays open."""
    with _back():
        _check(_libc.unshare(_NEW_NETWORK))
        yield os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """The calling thread is in this namespace while the context lasts."""
    with _back():
        enter(descriptor)
        yield


def open_tun() -> int:
    """The end of a new device `DEVICE` of this namespace: what is read from it the host has sent, what is written the host receives."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _SET_INTERFACE, struct.pack("16sH22x", DEVICE.encode(), _TUN | _BARE))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def possible() -> bool:
    """Whether this process may make a namespace and a device in it."""
    try:
        with make() as descriptor:
            os.close(descriptor)
            os.close(open_tun())
    except OSError:
        return False
    return True


def inode(descriptor: int) -> int:
    """What tells a namespace from every other."""
    return os.stat(descriptor).st_ino


def holders(inodes: Collection[int]) -> set[int]:
    """Processes that run, or have a thread or a descriptor, in one of these namespaces."""
    names = {f"net:[{each}]" for each in inodes}
    found: set[int] = set()
    for pattern in ("ns/net", "task/*/ns/net", "fd/*"):
        for path in Path("/proc").glob(f"[0-9]*/{pattern}"):
            with contextlib.suppress(OSError):  # ended meanwhile
                if os.readlink(path) in names:
                    found.add(int(path.parts[2]))
    return found


def kill_inside(inodes: Collection[int]) -> None:
    """End every process that runs in one of these namespaces: a daemon that a failed test has left."""
    names = {f"net:[{each}]" for each in inodes}
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if os.readlink(path) in names and int(path.parts[2]) != os.getpid():
                os.kill(int(path.parts[2]), signal.SIGKILL)


def kernel_takes(name: str, *arguments: str, text: str = "") -> bool:
    """Whether this program is here and the kernel does what it asks: tried in a namespace of its own."""
    found = program(name)
    if found is None or not possible():
        return False
    with make() as descriptor:
        os.close(descriptor)
        return (
            subprocess.run([found, *arguments], input=text, text=True, capture_output=True, env=environment(found), check=False).returncode
            == 0
        )
