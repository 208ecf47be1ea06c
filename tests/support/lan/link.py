"""The network of a test, in a process of its own: it makes the hosts' namespaces and carries every packet between them.

`python -m support.lan.link DESCRIPTOR` talks over that Unix socket: a JSON object a line, one answer for each. It ends when the other side
does, and takes everything that still runs in its namespaces along. `support.lan.network` is the other side.
"""

from __future__ import annotations

import ctypes
import heapq
import ipaddress
import itertools
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any

from support.lan import namespace
from support.lan.netlink import Netlink
from support.lan.way import Conditions, Way

_PACKET_BYTES = 65536  # the largest there is
_BATCH = 64  # packets read of one host before the others have their turn
_SETTLE_S = 0.001  # between two looks whether the kernel is done with an address
_QUEUE = 4096  # packets a host's device keeps while the link is busy
# What may be under way at one time; more is a test's mistake, and dropped rather than kept.
_FLYING_MAX = 50_000
_TRACE_MAX = 100_000  # packets remembered while a trace is on


class Station:
    """A host as the link sees it: its namespace, its device, and a socket to its kernel."""

    def __init__(self, name: str, mtu: int) -> None:
        self.name = name
        self.addresses: list[str] = []
        with namespace.make() as self.descriptor:
            self.device = namespace.open_tun()
            self.kernel = Netlink()
            self.kernel.up("lo")
            self.kernel.up(namespace.DEVICE, mtu=mtu, queue=_QUEUE)

    def move(self, addresses: list[str]) -> None:
        """Have these addresses and no others; the first of each family is what its packets show. A prefix is a host's as a whole."""
        with namespace.inside(self.descriptor):
            for gone in set(self.addresses) - set(addresses):
                assert "/" not in gone, "a prefix stays"
                self.kernel.delete_address(namespace.DEVICE, gone)
            for each in reversed(addresses):
                if "/" in each:
                    self.kernel.own_prefix(each)
                else:
                    self.kernel.add_address(namespace.DEVICE, each)
                    self.kernel.route_all(namespace.DEVICE, each)
        self.addresses = addresses
        while not all(self.kernel.is_ours(each) for each in addresses if "/" not in each):
            time.sleep(_SETTLE_S)


