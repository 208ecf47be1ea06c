"""Which links the epoch's seed assigns, what a gossip message is called (`proto/spec/gossip.md`, §1 and §6), and what may stand as a node's
address (`proto/spec/peers.md`)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence

__all__ = ["ASSIGNED_LINKS", "assigned_peers", "assigning_peers", "is_address", "message_id", "offsets", "prefix", "ring"]

# Half of the links a node opens: nobody can choose to be, or not to be, the neighbour of a node by these.
ASSIGNED_LINKS = 4
# What one provider hands out at one place is mostly within such a prefix, and many of them cost money.
_PREFIX_V4, _PREFIX_V6 = 16, 32
_ADDRESS_MAX_CHARS = 128  # a name, or a number with brackets and its port, with room
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
# Resolvers take 127.1, 0x7f000001 and 2130706433 for numbers; we do not, so that nobody hides where he points to.
_LIKE_NUMBER = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)\.?", re.ASCII)
_MESSAGE = b"qustream/1/gossip"
_RING = b"qustream/1/peering"
_OFFSET = b"qustream/1/peering/offset"


def _labelled(label: bytes) -> bytes:
    return bytes([len(label)]) + label


_MESSAGE_PREFIX = _labelled(_MESSAGE)


def message_id(topic: int, body: bytes) -> bytes:
    """The id of a gossip message, 32 bytes."""
    return hashlib.sha256(_MESSAGE_PREFIX + bytes([topic]) + body).digest()


def ring(seed: bytes, nodes: Iterable[bytes]) -> list[bytes]:
    """The node ids in the order in which they stand on the epoch's ring."""
    prefix = _labelled(_RING) + seed
    return sorted(nodes, key=lambda node: (hashlib.sha256(prefix + node).digest(), node))


def offsets(seed: bytes, count: int) -> list[int]:
    """The epoch's offsets on a ring of `count` nodes: four different ones, fewer where there are not so many."""
    found: list[int] = []
    k = 0
    while len(found) < min(ASSIGNED_LINKS, count - 1):
        digest = hashlib.sha256(_labelled(_OFFSET) + seed + k.to_bytes(4, "big")).digest()
        offset = int.from_bytes(digest[:8], "big") % (count - 1) + 1
        if offset not in found:
            found.append(offset)
        k += 1
    return found


def assigned_peers(seed: bytes, standing: Sequence[bytes], node: bytes) -> list[bytes]:
    """The nodes to which `node` opens a link because the seed says so. `standing`: what `ring` gave. A node that is not on it has none."""
    try:
        place = standing.index(node)
    except ValueError:
        return []
    return [standing[(place + offset) % len(standing)] for offset in offsets(seed, len(standing))]


def assigning_peers(seed: bytes, standing: Sequence[bytes], node: bytes) -> list[bytes]:
    """The nodes that open a link to `node` because the seed says so: `assigned_peers` seen from the other end."""
    try:
        place = standing.index(node)
    except ValueError:
        return []
    return [standing[(place - offset) % len(standing)] for offset in offsets(seed, len(standing))]


def _parts(address: str) -> tuple[str, str]:
    """Host, without brackets, and port; two empty texts where the form is another."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    return ("", "") if ":" in host else (host, port)


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address in IPv6 form is the IPv4 address."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
    return mapped or number


def is_address(text: str) -> bool:
    """Whether `text` may stand in an address record: `host:port`, numeric (not unspecified, not of a group, without a zone) or a name."""
    host, port = _parts(text)
    if not host or len(text) > _ADDRESS_MAX_CHARS or "%" in host:
        return False
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and port[0] != "0" and int(port) <= 0xFFFF):
        return False
    number = _number(host)
    if number is not None:
        return not number.is_unspecified and not number.is_multicast and ("[" in text) == (":" in host)
    last = host.rstrip(".").rpartition(".")[2]
    return _NAME.fullmatch(host) is not None and "[" not in text and _LIKE_NUMBER.fullmatch(last) is None


def prefix(address: str) -> str:
    """The /16 or /32 of a numeric `host:port`; empty for anything else."""
    number = _number(_parts(address)[0].partition("%")[0])
    if number is None:
        return ""
    if number.version == 4:  # a tenth of the time that the other way takes
        return f"{int(number) >> 24}.{int(number) >> 16 & 0xFF}.0.0/{_PREFIX_V4}"
    return str(ipaddress.ip_network((number, _PREFIX_V6), strict=False))
