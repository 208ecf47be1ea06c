"""Who may begin a handshake: limits by address that cost nothing to check, before any signature is made.

Pure bookkeeping: times come in as milliseconds of any monotonic clock. An IPv6 address counts as its /64, for whoever has one has all.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Admission", "ListenerLimits", "address_key"]


@dataclass(frozen=True)
class ListenerLimits:
    """What a listener admits. The defaults suit a node on one core with applications behind shared addresses."""

    # An idle connection costs 77-110 KB: 1,024 of them ~100 MB.
    connections: int = 1024
    connections_per_address: int = 128
    # A handshake costs ~2 ms of CPU here; 64 at once keep the worst wait below the deadline many times over.
    handshakes: int = 64
    handshakes_per_address: int = 16
    # New connections of one address: at most so many at once, refilled by so many a second.
    burst_per_address: int = 128
    rate_per_address_per_s: int = 32
    # An honest handshake takes two round trips; ten seconds let a satellite do it.
    handshake_ms: int = 10_000
    # No whole message for so long, pings included: gone.
    idle_ms: int = 120_000
    # Addresses that are remembered; the longest unseen is forgotten first, which gives it a full bucket again.
    addresses: int = 8192


@dataclass
class _Address:
    connections: int = 0
    handshakes: int = 0
    tokens_milli: int = 0
    filled_ms: int = 0


def address_key(host: str) -> str:
    """What counts as one address: an IPv4 address, an IPv6 /64, or the text itself where it is neither."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(ip)


class Admission:
    """The counts of one listener."""

    def __init__(self, limits: ListenerLimits) -> None:
        self._limits = limits
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self.connections = 0
        self.handshakes = 0

    def admit(self, key: str, now_ms: int) -> str:
        """Count a new connection of `key` in, and its handshake. Returns why it is refused, or "" when it is admitted."""
        limits, entry = self._limits, self._entry(key, now_ms)
        if self.connections >= limits.connections:
            return "connections"
        if self.handshakes >= limits.handshakes:
            return "handshakes"
        if entry.connections >= limits.connections_per_address:
            return "connections_per_address"
        if entry.handshakes >= limits.handshakes_per_address:
            return "handshakes_per_address"
        if entry.tokens_milli < 1000:
            return "rate_per_address"
        entry.tokens_milli -= 1000
        entry.connections += 1
        entry.handshakes += 1
        self.connections += 1
        self.handshakes += 1
        return ""

    def shaken(self, key: str) -> None:
        """The handshake of an admitted connection is over, well or badly."""
        self.handshakes -= 1
        self._addresses[key].handshakes -= 1

    def left(self, key: str) -> None:
        """An admitted connection is gone."""
        self.connections -= 1
        self._addresses[key].connections -= 1

    def _entry(self, key: str, now_ms: int) -> _Address:
        full = self._limits.burst_per_address * 1000
        entry = self._addresses.get(key)
        if entry is None:
            self._make_room()
            entry = self._addresses[key] = _Address(tokens_milli=full, filled_ms=now_ms)
        self._addresses.move_to_end(key)
        gained = (now_ms - entry.filled_ms) * self._limits.rate_per_address_per_s
        entry.tokens_milli = min(full, entry.tokens_milli + gained)
        entry.filled_ms = now_ms
        return entry

    def _make_room(self) -> None:
        """Forget an address without connections. At most `connections` have some, so one is found within as many steps."""
        if len(self._addresses) < max(self._limits.addresses, self._limits.connections + 1):
            return
        for key, entry in self._addresses.items():
            if not entry.connections:
                del self._addresses[key]
                return
