"""The plan: what is dialled first, for whom a place is kept, and what displays are told of it."""

from __future__ import annotations

from qnode.core import peers_limits as limits
from qnode.core.chance import Chance
from qnode.core.peers_dialling import Dialling
from qnode.core.peers_events import Dial, Known, NetworkChanged, Purpose
from qnode.core.peers_link import Links, PeerLink
from qnode.core.peers_network import Network

IDS = [number.to_bytes(32, "big") for number in range(60)]
ME = IDS[0]


class Plan:
    """A `Dialling` whose dials stay under way until they are told otherwise."""

    def __init__(self, *, anchors: tuple[bytes, ...] = (), one_prefix: bool = False) -> None:
        self.network, self.links = Network(ME), Links()
        self.dialling = Dialling(self.network, self.links, Chance(3), anchors)
        self.nodes = {node: Known(f"o{number}", (f"10.{0 if one_prefix else number}.0.{number}:1",)) for number, node in enumerate(IDS)}
        self.change(5, is_first=True)

    def change(self, epoch: int, *, is_first: bool = False) -> None:
        before = self.network.assigned
        self.network.changed(NetworkChanged(epoch, {each: bytes([each]) * 32 for each in (epoch - 1, epoch, epoch + 1)}, self.nodes))
        self.dialling.changed(before, 0, is_first=is_first)

    def link(self, dial: Dial, now_ms: int = 0) -> None:
        del self.dialling.under_way[dial.peer]
        made = PeerLink(len(self.links) + 1, dial.peer, "", f"p{len(self.links)}", True, dial.purpose, False, now_ms)
        self.network.label(made)
        self.links.add(made)
        self.dialling.linked(dial.peer)

    def fill(self) -> None:
        for now_ms in range(0, 10_000, 1_000):
            for dial in self.dialling.plan(now_ms):
                self.link(dial)


def test_anchors_then_assigned_nodes_then_drawn_ones() -> None:
    anchors = tuple(node for node in IDS[20:] if node not in Plan().network.assigned)[:4]
    plan = Plan(anchors=anchors)
    order: list[Dial] = []
    for now_ms in (0, 1_000, 2_000):
        order += (dials := plan.dialling.plan(now_ms))
        for dial in dials:
            plan.link(dial)
    assert [dial.peer for dial in order] == [*anchors, *plan.network.assigned]
    assert len(plan.links) == limits.OUTBOUND_MAX


def test_a_place_is_kept_for_an_assigned_node_until_it_has_failed() -> None:
    plan = Plan()
    plan.fill()
    [gone] = [link for link in plan.links if link.peer == plan.network.assigned[0]]
    plan.links.remove(gone)
    assert [dial.purpose for dial in plan.dialling.plan(20_000)] == [Purpose.ASSIGNED]
    plan.dialling.under_way.clear()
    plan.dialling.attempts.failed(gone.peer, "E-DEADLINE", 20_000, chance=Chance(), alone=False)
    assert [dial.purpose for dial in plan.dialling.plan(21_000)] == [Purpose.CHOSEN]
    row = next(row for row in plan.dialling.wanted() if row.peer == gone.peer)
    assert (row.purpose, row.failures, row.code) == (Purpose.ASSIGNED, 1, "E-DEADLINE")
    assert row.next_ms > 21_000
    assert plan.dialling.wanted()[0].next_ms == 0  # the one that is being dialled


def test_in_a_new_epoch_assigned_nodes_wait_for_a_moment_of_their_own() -> None:
    plan = Plan()
    plan.fill()
    linked = {link.peer for link in plan.links}
    plan.change(6)
    for link in plan.links:
        plan.network.label(link)
    moments: dict[bytes, int] = {}
    for now_ms in range(10_000, 10_000 + limits.SPREAD_MS + 1_000, 500):
        for dial in plan.dialling.plan(now_ms):
            assert dial.purpose is Purpose.ASSIGNED
            moments[dial.peer] = now_ms
    assert set(moments) == set(plan.network.assigned) - linked
    assert len(set(moments.values())) > 1


def test_two_dials_under_way_do_not_go_to_one_prefix_unless_there_is_no_other() -> None:
    plan = Plan(one_prefix=True)
    dials = plan.dialling.plan(0)
    assert len(dials) == limits.DIALS_MAX
    assert [dial.purpose for dial in dials].count(Purpose.ASSIGNED) == 1  # the others are spare, drawn by chance
    many = Plan()
    seen = [many.nodes[dial.peer].addresses[0].split(".")[1] for dial in many.dialling.plan(0)]
    assert len(set(seen)) == len(seen)


def test_who_is_grey_listed_is_not_dialled_before_its_time() -> None:
    plan = Plan()
    peer = plan.network.assigned[0]
    plan.dialling.grey[peer] = 30_000
    assert peer not in {dial.peer for dial in plan.dialling.plan(0)}
    assert next(row.next_ms for row in plan.dialling.wanted() if row.peer == peer) == 30_000
    plan.dialling.under_way.clear()
    assert peer in {dial.peer for dial in plan.dialling.plan(30_000)}
    assert plan.dialling.grey == {}
