"""Reaching a node at one of its addresses (`proto/spec/peers.md`, §5)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import trio

from qnode.net.session import NODE_CHANNELS
from qustream.aio.connection import Connection, connect
from qustream.aio.deadline import Deadline
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.transport.address import Address, parse_address, show_address
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel

__all__ = ["Dialer", "Reached", "is_local"]

# One address gets half of what the whole dial gets: a packet filter that swallows everything must not hide the next address.
ADDRESS_MS, DIAL_MS = 5_000, 10_000
# Numbers of one name that are tried.
NUMBERS_MAX = 4
# IPv6 numbers whose last 32 bits are an IPv4 one: what a translator on the way (RFC 6052) or an old system (RFC 4291) makes of them.
TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# And those that a local translator may put its own meaning into (RFC 8215).
TRANSLATED_WITHIN = ipaddress.IPv6Network("64:ff9b:1::/48")
# Names that are looked up at a time. A resolver that hangs holds its thread for half a minute, and shall hold no more than these.
LOOKUPS_MAX = 4


@dataclass(frozen=True, slots=True)
class Reached:
    """A connection, not entered yet, and the address that led to it."""

    connection: Connection
    address: str


class Dialer:
    """Connects as this node. `hello`: what it says of itself now; `channels`: what the other end may use."""

    def __init__(self, key: SigningKey, hello: Callable[[], LocalHello], channels: Collection[Channel] = NODE_CHANNELS) -> None:
        self._key, self._hello, self._channels = key, hello, channels
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)

    async def reach(self, peer: bytes, addresses: Sequence[str], *, local: Collection[str] | None = None) -> Reached:
        """The first of `addresses` at which the node `peer` proves itself. Only those in `local` (None: all) may lead into a local network
        or to this machine, be it by a name. Errors: of the last that was tried, `E-PEER-UNREACHABLE` if there was none."""
        trouble: QuStreamError = fault("E-PEER-UNREACHABLE", "the network has no address of this node")
        ends_s = trio.current_time() + DIAL_MS / 1000
        for address in addresses:
            left_ms = round((ends_s - trio.current_time()) * 1000)
            if left_ms <= 0:
                break
            try:
                is_within = local is None or address in local
                return Reached(await self._connect(peer, address, min(left_ms, ADDRESS_MS), is_within), address)
            except QuStreamError as error:
                trouble = error
        raise trouble

    async def _connect(self, peer: bytes, address: str, timeout_ms: int, is_within: bool) -> Connection:
        where = parse_address(address)
        if where.path:
            raise fault("E-PEER-UNREACHABLE", "a path is no address of a node")
        trouble: QuStreamError = fault("E-PEER-UNREACHABLE", f"{where.host} has no address")
        with Deadline(timeout_ms, "no connection within the deadline"):
            for number in await self._numbers(where):
                if not is_within and is_local(number):
                    continue
                try:
                    return await connect(
                        number, key=self._key, hello=self._hello(), expect=peer, timeout_ms=timeout_ms, permit=lambda _: self._channels
                    )  # fmt: skip
                except QuStreamError as error:
                    trouble = error
        raise trouble

    async def _numbers(self, where: Address) -> list[str]:
        try:
            ipaddress.ip_address(where.host.partition("%")[0])
            return [str(where)]
        except ValueError:
            pass
        try:
            found = await trio.to_thread.run_sync(_look_up, where, limiter=self._lookups, abandon_on_cancel=True)
        except (OSError, UnicodeError) as error:  # the latter for what cannot be a host name at all, such as `a..b`
            raise fault("E-PEER-UNREACHABLE", f"{where.host} does not resolve: {getattr(error, 'strerror', '')}") from None
        return [show_address(host, where.port) for host in found[:NUMBERS_MAX]]


def is_local(address: str) -> bool:
    """Whether a numeric `host:port` leads into a local network or to this machine, and not through the internet. What stands for an older
    number leads where that does, and what is of many is of nobody."""
    number = ipaddress.ip_address(parse_address(address).host.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        meant = number.ipv4_mapped or number.sixtofour or next((_older(number) for net in TRANSLATED if number in net), None)
        if meant is not None:
            return not meant.is_global or meant.is_multicast
        if number in TRANSLATED_WITHIN:
            return True
    return not number.is_global or number.is_multicast


def _older(number: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)


def _look_up(where: Address) -> list[str]:
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(target[0]) for _, _, _, _, target in found))
