"""Hosts on a network of their own, as a test sees them: `with Lan({"alice": ["45.1.0.1"]}, seed="7") as lan: lan["alice"].run(…)`.

Each host is a network namespace with one device; `support.lan.link` carries the packets. Nothing of it can reach this machine's own
networks, and nothing of it is left when the context ends, however it ends.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from support.debian import environment, program
from support.lan import namespace

__all__ = ["Host", "Lan", "Seen"]

_T = TypeVar("_T")
_TESTS = Path(__file__).resolve().parents[2]
_END_S = 10.0  # a link ends at once; a loaded machine takes its time
_ECHO = {4: (8, 0, socket.IPPROTO_ICMP), 6: (128, 129, socket.IPPROTO_ICMPV6)}  # what an echo and its answer are called


@dataclass(frozen=True)
class Seen:
    """A packet as the link saw it: when it came, when it was due, when it went on (0, 0: never), by the link's clock.

    `opens`: it asks for a TCP connection."""

    sender: str
    receiver: str
    size: int
    opens: bool
    sent_ns: int
    due_ns: int
    gone_ns: int

    @property
    def arrived(self) -> bool:
        return self.gone_ns > 0

    @property
    def took_ms(self) -> float:
        return (self.gone_ns - self.sent_ns) / 1e6


class Host:
    """One machine of the network: a thread that lives in its namespace, and whatever is started from it."""

    def __init__(self, name: str, addresses: list[str], descriptor: int) -> None:
        self.name, self.addresses = name, addresses
        self.descriptor = descriptor  # our own, of its namespace
        self._thread = ThreadPoolExecutor(1, f"host {name}", initializer=namespace.enter, initargs=(descriptor,))

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def address6(self) -> str:
        return next(each for each in self.addresses if ":" in each)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        os.close(self.descriptor)

    def run(self, function: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
        """Call it on this host: sockets it makes and programs it starts are the host's. One call at a time."""
        return self._thread.submit(function, *arguments, **named).result()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """A socket of this host; whoever has it may use it anywhere."""
        return self.run(socket.socket, family, kind, protocol)

    def ping(self, address: str, *, number: int = 1, wait_s: float = 2.0, size: int = 16) -> bool:
        """One echo and its answer."""
        version = 6 if ":" in address else 4
        asked, answered, protocol = _ECHO[version]
        with self.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_RAW, protocol) as wire:
            payload = struct.pack("!HH", os.getpid() & 0xFFFF, number) + bytes(size)
            checksum = _checksum(struct.pack("!BBH", asked, 0, 0) + payload) if version == 4 else 0  # the kernel's work for IPv6
            wire.sendto(struct.pack("!BBH", asked, 0, checksum) + payload, (address, 0))
            ends = time.monotonic() + wait_s
            while select.select([wire], [], [], max(0.0, ends - time.monotonic()))[0]:
                data, (source, *_) = wire.recvfrom(65536)
                data = data[20:] if version == 4 else data
                if source == address and data[0] == answered and data[4 : 4 + len(payload)] == payload:
                    return True
        return False

    def nft(self, rules: str) -> None:
        """Load these rules into the host's own kernel tables."""
        self._command("nft", ["-f", "-"], rules)

    def flush(self) -> None:
        """No rules any more."""
        self.nft("flush ruleset\n")

    def tc(self, *arguments: str) -> None:
        self._command("tc", [*arguments], "")

    def _command(self, name: str, arguments: list[str], text: str) -> None:
        found = program(name)
        assert found is not None, f"{name} is not here"
        done = self.run(
            subprocess.run, [found, *arguments], input=text, text=True, capture_output=True, env=environment(found), check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


class Lan:
    """The hosts and the link between them.

    `hosts`: by name, their addresses; one like `45.9.0.0/16` makes the whole prefix the host's. `seed` decides what the link draws."""

    def __init__(self, hosts: Mapping[str, Sequence[str]], *, seed: str, mtu: int = 1500) -> None:
        self._wanted, self._seed, self._mtu = hosts, seed, mtu
        self.hosts: dict[str, Host] = {}
        self.inodes: list[int] = []

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.lan.link", str(theirs.fileno()), self._seed],
                pass_fds=[theirs.fileno()], cwd=_TESTS, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._socket, self._lines = ours, ours.makefile("rwb")
        try:
            for name, addresses in self._wanted.items():
                self._add(name, list(addresses))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs on the hosts, and the hosts."""
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()
        self._lines.close()
        self._socket.close()
        try:
            self._process.wait(_END_S)
        finally:
            self._process.kill()
            self._process.wait()
            namespace.kill_inside(self.inodes)  # nobody, if the link has ended well

    def change(self, senders: Iterable[str], receivers: Iterable[str] = (), *, back: bool = True, **conditions: Any) -> None:
        """New conditions (`support.lan.way.Conditions`) from each sender to each receiver, or to all others; `back`: and back."""
        pairs = [(a, b) for a in senders for b in (list(receivers) or self.hosts) if a != b]
        ways = sorted({*pairs, *((b, a) for a, b in pairs)} if back else set(pairs))
        self._order("change", ways=ways, conditions=conditions)

    def partition(self, *groups: Iterable[str]) -> None:
        """Nothing passes between the groups any more; whoever is in none stands alone. Inside a group nothing changes."""
        group = {name: number for number, names in enumerate(groups) for name in names}
        ways = [(a, b) for a in self.hosts for b in self.hosts if a != b]
        apart = [(a, b) for a, b in ways if a not in group or b not in group or group[a] != group[b]]
        self._order("change", ways=apart, conditions={"cut": True})
        self._order("change", ways=[way for way in ways if way not in set(apart)], conditions={"cut": False})

    def heal(self) -> None:
        """No partition any more; delays and losses stay."""
        self._order("change", ways=[(a, b) for a in self.hosts for b in self.hosts if a != b], conditions={"cut": False})

    def move(self, name: str, addresses: Sequence[str]) -> None:
        """The host has these addresses instead of what it had."""
        self._order("move", name=name, addresses=list(addresses))
        self.hosts[name].addresses = list(addresses)

    def counts(self, sender: str, receiver: str) -> dict[str, int]:
        """What became of the packets of this way so far (`support.lan.way.Counts`)."""
        told = self._order("counts", sender=sender, receiver=receiver)
        assert isinstance(told, dict)
        return told

    def watch(self) -> None:
        """Begin to remember each packet that is sent from now on."""
        self._order("trace", on=True)

    def watched(self) -> list[Seen]:
        """The packets since then."""
        return [Seen(*each) for each in self._order("trace", on=False)]

    def dialled(self, sender: str) -> list[str]:
        """Whom this host has asked for a connection since then, in the order in which it did so first. Ends the watching."""
        dials = sorted((seen.sent_ns, seen.receiver) for seen in self.watched() if seen.sender == sender and seen.opens)
        return list(dict.fromkeys(receiver for _, receiver in dials))

    def _add(self, name: str, addresses: list[str]) -> None:
        theirs = self._order("add", name=name, addresses=addresses, mtu=self._mtu)
        descriptor = os.open(f"/proc/{self._process.pid}/fd/{theirs}", os.O_RDONLY | os.O_CLOEXEC)
        self.inodes.append(namespace.inode(descriptor))
        self.hosts[name] = Host(name, addresses, descriptor)

    def _order(self, what: str, **rest: Any) -> Any:
        self._lines.write(json.dumps({"do": what} | rest).encode() + b"\n")
        self._lines.flush()
        line = self._lines.readline()
        assert line, f"the link has ended ({self._process.wait(_END_S)})"
        return json.loads(line)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
