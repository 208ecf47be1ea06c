"""The core of the network of peers, event by event: whom it dials, admits, refuses, displaces and leaves."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import pytest

from qnode.core import peers_limits as limits
from qnode.core.peers import Peers, step
from qnode.core.peers_events import (
    AddressesLearnt,
    Admit,
    AskDialBack,
    Dial,
    DialBackTold,
    DialFailed,
    Effect,
    Event,
    Expelled,
    HangUp,
    KeepAnchors,
    Known,
    LinkAsked,
    LinkLost,
    LinkMade,
    NetworkChanged,
    Purpose,
    Refuse,
    Ticked,
)
from qustream.rules.peering import assigned_peers, prefix, ring
from qustream.wire.peers import LinkReason

ME = bytes([100]) * 32
_E = TypeVar("_E", bound=Effect)


def name(number: int) -> bytes:
    """Even ones are smaller than ours, odd ones larger."""
    return bytes([number % 2 * 200]) + number.to_bytes(31, "big")


def seed(epoch: int) -> bytes:
    return bytes([epoch]) * 32


def of(kind: type[_E], effects: list[Effect]) -> list[_E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def network(count: int, *, operators: int = 10_000, prefixes: int = 10_000) -> dict[bytes, Known]:
    nodes = {ME: Known("our own", ("9.9.0.1:7400",))}
    for number in range(count):
        place = number % prefixes
        nodes[name(number)] = Known(f"operator {number % operators}", (f"{10 + place // 200}.{place % 200}.0.{number % 200 + 1}:7400",))
    return nodes


class Node:
    """A core, driven by hand in a network in which everybody who is dialled accepts, but those in `down`."""

    def __init__(self, nodes: dict[bytes, Known], *, epoch: int = 5, anchors: tuple[bytes, ...] = ()) -> None:
        self.core = Peers(ME, anchors)
        self.now_ms, self.links = 1_000, 0
        self.down: set[bytes] = set()
        self.nodes = nodes
        self.changes(epoch)

    def changes(self, epoch: int, nodes: dict[bytes, Known] | None = None, meshed: frozenset[bytes] = frozenset()) -> list[Effect]:
        self.nodes = self.nodes if nodes is None else nodes
        return self.does(NetworkChanged(epoch, {each: seed(each) for each in range(epoch - 1, epoch + 2)}, self.nodes, meshed))

    def does(self, event: Event) -> list[Effect]:
        return step(self.core, event, self.now_ms)

    def ticks(self, later_ms: int = 1_000) -> list[Effect]:
        self.now_ms += later_ms
        return self.does(Ticked(self.now_ms * 0x9E3779B97F4A7C15 & (1 << 64) - 1))

    def made(self, dial: Dial) -> list[Effect]:
        if dial.peer in self.down:
            return self.does(DialFailed(dial.peer, dial.purpose, "E-PEER-UNREACHABLE"))
        self.links += 1
        return self.does(LinkMade(self.links, dial.peer, dial.purpose, prefix(dial.addresses[0])))

    def runs(self, ticks: int, later_ms: int = 1_000) -> list[Effect]:
        """Ticks, with all dials answered at once; everything that came of it."""
        out: list[Effect] = []
        for _ in range(ticks):
            effects = self.ticks(later_ms)
            out += effects
            for dial in of(Dial, effects):
                out += self.made(dial)
        return out

    def asks(self, peer: bytes, *, where: str | None = None) -> list[Effect]:
        self.links += 1
        place = where if where is not None else prefix(self.nodes[peer].addresses[0]) if peer in self.nodes else "9.0.0.0/16"
        return self.does(LinkAsked(self.links, peer, LinkReason.CHOSEN, place))

    def assigned(self, epoch: int) -> list[bytes]:
        return assigned_peers(seed(epoch), ring(seed(epoch), self.nodes), ME)

    def ours(self) -> set[bytes]:
        return {link.peer for link in self.core.links if link.ours}


def test_a_start_leads_to_eight_links_four_of_them_assigned_at_most_four_dials_at_a_time() -> None:
    node = Node(network(100))
    first = of(Dial, node.ticks())
    assert [dial.peer for dial in first] == node.assigned(5)
    assert {dial.purpose for dial in first} == {Purpose.ASSIGNED}
    assert first[0].addresses == node.nodes[first[0].peer].addresses
    assert node.ticks() == []  # all four are under way
    for dial in first:
        assert of(Admit, node.made(dial)) == [Admit(node.links, dial.peer, node.nodes[dial.peer].operator, True, True)]
    second = of(Dial, node.ticks())
    assert [dial.purpose for dial in second] == [Purpose.CHOSEN] * 4
    for dial in second:
        assert not of(Admit, node.made(dial))[0].assigned
    assert node.runs(50) == []
    assert node.core.sizes["outbound"] == 8
    assert node.core.sizes["spare"] == 0


def test_at_most_one_of_our_links_goes_to_an_operator_and_one_to_a_prefix() -> None:
    node = Node(network(200, operators=14, prefixes=17))
    node.runs(30)
    links = list(node.core.links)
    assert len(links) == 8
    assert len({link.operator for link in links}) == len({link.prefix for link in links}) == 8


def test_anchors_are_dialled_before_anybody_else() -> None:
    anchors = (name(70), name(71), name(72), name(999))
    node = Node(network(100), anchors=anchors)
    assert [dial.peer for dial in of(Dial, node.ticks())][:3] == list(anchors[:3])


def test_anchors_are_those_that_stood_longest_and_stay_while_there_are_no_others() -> None:
    node = Node(network(100))
    node.runs(3)
    assert not of(KeepAnchors, node.ticks(limits.ANCHOR_AFTER_MS - 5_000))
    kept = of(KeepAnchors, node.ticks(10_000))
    assert len(kept) == 1
    assert set(kept[0].anchors) <= node.ours()
    assert len(kept[0].anchors) == limits.ANCHORS_MAX
    node.down = set(node.nodes)
    for link in list(node.core.links):
        node.does(LinkLost(link.number, "E-PEER-CLOSED"))
    assert of(KeepAnchors, node.runs(60)) == []
    assert node.core.anchors == kept[0].anchors


def test_a_network_too_small_for_the_rule_is_linked_by_spare_links() -> None:
    node = Node(network(5, operators=2, prefixes=1))
    node.runs(5)
    assert node.ours() == {name(number) for number in range(5)}
    assert node.core.sizes["spare"] == 4
    alone = Node({ME: Known("we", ("10.0.0.1:1",)), name(1): Known("we", ("10.0.0.2:1",))})
    alone.runs(3)
    assert alone.ours() == {name(1)}  # our own operator, for there is nobody else
    both = Node({**alone.nodes, name(2): Known("they", ("10.0.0.3:1",))})
    both.runs(9)
    assert both.ours() == {name(2)}


def test_a_spare_link_goes_when_one_under_the_rule_stands_and_counts_when_nothing_is_in_its_way() -> None:
    node = Node(network(12, prefixes=1))
    node.runs(10)
    assert (node.core.sizes["outbound"], node.core.sizes["spare"]) == (8, 7)
    counting = next(link for link in node.core.links if not link.spare)
    node.does(LinkLost(counting.number, "E-PEER-CLOSED"))
    assert (node.core.sizes["outbound"], node.core.sizes["spare"]) == (7, 6)
    nodes = {**node.nodes, **{name(100 + n): Known(f"new {n}", (f"77.{n}.0.1:1",)) for n in range(20)}}
    node.changes(5, nodes)
    effects = node.runs(200)
    assert (node.core.sizes["outbound"], node.core.sizes["spare"]) == (8, 0)
    assert {effect.code for effect in of(HangUp, effects)} == {""}


def test_who_was_not_reached_is_tried_again_ever_later_and_at_once_if_we_are_alone() -> None:
    node = Node(network(1))
    node.down = {name(0)}
    tried: list[int] = []
    for _ in range(120):
        tried += [node.now_ms] * len(of(Dial, node.runs(1)))
    assert len(tried) > 7
    assert max(b - a for a, b in pairwise(tried)) <= limits.BACKOFF_ALONE_MAX_MS + 1_000
    other = Node(network(2))
    other.down = {name(0)}
    other.runs(2)
    assert other.ours() == {name(1)}
    tried = []
    for _ in range(4_000):
        tried += [other.now_ms] * len(of(Dial, other.runs(1)))
    gaps = [b - a for a, b in pairwise(tried)]
    assert gaps[0] >= 2 * limits.BACKOFF_FIRST_MS * 3 // 4
    assert gaps[-1] <= limits.BACKOFF_DUE_MAX_MS + 2_000  # an assigned one
    assert len(tried) < 50


def test_a_link_that_falls_at_once_is_a_dial_that_failed_and_one_that_stood_is_not() -> None:
    node = Node(network(100))
    node.runs(3)
    first, second = [link for link in node.core.links if not link.assigned][:2]
    node.does(LinkLost(first.number, "E-PEER-CLOSED"))
    assert node.core.unreached == 1
    node.runs(5)
    node.ticks(limits.STOOD_MS)
    node.does(LinkLost(second.number, "E-PEER-CLOSED"))
    assert node.core.unreached == 1
    assert node.does(LinkLost(second.number, "E-PEER-CLOSED")) == []


def test_what_a_peer_says_of_when_to_come_again_is_heeded_within_bounds() -> None:
    node = Node(network(2))
    node.asks(name(0))
    for dial in of(Dial, node.ticks()):
        node.does(DialFailed(dial.peer, dial.purpose, "hostile words", retry_after_ms=1 << 60))
    row = node.core.next_dials[0]
    assert (row.peer, row.failures, row.code) == (name(1), 1, "E-ANSWER-INVALID")
    assert row.next_ms <= node.now_ms + limits.BACKOFF_DUE_MAX_MS
    assert node.core.dialled == {"E-ANSWER-INVALID": 1}


@pytest.mark.parametrize("other", [name(50), name(51)], ids=["smaller", "larger"])
def test_of_two_links_opened_at_one_time_the_smaller_ones_stays(other: bytes) -> None:
    node = Node({ME: Known("we", ("9.9.0.1:1",)), other: Known("they", ("10.0.0.1:1",))})
    [dial] = of(Dial, node.ticks())
    assert of(Admit, node.asks(other))
    inbound = node.links
    effects = node.made(dial)
    if other < ME:
        assert effects == [HangUp(node.links)]
    else:
        assert effects == [HangUp(inbound), Admit(node.links, other, "they", True, True)]
        effects = node.asks(other)  # once more
        assert of(Refuse, effects) == [Refuse(node.links, "E-PEER-LIMIT", limits.REPLACE_AFTER_MS)]
    assert len(node.core.links) == 1


def test_a_peer_that_comes_back_takes_the_place_of_its_old_link() -> None:
    node = Node(network(40))
    node.asks(name(7))
    old = node.links
    assert of(Refuse, node.asks(name(7)))
    node.now_ms += limits.REPLACE_AFTER_MS + 1
    effects = node.asks(name(7))
    assert [type(effect) for effect in effects] == [HangUp, Admit]
    assert effects[0] == HangUp(old)


def test_who_is_not_known_is_refused_and_who_is_struck_off_is_hung_up() -> None:
    node = Node(network(20))
    assert node.asks(name(500)) == [Refuse(1, "E-PEER-UNLICENSED")]
    assert node.asks(ME) == [Refuse(2, "E-PEER-UNLICENSED")]
    node.asks(name(3))
    number = node.links
    dial = of(Dial, node.ticks())[0]
    nodes = {peer: known for peer, known in node.nodes.items() if peer not in (name(3), dial.peer)}
    assert HangUp(number, "E-PEER-UNLICENSED") in node.changes(5, nodes)
    assert node.made(dial) == [HangUp(node.links, "E-PEER-UNLICENSED")]


def test_an_expelled_peer_is_neither_dialled_nor_admitted_until_its_time_is_over() -> None:
    node = Node(network(3))
    node.runs(4)
    link = next(iter(node.core.links))
    until_ms = node.now_ms + 600_000
    assert node.does(Expelled(link.peer, until_ms)) == [HangUp(link.number, "E-PEER-LIMIT")]
    assert not of(Dial, node.runs(20))
    [refusal] = of(Refuse, node.asks(link.peer))
    assert refusal.retry_after_ms == until_ms - node.now_ms
    node.now_ms = until_ms
    assert [dial.peer for dial in of(Dial, node.runs(1))] == [link.peer]


def test_inbound_places_are_bounded_in_all_and_an_operator() -> None:
    node = Node(network(200, operators=50, prefixes=200))
    strangers = [peer for peer in node.nodes if peer != ME and peer not in node.core.network.assigning | set(node.core.network.assigned)]
    taken: dict[str, int] = {}
    for peer in strangers:
        operator = node.nodes[peer].operator
        effects = node.asks(peer)
        if of(Admit, effects):
            taken[operator] = taken.get(operator, 0) + 1
        else:
            assert of(Refuse, effects)[0].code == "E-PEER-LIMIT"
    assert max(taken.values()) <= limits.INBOUND_OPERATOR_MAX
    assert node.core.sizes["places"] == limits.INBOUND_MAX
    before = node.core.sizes["links"]
    for peer in sorted(node.core.network.assigning):
        assert of(Admit, node.asks(peer))[0].assigned
    assert node.core.sizes["links"] == before + len(node.core.network.assigning)
    assert node.core.sizes["places"] == limits.INBOUND_MAX


def test_a_newcomer_takes_the_place_of_the_youngest_of_a_crowded_prefix() -> None:
    node = Node(network(200, prefixes=200))
    strangers = [peer for peer in node.nodes if peer != ME and peer not in node.core.network.assigning | set(node.core.network.assigned)]
    for peer in strangers[: limits.INBOUND_MAX]:
        node.now_ms += 1_000
        assert of(Admit, node.asks(peer, where="66.6.0.0/16"))
    youngest = node.links
    assert of(Refuse, node.asks(strangers[30], where="66.6.0.0/16"))
    effects = node.asks(strangers[31], where="10.1.0.0/16")
    assert effects[0] == HangUp(youngest, "E-PEER-LIMIT")
    assert of(Admit, effects)
    for peer in strangers[32:100]:
        node.asks(peer, where=f"11.{node.links}.0.0/16")
    old = [link for link in node.core.links if link.prefix == "66.6.0.0/16"]
    assert len(old) == limits.INBOUND_KEPT


def test_in_a_new_epoch_assigned_links_are_opened_over_a_minute_and_the_old_ones_go_then() -> None:
    node = Node(network(300))
    node.runs(3)
    old, before = set(node.assigned(5)), node.ours()
    assert node.changes(6) == []
    opened: list[int] = []
    for _ in range(limits.SPREAD_MS // 1000 + 1):
        effects = node.runs(1)
        opened += [node.now_ms] * len(of(Admit, effects))
        assert len(of(HangUp, effects)) == len(of(Admit, effects))
        assert node.core.sizes["outbound"] == 8
    assert len(opened) == len(set(node.assigned(6)) - before)
    assert opened[-1] - opened[0] > 5_000
    assert set(node.assigned(6)) <= node.ours()
    assert len((old - set(node.assigned(6))) & node.ours()) == len(before & set(node.assigned(6)))  # no room was needed


def test_the_oldest_chosen_link_rotates_once_an_hour() -> None:
    node = Node(network(300))
    node.runs(3)
    before = node.ours()
    for _ in range(5):
        node.runs(3_600)
    after = node.ours()
    assert len(after) == 8
    assert after >= set(node.assigned(5))
    assert 3 <= len(before - after) <= 4  # all four that were chosen, by and by


def test_feelers_look_at_nodes_that_were_not_tried_for_long() -> None:
    node = Node(network(30))
    effects = node.runs(3_000)
    felt = [dial.peer for dial in of(Dial, effects) if dial.purpose is Purpose.FEELER]
    assert len(felt) == len(set(felt))
    assert 18 <= len(felt) <= 22
    assert node.core.sizes["attempts"] <= 30


def test_meshed_nodes_are_all_linked_beside_the_eight() -> None:
    node = Node(network(100))
    meshed = frozenset([ME, *(name(number) for number in range(10, 30))])
    node.changes(5, meshed=meshed)
    node.runs(20)
    assert meshed - {ME} <= node.ours()
    assert node.core.sizes["outbound"] == 8
    assert of(Admit, node.asks(name(60)))


def test_records_stand_before_the_registry_until_they_are_too_old() -> None:
    node = Node(network(1))
    node.does(AddressesLearnt(name(0), 50, ("44.4.4.4:1", "10.0.0.1:7400")))
    node.does(AddressesLearnt(name(0), 40, ("55.5.5.5:1",)))
    node.does(AddressesLearnt(name(9), 40, ("55.5.5.5:1",)))
    assert node.core.addresses(name(0)) == ("44.4.4.4:1", "10.0.0.1:7400")
    assert node.core.sizes["records"] == 1
    node.does(NetworkChanged(5, {}, node.nodes, records_from_ms=51))
    assert node.core.addresses(name(0)) == node.nodes[name(0)].addresses


def test_a_node_without_links_is_lonely_after_a_while() -> None:
    node = Node(network(3))
    node.down = set(node.nodes)
    node.runs(29)
    assert not node.core.is_lonely
    node.runs(3)
    assert node.core.is_lonely
    node.asks(name(0))
    node.runs(1)
    assert not node.core.is_lonely
    solitary = Node({ME: Known("we", ())})
    solitary.runs(60)
    assert not solitary.core.is_lonely


def test_two_peers_that_cannot_dial_back_make_us_unreachable_until_somebody_comes_in() -> None:
    node = Node(network(50))
    asked = of(AskDialBack, node.runs(70))
    assert len(asked) == limits.DIAL_BACK_PEERS
    for ask in asked:
        assert not node.core.reach.is_unreachable
        node.does(DialBackTold(ask.peer, False))
    assert node.core.reach.is_unreachable
    node.asks(name(40))
    assert not node.core.reach.is_unreachable
    assert not of(AskDialBack, node.runs(500))


def test_a_node_that_the_registry_does_not_have_asks_now_and_then() -> None:
    nodes = network(50)
    del nodes[ME]
    node = Node(nodes)
    node.down = set(nodes)
    assert not node.core.network.is_listed
    assert 3 <= len(of(Dial, node.runs(60))) <= 5
