"""The network of peers as the one picture has it (`qnode.api.peers`), made anew of the views when asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from qnode.api.peers import DIALS_SHOWN_MAX, AddressTried, BulkCounts, DialStatus, GossipCounts, PeerLink, PeersStatus, TopicCounts
from qnode.core.peers import Wanted
from qnode.service.peers_known import KnownNodes
from qnode.service.peers_view import LinkView, Network
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass
from qustream.transport.address import parse_address

__all__ = ["peers_status"]

# As many as the network has nodes. The picture is made every second, and a text takes a third of a millisecond.
TEXTS_MAX = 8192


def peers_status(network: Network, known: KnownNodes, bulk: BulkCounts) -> PeersStatus:
    """`known`: says who the nodes are that we want a link to."""
    links, wanted = network.links, network.wanted
    return PeersStatus(
        known=network.known,
        unreached=network.unreached,
        wanted=len(wanted),
        links=tuple(_link(link) for link in links),
        dials=tuple(row for each in wanted[:DIALS_SHOWN_MAX] if (row := _dial(each, known)) is not None),
        dialled=dict(network.dialled),
        refused=dict(network.refused),
        greylisted=network.greylisted,
        lonely=network.is_lonely,
        reach=network.reach,
        reached_ms=network.reached_ms,
        tried=tuple(AddressTried(result.address, result.code) for result in network.dialled_back),
        seen_at=_hosts(network.seen_at),
        height_max=max((link.height for link in links), default=0),
        gossip=_gossip(network),
        bulk=bulk,
    )


@lru_cache(maxsize=TEXTS_MAX)
def _text(node: bytes) -> str:
    return to_text(IdKind.NODE, node)


def _link(link: LinkView) -> PeerLink:
    return PeerLink(
        node=_text(link.peer),
        operator=link.record.operator,
        node_class=NodeClass(link.record.node_class).name.lower(),
        direction="out" if link.ours else "in",
        reason="spare" if link.spare else link.reason,
        anchor=link.anchor,
        address=link.address,
        since_ms=link.since_ms,
        rtt_ms=link.rtt_ms,
        in_mesh=link.in_mesh,
        score=link.score,
        height=link.height,
        messages_in=link.messages_in,
        messages_out=link.messages_out,
        bytes_in=link.bytes_in,
        bytes_out=link.bytes_out,
    )


def _dial(wanted: Wanted, known: KnownNodes) -> DialStatus | None:
    record = known.get(wanted.peer)
    if record is None:
        return None  # it was struck off just now
    return DialStatus(
        node=_text(wanted.peer),
        operator=record.operator,
        node_class=NodeClass(record.node_class).name.lower(),
        addresses=wanted.addresses,
        purpose=str(wanted.purpose),
        tries=wanted.failures,
        code=wanted.code,
        next_ms=wanted.next_ms,
    )


def _gossip(network: Network) -> GossipCounts:
    return GossipCounts(
        topics={
            topic.name.lower(): TopicCounts(count.messages_in, count.messages_out, count.bytes_in, count.bytes_out)
            for topic, count in network.topics.items()
        },
        duplicates=network.duplicates,
        dropped=network.dropped,
        bad=network.bad,
        expelled=network.expelled,
    )


def _hosts(addresses: Iterable[str]) -> tuple[str, ...]:
    """Where peers see us, without the port, which is another for each of our connections; what most of them say comes first."""
    hosts: Counter[str] = Counter()
    for address in addresses:
        try:
            hosts[parse_address(address).host] += 1
        except QuStreamError:
            continue  # a peer may say anything
    return tuple(host for host, _ in hosts.most_common())