class Link:
    """Carries packets between stations, each by the conditions of its way."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.stations: dict[str, Station] = {}
        self.ways: dict[tuple[str, str], Way] = {}
        self.trace: deque[tuple[str, str, int, bool, int, int, int]] | None = None
        self._trace_from_ns = 0  # whoever sent before has nothing to do with what is watched, even if it arrives now
        self._owners: dict[bytes, Station] = {}  # by address, or by the first half of it where a host has the prefix
        self._by_device: dict[int, Station] = {}
        self._ways: dict[int, dict[bytes, tuple[Way, Station]]] = {}  # by device and destination: what was looked up once
        self._flying: list[tuple[int, int, int, bytes, Way, int, str, str]] = []
        self._number = itertools.count()
        self._poll = select.epoll()

    def add(self, name: str, addresses: list[str], mtu: int) -> Station:
        station = self.stations[name] = Station(name, mtu)
        for other in self.stations:
            for pair in ((name, other), (other, name)):
                self.ways[pair] = Way(f"{self.seed} {pair[0]} {pair[1]}")
        self._by_device[station.device] = station
        self._poll.register(station.device, select.EPOLLIN)
        self.move(name, addresses)
        return station

    def move(self, name: str, addresses: list[str]) -> None:
        station = self.stations[name]
        for each in station.addresses:
            self._owners.pop(_key(each), None)
        station.move(addresses)
        for each in addresses:
            self._owners[_key(each)] = station
        self._ways = {device: {} for device in self._by_device}

    def run(self, control: Control, end: int) -> None:
        """Until the control's other side is gone, or something can be read from the descriptor `end`."""
        self._poll.register(control.descriptor, select.EPOLLIN)
        self._poll.register(end, select.EPOLLIN)
        flying = self._flying
        while True:
            wait_s = max(0.0, (flying[0][0] - time.monotonic_ns()) / 1e9) if flying else -1
            for descriptor, _ in self._poll.poll(wait_s):
                if descriptor == control.descriptor:
                    if not control.serve(self):
                        return
                elif descriptor == end:
                    return
                else:
                    self._take(descriptor)
            if flying:
                self._deliver()

    def watch(self, on: bool) -> list[tuple[str, str, int, bool, int, int, int]]:
        """Begin to remember the packets that hosts send from now on, or end it; what was remembered until now."""
        for device in self._by_device:
            self._take(device)
        told = list(self.trace or ())
        self.trace, self._trace_from_ns = deque(maxlen=_TRACE_MAX) if on else None, time.monotonic_ns()
        return told

    def _take(self, device: int) -> None:
        """What this host has sent."""
        known = self._ways[device]
        for _ in range(_BATCH):
            try:
                packet = os.read(device, _PACKET_BYTES)
            except BlockingIOError:
                return
            target = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
            found = known.get(target)
            if found is None:
                found = self._look_up(device, target)
                if found is None:
                    continue  # nobody has this address: as on the Internet, no answer
            self._send(device, packet, *found)

    def _send(self, device: int, packet: bytes, way: Way, station: Station) -> None:
        counts = way.counts
        counts.packets += 1
        counts.bytes += len(packet)
        now_ns = time.monotonic_ns()
        dues = (now_ns,) if way.plain else way.due(now_ns, len(packet))
        sender = self._by_device[device].name
        if self.trace is not None and not dues:
            self.trace.append((sender, station.name, len(packet), _opens(packet), now_ns, 0, 0))
        for due_ns in dues:
            if due_ns <= now_ns:
                self._arrive(station.device, packet, way, (now_ns, due_ns, sender, station.name))
            elif len(self._flying) < _FLYING_MAX:
                entry = (due_ns, next(self._number), station.device, packet, way, now_ns, sender, station.name)
                heapq.heappush(self._flying, entry)
            else:
                counts.overflowed += 1

    def _deliver(self) -> None:
        """What is due by now."""
        flying, now_ns = self._flying, time.monotonic_ns()
        while flying and flying[0][0] <= now_ns:
            due_ns, _, device, packet, way, sent_ns, sender, receiver = heapq.heappop(flying)
            late_us = (now_ns - due_ns) // 1000
            if late_us > way.counts.latest_us:
                way.counts.latest_us = late_us
            self._arrive(device, packet, way, (sent_ns, due_ns, sender, receiver))

    def _arrive(self, device: int, packet: bytes, way: Way, when: tuple[int, int, str, str]) -> None:
        try:
            os.write(device, packet)
        except OSError:  # the host's own queue is full
            way.counts.overflowed += 1
            return
        way.counts.delivered += 1
        sent_ns, due_ns, sender, receiver = when
        if self.trace is not None and sent_ns >= self._trace_from_ns:
            self.trace.append((sender, receiver, len(packet), _opens(packet), sent_ns, due_ns, time.monotonic_ns()))

    def _look_up(self, device: int, target: bytes) -> tuple[Way, Station] | None:
        station = self._owners.get(target) or self._owners.get(target[: len(target) // 2])
        if station is None:
            return None
        found = self.ways[self._by_device[device].name, station.name], station
        if len(self._ways[device]) < _TRACE_MAX:
            self._ways[device][target] = found
        return found


def _opens(packet: bytes) -> bool:
    """Whether it asks for a TCP connection: SYN without ACK."""
    header, protocol = ((packet[0] & 15) * 4, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    return protocol == socket.IPPROTO_TCP and len(packet) > header + 13 and packet[header + 13] & 0x12 == 0x02


def _key(address: str) -> bytes:
    """An address, or the first half of a prefix: /16 of IPv4, /64 of IPv6."""
    if "/" not in address:
        return ipaddress.ip_address(address).packed
    network = ipaddress.ip_network(address)
    assert network.prefixlen * 2 == network.max_prefixlen, "the link knows prefixes of half an address"
    return network.network_address.packed[: network.prefixlen // 8]


class Control:
    """The other side's orders, each a method of this class by its name."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rwb")

    def serve(self, link: Link) -> bool:
        """One order; false when the other side is gone."""
        line = self._lines.readline()
        if not line:
            return False
        order = json.loads(line)
        answer = getattr(self, "do_" + order.pop("do"))(link, **order)
        self._lines.write(json.dumps(answer).encode() + b"\n")
        self._lines.flush()
        return True

    def do_add(self, link: Link, name: str, addresses: list[str], mtu: int) -> int:
        return link.add(name, addresses, mtu).descriptor

    def do_move(self, link: Link, name: str, addresses: list[str]) -> None:
        link.move(name, addresses)

    def do_change(self, link: Link, ways: list[list[str]], conditions: dict[str, Any]) -> None:
        """Conditions for these ways; what is not named stays as it is."""
        for sender, receiver in ways:
            way = link.ways[sender, receiver]
            kept = {name: getattr(way.conditions, name) for name in Conditions.__dataclass_fields__}
            way.change(Conditions(**kept | conditions))

    def do_counts(self, link: Link, sender: str, receiver: str) -> dict[str, int]:
        return link.ways[sender, receiver].counts.as_dict()

    def do_trace(self, link: Link, on: bool) -> list[tuple[str, str, int, bool, int, int, int]]:
        """Begin to remember packets, or end and tell them."""
        return link.watch(on)


def main() -> int:
    # A parent that was killed outright tells nobody. Its end of the socket would, were it not for children that may have that, too.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us when it is done
    # An exception out of a signal's handler could come while we clean up; a byte to read cannot.
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)
    link = Link(sys.argv[2])
    try:
        with suppress(ConnectionError):
            link.run(Control(int(sys.argv[1])), woken)
    finally:
        namespace.kill_inside([namespace.inode(each.descriptor) for each in link.stations.values()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
