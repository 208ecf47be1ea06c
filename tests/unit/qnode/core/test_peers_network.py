"""Who is known, and whom the epoch gives a node."""

from __future__ import annotations

from qnode.core.peers_events import Known, NetworkChanged, Purpose
from qnode.core.peers_link import PeerLink
from qnode.core.peers_network import Network
from qustream.rules.peering import assigned_peers, ring

SEEDS = {epoch: bytes([epoch]) * 32 for epoch in range(3, 9)}
IDS = [number.to_bytes(32, "big") for number in range(30)]
ME = IDS[0]


def network(epoch: int = 5, *, operators: int = 100, own: bytes = ME, meshed: frozenset[bytes] = frozenset()) -> Network:
    made = Network(own)
    nodes = {node: Known(f"o{number % operators}", ()) for number, node in enumerate(IDS)}
    made.changed(NetworkChanged(epoch, SEEDS, nodes, meshed))
    return made


def test_both_ends_of_an_assigned_link_agree_for_an_epoch_before_and_after() -> None:
    for peer in network().assigned:
        for epoch in (4, 5, 6):
            assert ME in network(epoch, own=peer).assigning
    everybody = {node for epoch in (4, 5, 6) for node in IDS if ME in assigned_peers(SEEDS[epoch], ring(SEEDS[epoch], IDS), node)}
    assert network().assigning == everybody
    assert len(everybody) <= 12


def test_of_one_operator_the_first_is_assigned_and_none_of_our_own() -> None:
    made = network(operators=3)
    operators = [made.nodes[peer].operator for peer in made.assigned]
    assert len(set(operators)) == len(operators) <= 2
    assert "o0" not in operators


def test_who_is_not_listed_has_nobody_assigned() -> None:
    made = network(own=bytes([9]) * 32)
    assert (made.is_listed, made.operator, made.assigned, made.assigning) == (False, "", (), frozenset())
    assert made.is_known(ME)
    assert not network().is_known(ME)
    assert not network().is_known(bytes([9]) * 32)


def test_a_link_is_what_the_registry_and_the_epoch_make_of_it() -> None:
    made = network()
    peer = made.assigned[0]
    ours = PeerLink(1, peer, "", "p", True, Purpose.CHOSEN, False, 0)
    made.label(ours)
    assert (ours.operator, ours.assigned, ours.reason, ours.is_outdated) == (made.nodes[peer].operator, True, Purpose.ASSIGNED, False)
    later = next(each for epoch in (7, 8) if peer not in (each := network(epoch)).assigned)
    later.label(ours)
    assert (ours.assigned, ours.reason, ours.is_outdated) == (False, Purpose.CHOSEN, True)
    later.label(ours)
    assert ours.is_outdated
    made.label(ours)
    assert (ours.assigned, ours.is_outdated) == (True, False)
    theirs = PeerLink(2, min(made.assigning), "", "p", False, Purpose.CHOSEN, False, 0)
    made.label(theirs)
    assert (theirs.assigned, theirs.takes_place) == (True, False)


def test_meshed_nodes_are_meshed_with_each_other_alone() -> None:
    meshed = frozenset(IDS[:4]) | {bytes([9]) * 32}
    made = network(meshed=meshed)
    assert made.meshed == frozenset(IDS[1:4])
    assert made.purpose(IDS[1]) is Purpose.MESHED
    assert network(own=IDS[7], meshed=meshed).meshed == frozenset()
    stranger = next(node for node in IDS[5:] if node not in made.assigned)
    assert made.purpose(stranger) is Purpose.CHOSEN
