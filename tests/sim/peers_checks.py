"""What must never be in a network of peers, and what must be in the end (`proto/spec/peers.md`)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qnode.core import peers_events as pe
from qnode.core import peers_limits as limits
from qnode.core.gossip_limits import LINKS_MAX
from qustream.rules.peering import assigned_peers, prefix, ring
from sim.seeds import Breach

if TYPE_CHECKING:
    from sim.peers_world import Honest, PeersWorld

__all__ = ["complaints", "effects", "honest_links", "state"]

# Assigned inbound links of three epochs, and our own assigned nodes that came to us.
BESIDE_MAX = 16


def must(world: PeersWorld, holds: bool, what: str) -> None:
    if not holds:
        raise Breach(f"seed {world.seed}, {world.clock.now_ms} ms, event {world.clock.events}: {what}; replay: {world.replay}")


def effects(world: PeersWorld, node: Honest, event: pe.Event, made: list[pe.Effect]) -> None:
    """What follows from one event, before it is carried out."""
    dialled: set[bytes] = set()
    for effect in made:
        if isinstance(effect, pe.Dial):
            must(world, len(node.dialling | dialled) < limits.DIALS_MAX, f"node {node.number} dials too many")
            must(world, effect.peer not in node.dialling | dialled, f"node {node.number} dials one twice")
            dialled.add(effect.peer)
            _dial(world, node, effect)
        elif isinstance(effect, pe.KeepAnchors):
            must(world, len(set(effect.anchors)) == len(effect.anchors) <= limits.ANCHORS_MAX, "anchors")
        elif isinstance(effect, pe.Admit):
            number = world.numbers[effect.peer]
            must(world, node.grey.get(number, 0) <= world.clock.now_ms, f"node {node.number} admits {number}, which is grey-listed")
    if isinstance(event, pe.LinkAsked | pe.LinkMade):
        answers = [effect for effect in made if isinstance(effect, pe.Admit | pe.Refuse | pe.HangUp) and effect.link == event.link]
        must(world, len(answers) == 1, f"node {node.number} answers {event} with {answers}")
    if isinstance(event, pe.LinkAsked) and isinstance(answers[0], pe.Refuse):
        _refused(world, node, event)


def _dial(world: PeersWorld, node: Honest, effect: pe.Dial) -> None:
    number, now_ms = world.numbers[effect.peer], world.clock.now_ms
    who = f"node {node.number} dials {number}, which"
    must(world, effect.peer in node.core.network.nodes and number != node.number, f"{who} is not known")
    must(world, number not in node.links, f"{who} is linked")
    must(world, node.grey.get(number, 0) <= now_ms, f"{who} is grey-listed")
    must(world, bool(effect.addresses), f"{who} is nowhere")
    failed_ms = node.failed_ms.get(effect.peer)
    must(world, failed_ms is None or now_ms - failed_ms >= limits.BACKOFF_FIRST_MS * 3 // 4, f"{who} has just failed")


def _refused(world: PeersWorld, node: Honest, event: pe.LinkAsked) -> None:
    """Who has us assigned is refused for nothing but a grey list, or another link that has just been made."""
    number, nodes = world.numbers[event.peer], node.core.network.nodes
    if event.peer not in nodes or node.grey.get(number, 0) > world.clock.now_ms or number in node.links:
        return
    for epoch in (node.epoch - 1, node.epoch, node.epoch + 1):
        seed = world.epoch_seed(epoch)
        is_assigned = world.ids[node.number] in assigned_peers(seed, ring(seed, nodes), event.peer)
        must(world, not is_assigned, f"node {node.number} refuses {number}, which was assigned to it")


def state(world: PeersWorld, node: Honest) -> None:
    """After every event."""
    core = node.core
    outbound, placed, links = core.links.outbound(), core.links.placed(), len(core.links)
    counted = [link for link in outbound if not link.spare]
    operators = Counter(link.operator for link in placed)
    dialling = core._dialling
    holds = (
        len(outbound) <= limits.OUTBOUND_MAX,
        len({link.operator for link in counted} - {core.network.operator}) == len(counted),
        len({link.prefix for link in counted}) == len(counted),
        len(placed) <= limits.INBOUND_MAX,
        max(operators.values(), default=0) <= limits.INBOUND_OPERATOR_MAX,
        links <= min(LINKS_MAX, limits.OUTBOUND_MAX + limits.INBOUND_MAX + BESIDE_MAX),
        links == len(node.links) == len(node.gossip.links),
        len(dialling.under_way) == len(node.dialling) <= limits.DIALS_MAX,
        max(len(dialling.attempts), len(dialling.book), len(dialling.grey)) <= len(world.places),
    )
    if not all(holds):
        must(world, False, f"node {node.number}, bound {holds.index(False)}: {core.sizes} {list(core.links)}")


def honest_links(world: PeersWorld, number: int) -> list[int]:
    """The honest nodes one is linked to, at both ends."""
    node = world.honest[number]
    return [peer for peer in node.links if peer in world.honest and number in world.honest[peer].links]


def complaints(world: PeersWorld) -> list[str]:
    """What is not as it has to be a while after the last fault. Every honest node is up and listed then."""
    found = [f"honest nodes {number} and {peer} are not linked" for number, peer in _parts(world)]
    for number, node in world.honest.items():
        for peer in node.links:
            if peer in world.honest and world.honest[peer].links.get(number) is not node.links[peer]:
                found.append(f"{number} has a link to {peer} that is none there")
        found += [f"{number} has grey-listed {peer}, which is honest" for peer in node.grey if peer in world.honest]
        found += _missing(world, node)
        found += [
            f"{number} does not know where {peer} is" for peer in world.honest
            if world.address[peer] not in node.core.addresses(world.ids[peer]) and peer != number
        ]  # fmt: skip
    return found


def _parts(world: PeersWorld) -> list[tuple[int, int]]:
    """The first honest node and those it cannot reach over honest ones."""
    first = min(world.honest)
    seen, todo = {first}, [first]
    while todo:
        for peer in honest_links(world, todo.pop()):
            if peer not in seen:
                seen.add(peer)
                todo.append(peer)
    return [(first, number) for number in world.honest if number not in seen]


def _missing(world: PeersWorld, node: Honest) -> list[str]:
    """Links under the rule that it could have and has not. A node that refused, for it has no place left, is not held against it."""
    outbound = node.core.links.outbound()
    counted = [link for link in outbound if not link.spare]
    if len(counted) >= limits.OUTBOUND_MAX - 2:
        return []
    operators = {link.operator for link in counted} | {node.core.network.operator}
    prefixes = {link.prefix for link in counted}
    return [
        f"{node.number} has {len(counted)} links under the rule, and none to {peer}"
        for peer, place in enumerate(world.places)
        if peer in world.honest and peer != node.number and peer not in node.links and place.operator not in operators
        and prefix(world.address[peer]) not in prefixes and not _was_full(node, world.ids[peer])
    ]  # fmt: skip


def _was_full(node: Honest, peer: bytes) -> bool:
    attempt = node.core._dialling.attempts.of(peer)
    return attempt is not None and attempt.failures > 0 and attempt.code == "E-PEER-LIMIT"
