"""Who may begin a handshake, and who has to leave when all places are taken: limits by address that cost nothing to check, before
any signature is made (`proto/spec/transport.md`, "Admission").

Pure bookkeeping: times come in as seconds of any monotonic clock. An IPv6 address counts as its /64, for whoever has one of it has all.

When every place is taken, places are shared out by address: a newcomer takes one from the address that holds the most, if that one
holds more than the newcomer's address would. So a flood from few addresses displaces itself. Against one from very many, each with its
one connection, a newcomer takes the place of a connection to which nothing was answered for a while, those that never asked for
anything that could be answered first: a place is for whoever uses it. So an honest peer still gets in.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Admission", "Bucket", "ListenerLimits", "Seat", "address_key"]


@dataclass(frozen=True)
class ListenerLimits:
    """What a listener admits. The defaults suit a node on one core with applications behind shared addresses."""

    # An idle connection costs ~100 KB: 1,024 of them ~100 MB.
    connections: int = 1024
    # An office behind one address, but no more than an eighth of the places.
    connections_per_address: int = 128
    # A handshake costs ~1.5 ms of CPU here, and 64 KiB of memory until its deadline; an office reconnects at once after a restart.
    handshakes_per_address: int = 64
    # New connections of one address: at most so many at once, refilled by so many a second (a twentieth of a core).
    burst_per_address: int = 128
    rate_per_address_per_s: int = 32
    # New connections of all addresses together: half a core at most, so that those who are in are still served in a flood.
    burst: int = 512
    rate_per_s: int = 256
    # TLS records and messages of all unlicensed peers of one address together; above it they are read more slowly. A request is one of
    # each: 2,048 requests a second, more than a node answers, and 2 % of a core if they are all rubbish.
    work_burst_per_address: int = 4096
    work_rate_per_address_per_s: int = 4096
    # An honest handshake takes two round trips; ten seconds let a satellite do it.
    handshake_ms: int = 10_000
    # No whole message for so long, pings included: gone.
    idle_ms: int = 120_000
    # How long a connection may be of no use before it has to give way: an honest one asks as soon as it stands, and is answered in
    # milliseconds. To hold all places nevertheless, a flood has to connect anew as fast as `rate_per_s` lets anybody.
    useless_ms: int = 2_000
    # Addresses that are remembered. The longest unseen is forgotten first, which only gives it a full bucket again.
    addresses: int = 8192


class Bucket:
    """A token bucket that may go into debt: `spend` always takes, and says how long to wait until it is even again."""

    __slots__ = ("_filled_at", "_rate_per_s", "_size", "_tokens")

    def __init__(self, size: int, rate_per_s: int, now_s: float) -> None:
        self._size = size
        self._rate_per_s = rate_per_s
        self._tokens = float(size)
        self._filled_at = now_s

    def _fill(self, now_s: float) -> None:
        self._tokens = min(self._size, self._tokens + (now_s - self._filled_at) * self._rate_per_s)
        self._filled_at = now_s

    def take(self, now_s: float, tokens: int = 1) -> bool:
        """Take so many tokens if they are there."""
        self._fill(now_s)
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def spend(self, tokens: int, now_s: float) -> float:
        """Take `tokens`, there or not; seconds until the debt is paid, 0 if there is none."""
        self._fill(now_s)
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate_per_s)


class Seat:
    """The place of one admitted connection. `displace` ends it; `heard_at` says when its peer last said something (never, while the
    handshake lasts), `served_at` when it was last given what it asked for (never yet), `is_busy` whether something it asked for is
    being worked on. One that `is_kept` is never displaced."""

    def __init__(self, key: str, displace: Callable[[], None], admitted_at: float) -> None:
        self.key = key
        self.displace = displace
        self.admitted_at = admitted_at
        self.heard_at: Callable[[], float] = lambda: float("-inf")
        self.served_at: Callable[[], float] = lambda: float("-inf")
        self.is_busy: Callable[[], bool] = lambda: False
        self.is_kept: Callable[[], bool] = lambda: False
        self.shaking = True


class _Address:
    def __init__(self, limits: ListenerLimits, now_s: float) -> None:
        self.seats: set[Seat] = set()
        self.handshakes = 0
        self.connects = Bucket(limits.burst_per_address, limits.rate_per_address_per_s, now_s)
        self.work = Bucket(limits.work_burst_per_address, limits.work_rate_per_address_per_s, now_s)


def address_key(host: str) -> str:
    """What counts as one address: an IPv4 address, an IPv6 /64, or the text itself where it is neither."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address)


class Admission:
    """The places of one listener."""

    def __init__(self, limits: ListenerLimits, now_s: float) -> None:
        self._limits = limits
        self._connects = Bucket(limits.burst, limits.rate_per_s, now_s)
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._taken = 0

    def admit(self, key: str, now_s: float, displace: Callable[[], None]) -> Seat | str:
        """A place for a new connection of address `key`, or the name of the limit that refuses it."""
        limits, address = self._limits, self._address(key, now_s)
        if len(address.seats) >= limits.connections_per_address:
            return "connections_per_address"
        if address.handshakes >= limits.handshakes_per_address:
            return "handshakes_per_address"
        if not address.connects.take(now_s):
            return "rate_per_address"
        if not self._connects.take(now_s):
            return "rate"
        if self._taken >= limits.connections and not (self._displace_for(address) or self._displace_useless(now_s)):
            return "connections"
        seat = Seat(key, displace, now_s)
        address.seats.add(seat)
        address.handshakes += 1
        self._taken += 1
        return seat

    def shaken(self, seat: Seat) -> None:
        """The handshake is over, well or badly."""
        if seat.shaking:
            seat.shaking = False
            self._addresses[seat.key].handshakes -= 1

    def leave(self, seat: Seat) -> None:
        """The connection is gone, or going. Harmless when repeated."""
        address = self._addresses.get(seat.key)
        if address is None or seat not in address.seats:
            return
        self.shaken(seat)
        address.seats.remove(seat)
        self._taken -= 1

    def work(self, seat: Seat) -> Bucket:
        """What all unlicensed peers of the seat's address share."""
        return self._addresses[seat.key].work

    def _displace_for(self, newcomer: _Address) -> bool:
        greediest = max(self._addresses.values(), key=lambda address: len(address.seats))
        if len(greediest.seats) <= len(newcomer.seats) + 1:
            return False
        movable = [seat for seat in greediest.seats if not seat.is_kept()]
        if not movable:
            return False
        self._displace(min(movable, key=lambda seat: seat.heard_at()))
        return True

    def _displace_useless(self, now_s: float) -> bool:
        long_ago_s = now_s - self._limits.useless_ms / 1000
        useless = [
            (seat.served_at(), seat.admitted_at, id(seat), seat)
            for address in self._addresses.values()
            for seat in address.seats
            if not seat.is_kept() and max(seat.served_at(), seat.admitted_at) <= long_ago_s and not seat.is_busy()
        ]
        if useless:
            self._displace(min(useless)[-1])
        return bool(useless)

    def _displace(self, seat: Seat) -> None:
        self.leave(seat)
        seat.displace()

    def _address(self, key: str, now_s: float) -> _Address:
        address = self._addresses.get(key)
        if address is None:
            self._make_room()
            address = self._addresses[key] = _Address(self._limits, now_s)
        self._addresses.move_to_end(key)
        return address

    def _make_room(self) -> None:
        """Forget an address without connections. At most `connections` have some, so one is found within as many steps."""
        if len(self._addresses) < max(self._limits.addresses, self._limits.connections + 1):
            return
        for key, address in self._addresses.items():
            if not address.seats:
                del self._addresses[key]
                return
