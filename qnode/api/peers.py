"""What a running node says of its peers (`proto/spec/peers.md`): the part `network` of the one picture, and the page `/v1/peers`.

Plain data. Times are Unix ms; counters rise from the start of the daemon. Addresses, and what peers say they see, are chosen by peers
within bounds: JSON and metrics take them as they are (no label is made of them), text shows them through `shown`.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from msgspec import Struct

from qnode.api.spans import span_text
from qustream.errors import CODES
from qustream.wire.json_text import decode_json

__all__ = [
    "DIALS_SHOWN_MAX",
    "OFF",
    "AddressTried",
    "BulkCounts",
    "DialStatus",
    "GossipCounts",
    "PeerLink",
    "PeersPage",
    "PeersStatus",
    "TopicCounts",
    "code_shown",
    "lonely_text",
    "reach_text",
    "shown",
    "tried_text",
]

# What a screen takes. The rest of a large network that is down is counted, not listed.
DIALS_SHOWN_MAX = 32
OFF = "none, for the configuration says peers = false"
_SHOWN_MAX = 80  # characters of an address; the longest numeric one has 47, a name of that length is still told from another


class PeerLink(Struct, frozen=True):
    """A link. `node`: qn1…; `operator`, `node_class` (foundation, community): the registry's. `direction`: out or in.

    `reason`: assigned, chosen, meshed, or spare. `anchor`: dialled first after a restart. `address`: where it is connected to, or from.
    `rtt_ms`: -1 while not measured. `score`: its standing in gossip. `height`: of its network file, as it says itself. Messages and bytes
    are gossip's."""

    node: str
    operator: str
    node_class: str
    direction: str
    reason: str
    anchor: bool
    address: str
    since_ms: int
    rtt_ms: int
    in_mesh: bool
    score: int
    height: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int


class DialStatus(Struct, frozen=True):
    """A node that we want a link to and have none. `purpose`: assigned, chosen, meshed. `code`: why the last dial failed, '' if none has.
    `addresses`: as they are tried, the record's first. `next_ms`: when it is dialled again, 0 while it is being dialled."""

    node: str
    operator: str
    node_class: str
    addresses: tuple[str, ...]
    purpose: str
    tries: int
    code: str
    next_ms: int


class AddressTried(Struct, frozen=True):
    """What a peer that dialled back found at one of our addresses. `code`: '' if it got through."""

    address: str
    code: str


class TopicCounts(Struct, frozen=True):
    """Bodies of one topic, by way."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class GossipCounts(Struct, frozen=True):
    """`topics`: by name, in lower case. `duplicates`: bodies that were here already; `dropped`: for want of room, here or on the way out;
    `bad`: did not check; `expelled`: peers that were shown out."""

    topics: dict[str, TopicCounts] = {}
    duplicates: int = 0
    dropped: int = 0
    bad: int = 0
    expelled: int = 0


class BulkCounts(Struct, frozen=True):
    """Transfers, and their bytes. `served`: to peers; `fetched`: from peers; `failed`: fetches that led to nothing."""

    served: int = 0
    fetched: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class PeersStatus(Struct, frozen=True):
    """All of it. `enabled`: false where the configuration says `peers = false`; then nothing else is known.

    `known`: nodes a link could lead to, of them `unreached`: the last dial failed, by silence or a refusal. `links`: all that stand.
    `dials`: the first `DIALS_SHOWN_MAX` of `wanted` nodes we want a link to and have none. `dialled`: dials by what came of them,
    'reached' or a code; `refused`: links that were asked for and refused, by code. `greylisted`: peers we want nothing of, now.

    `lonely`: others are known, and no link has stood for a while. `reach`: reached, unreachable or unknown; `reached_ms`: when a known
    node last connected to us, 0 if none has; `tried`: what came of our addresses when a peer last dialled back; `seen_at`: where peers
    see us. `height_max`: the highest version of the network file a link speaks of."""

    enabled: bool = True
    known: int = 0
    unreached: int = 0
    wanted: int = 0
    links: tuple[PeerLink, ...] = ()
    dials: tuple[DialStatus, ...] = ()
    dialled: dict[str, int] = {}
    refused: dict[str, int] = {}
    greylisted: int = 0
    lonely: bool = False
    reach: str = "unknown"
    reached_ms: int = 0
    tried: tuple[AddressTried, ...] = ()
    seen_at: tuple[str, ...] = ()
    height_max: int = 0
    gossip: GossipCounts = GossipCounts()
    bulk: BulkCounts = BulkCounts()

    def ways(self) -> dict[str, int]:
        """Links by direction."""
        out = sum(link.direction == "out" for link in self.links)
        return {"out": out, "in": len(self.links) - out}


class PeersPage(Struct, frozen=True):
    """The page `/v1/peers`: whose peers these are, and when. `height`: the version of the network file in use here."""

    node: str
    addresses: tuple[str, ...]
    height: int
    epoch: int
    now_ms: int
    network: PeersStatus

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> PeersPage:
        """Raises ValueError when `data` is something else."""
        return decode_json(data, PeersPage)


def shown(text: str) -> str:
    """What somebody else chose, fit for a terminal: printable ASCII alone, and not endless."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text[: _SHOWN_MAX + 1])
    return clean if len(clean) <= _SHOWN_MAX else clean[:_SHOWN_MAX] + "..."


def code_shown(code: str) -> str:
    """A code of our table; anything else a peer may have made up."""
    return code if code in CODES else "E-ANSWER-INVALID"


def tried_text(tried: tuple[AddressTried, ...]) -> str:
    """What came of each of our addresses."""
    return "; ".join(f"{shown(each.address)} {code_shown(each.code) if each.code else 'reached'}" for each in tried)


def lonely_text(network: PeersStatus) -> str:
    """That no link stands, and what the last dial to each node that is wanted came to."""
    failed = Counter(code_shown(dial.code) for dial in network.dials if dial.code)
    ended = ", ".join(f"{code} {count}" for code, count in sorted(failed.items()))
    return f"none of {network.known} known nodes is linked; the last dials ended with: {ended or 'nothing yet'}"


def reach_text(network: PeersStatus, now_ms: int) -> str:
    """Whether others reach us, in words."""
    if network.reach == "unreachable":
        return "NOT reached"
    if network.reached_ms:
        return f"reached {span_text(now_ms - network.reached_ms)} ago"
    return "reached" if network.reach == "reached" else "not known whether reached"
