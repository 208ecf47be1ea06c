"""As much of rtnetlink as a host of a test's network needs: a device up, its addresses, its routes. In place of the program `ip`."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

__all__ = ["Netlink"]

_NEW_LINK, _NEW_ADDRESS, _DELETE_ADDRESS, _NEW_ROUTE, _GET_ROUTE = 16, 20, 21, 24, 26
_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_ERROR = 2  # NLMSG_ERROR; with errno 0 it is the acknowledgement
_UP = 1  # IFF_UP
_MTU, _QUEUE_LENGTH = 4, 13  # IFLA_…
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8  # IFA_…
_NO_DUPLICATE_CHECK = 0x02  # IFA_F_NODAD: nobody else is on the wire, and it takes a second
_DESTINATION, _OUT, _PREFERRED_SOURCE = 1, 4, 7  # RTA_…
_MAIN, _LOCAL_TABLE = 254, 255
_STATIC = 4  # RTPROT_STATIC
_UNICAST, _OURS = 1, 2  # RTN_UNICAST, RTN_LOCAL
_ON_LINK, _ON_HOST = 253, 254  # RT_SCOPE_…


class Netlink:
    """A socket to the kernel in the network namespace where it was made; it stays there wherever its owner goes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def up(self, device: str, *, mtu: int = 0, queue: int = 0) -> None:
        """Set the device up; `queue`: packets it keeps while nobody reads."""
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(device), _UP, _UP)
        body += _attribute(_MTU, struct.pack("=I", mtu)) if mtu else b""
        body += _attribute(_QUEUE_LENGTH, struct.pack("=I", queue)) if queue else b""
        self._ask(_NEW_LINK, 0, body)

    def add_address(self, device: str, address: str) -> None:
        self._ask(_NEW_ADDRESS, _CREATE | _REPLACE, self._address(device, address))

    def is_ours(self, address: str) -> bool:
        """Whether packets for it end here by now: the kernel sets up what belongs to a new IPv6 address a moment later."""
        packed = ipaddress.ip_address(address).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = struct.pack("=BBBBBBBBI", family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0) + _attribute(_DESTINATION, packed)
        self._send(_GET_ROUTE, 0, body)
        answer = self._socket.recv(65536)
        kind, route_type = struct.unpack_from("=4xH", answer)[0], answer[16 + 7]
        return kind == _NEW_ROUTE and route_type == _OURS

    def delete_address(self, device: str, address: str) -> None:
        self._ask(_DELETE_ADDRESS, 0, self._address(device, address))

    def route_all(self, device: str, source: str) -> None:
        """Whatever is not of this host leaves by `device`; `source` is the address it shows unless a socket is bound to another."""
        packed = ipaddress.ip_address(source).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _MAIN, _STATIC, _ON_LINK, _UNICAST, 0)
        body += _attribute(_OUT, struct.pack("=i", socket.if_nametoindex(device))) + _attribute(_PREFERRED_SOURCE, packed)
        self._ask(_NEW_ROUTE, _CREATE | _REPLACE, body)

    def own_prefix(self, prefix: str) -> None:
        """Every address of `prefix` is this host's: a socket may be bound to any of them."""
        network = ipaddress.ip_network(prefix)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        body = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, _LOCAL_TABLE, _STATIC, _ON_HOST, _OURS, 0)
        body += _attribute(_DESTINATION, network.network_address.packed)
        body += _attribute(_OUT, struct.pack("=i", socket.if_nametoindex("lo")))
        self._ask(_NEW_ROUTE, _CREATE | _REPLACE, body)

    @staticmethod
    def _address(device: str, address: str) -> bytes:
        packed = ipaddress.ip_address(address).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = struct.pack("=BBBBI", family, len(packed) * 8, 0, 0, socket.if_nametoindex(device))
        return body + _attribute(_LOCAL, packed) + _attribute(_ADDRESS, packed) + _attribute(_FLAGS, struct.pack("=I", _NO_DUPLICATE_CHECK))

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._send(kind, _ACK | flags, body)
        answer = self._socket.recv(65536)
        _, what, _, sequence, _, number = struct.unpack_from("=IHHIIi", answer)
        assert (what, sequence) == (_ERROR, self._sequence), (what, sequence)
        if number:
            raise OSError(-number, f"netlink {kind}: {errno.errorcode.get(-number, '?')} {os.strerror(-number)}")


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)
