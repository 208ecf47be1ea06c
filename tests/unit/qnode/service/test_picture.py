"""Conditions and readiness of a node put together from real parts: a store on disk, a signed network file, a pool, links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.keys_world import CHAIN, World

from qnode.api.peers import AddressTried, DialStatus, PeersStatus
from qnode.api.status import StatusSnapshot
from qnode.service.counts import RequestCounts
from qnode.service.feed import FeedLink, LinkStatus
from qnode.service.picture import POOL_EMPTY_MAX_MS, Parts, Picture
from qnode.service.pool import Pool
from qnode.store import Store
from qustream.aio.listener import ListenerStats
from qustream.errors import CODES
from qustream.transport.greeting import LocalHello
from qustream.wire.hello import Role


class Scene:
    """A node without its tasks: the test does what they would."""

    def __init__(self, folder: Path, *, room_blocks: int = 64, restored_in_epoch: int | None = None) -> None:
        self.world = World(folder)
        self.pool = Pool(2)
        self.store = Store.open(folder / "data", bytes(32), room_blocks=room_blocks, marks_max=1000, restored_in_epoch=restored_in_epoch)
        self.link = FeedLink(
            "127.9.0.1:7300", self.world.qrng.id, pool=self.pool, key=self.world.node, hello=lambda: LocalHello(CHAIN, (Role.NODE,)),
            registry=self.world.registry, clock_ms=self.world.clock_ms, on_change=lambda: None,
        )  # fmt: skip
        self.counts, self.peers = RequestCounts(), ListenerStats()
        self.network = PeersStatus()
        parts = Parts(self.world.registry, self.store, self.pool, [self.link], self.counts, self.peers, lambda: self.network)
        self.picture = Picture(self.world.node.id, CHAIN, parts, clock_ms=self.world.clock_ms)
        supply = self.pool.supply()
        supply.set_live(True)
        supply.reserve()
        for unit in self.world.shelf(2).units:
            supply.put(unit)

    def snapshot(self) -> StatusSnapshot:
        return self.picture.snapshot()

    def codes(self) -> list[str]:
        return [c.code for c in self.snapshot().conditions]

    def link_says(self, state: str, code: str, reason: str) -> None:
        self.link.status = LinkStatus(self.link.address, self.link.server, state, code, reason, self.world.now_ms, 0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    with scene.store:
        yield scene


def test_a_node_in_order_is_ready_and_has_no_conditions(scene: Scene) -> None:
    snapshot = scene.snapshot()
    assert (snapshot.ready, snapshot.conditions) == (True, ())
    assert (snapshot.node_class, snapshot.height, snapshot.epoch, snapshot.chain) == ("community", 1, 1, CHAIN)
    assert (snapshot.pool.units, snapshot.held.capacity) == (2, 64)


def test_an_empty_pool_is_a_reason_only_when_it_stays_empty(scene: Scene) -> None:
    scene.link_says("failed", "E-DEV-LATCHED", "repetition count 31")
    for _ in range(2):
        assert scene.pool.take(scene.world.now_ms)
    scene.world.now_ms += POOL_EMPTY_MAX_MS
    assert scene.snapshot().ready
    scene.world.now_ms += 1
    snapshot = scene.snapshot()
    assert not snapshot.ready
    [reason] = [c for c in snapshot.conditions if c.stops]
    assert reason.code == "E-ENTROPY-SHORT"
    assert "127.9.0.1:7300 is failed: repetition count 31" in reason.detail
    assert reason.remedy == CODES["E-ENTROPY-SHORT"].remedy


def test_a_link_in_trouble_is_a_condition_and_no_reason_while_there_are_units(scene: Scene) -> None:
    scene.link_says("refused", "E-PEER-IDENTITY", "another identity answers than the one expected")
    snapshot = scene.snapshot()
    assert snapshot.ready
    assert [(c.code, c.stops) for c in snapshot.conditions] == [("E-PEER-IDENTITY", False)]
    assert snapshot.conditions[0].detail.startswith("127.9.0.1:7300: ")
    assert snapshot.links[0].state == "refused"


def test_a_node_that_is_not_licensed_is_not_ready(scene: Scene) -> None:
    scene.world.writer.set_node_active(scene.world.node.id, False)
    scene.world.publish()
    snapshot = scene.snapshot()
    assert (snapshot.ready, snapshot.node_class) == (False, "unlicensed")
    assert [(c.code, c.stops) for c in snapshot.conditions] == [("E-PEER-UNLICENSED", True)]


def test_a_bad_network_file_is_a_condition_and_in_time_a_reason(scene: Scene) -> None:
    scene.world.writer.path.write_bytes(b"nonsense")
    scene.world.wait(60_000)
    assert [(c.code, c.stops) for c in scene.snapshot().conditions] == [("E-REGISTRY-SIGNATURE", False)]
    scene.world.wait(1)
    snapshot = scene.snapshot()
    assert not snapshot.ready
    assert [(c.code, c.stops) for c in snapshot.conditions] == [("E-CHAIN-STALE", True), ("E-REGISTRY-SIGNATURE", False)]


def test_a_clock_before_the_network_is_a_reason_and_no_crash(scene: Scene) -> None:
    scene.world.now_ms = 1_000_000
    snapshot = scene.snapshot()
    assert (snapshot.ready, snapshot.epoch) == (False, 0)
    assert "E-CLOCK" in [c.code for c in snapshot.conditions if c.stops]


def test_a_disk_without_room_is_a_reason(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.store:
        scene.store._writer._reserve_bytes = 1 << 60  # more than any disk has: the check itself is the real one
        scene.store.sweep(scene.world.now_ms).result(10)
        snapshot = scene.snapshot()
        assert not snapshot.ready
        assert [(c.code, c.stops) for c in snapshot.conditions] == [("E-DISK-FULL", True)]
        assert "MiB are free" in snapshot.conditions[0].detail


def test_a_restored_node_says_from_when_it_serves(tmp_path: Path) -> None:
    scene = Scene(tmp_path, restored_in_epoch=1)
    with scene.store:
        [reason] = scene.snapshot().conditions
        assert (reason.code, reason.stops) == ("E-NODE-READONLY", True)
        assert "from epoch 2 on" in reason.detail
        scene.world.wait(3 * 86_400_000)
        assert "E-NODE-READONLY" not in scene.codes()


def test_stopping_is_a_reason(scene: Scene) -> None:
    scene.picture.is_stopping = True
    assert [(c.code, c.stops) for c in scene.snapshot().conditions] == [("E-PEER-CLOSED", True)]


async def test_time_counts_as_ready_only_while_it_was(scene: Scene, autojump_clock: trio.testing.MockClock) -> None:
    for _ in range(3):
        scene.picture.tick()
        await trio.sleep(2)
    assert scene.picture.tick().ready_ms == 4000
    scene.picture.is_stopping = True
    await trio.sleep(5)
    scene.picture.tick()
    assert scene.snapshot().ready_ms == 6000


def test_the_snapshot_survives_json_and_holds_nothing_of_peers(scene: Scene) -> None:
    scene.peers.refused["connections"] += 3
    scene.peers.handshakes_failed["E-TLS-GROUP"] += 2
    scene.counts.count_refused("E-GRANT-SPENT")
    snapshot = scene.snapshot()
    assert StatusSnapshot.from_json(snapshot.to_json()) == snapshot
    assert (snapshot.peers.refused, snapshot.peers.handshakes_failed) == (3, 2)


def test_a_node_without_links_says_so_and_serves_on(scene: Scene) -> None:
    dials = [DialStatus("qn1", "", "community", (), "chosen", 1, code, 0) for code in ("E-DEADLINE", "E-MADE-UP", "E-DEADLINE", "")]
    scene.network = PeersStatus(known=9, lonely=True, dials=tuple(dials), dialled={"E-PEER-UNREACHABLE": 12, "reached": 3})
    [found] = scene.snapshot().conditions
    assert (found.code, found.stops, scene.snapshot().ready) == ("E-NO-PEERS", False, True)
    assert found.detail == "none of 9 known nodes is linked; the last dials ended with: E-ANSWER-INVALID 1, E-DEADLINE 2"
    assert scene.snapshot().network == scene.network


def test_a_network_of_one_has_no_peers_to_miss(scene: Scene) -> None:
    scene.network = PeersStatus(known=0, lonely=True)
    assert scene.codes() == []


def test_a_node_that_nobody_reaches_says_what_each_address_gave_and_serves_on(scene: Scene) -> None:
    tried = (AddressTried("192.0.2.7:7400", "E-DEADLINE"), AddressTried("\x1b[2J", "E-MADE-UP"))
    scene.network = PeersStatus(known=9, reach="unreachable", tried=tried)
    [found] = scene.snapshot().conditions
    assert (found.code, found.stops, scene.snapshot().ready) == ("E-UNREACHABLE", False, True)
    assert found.detail.endswith("did not get through: 192.0.2.7:7400 E-DEADLINE; ?[2J E-ANSWER-INVALID")
    scene.network = PeersStatus(known=9, reach="unreachable")
    assert scene.snapshot().conditions[0].detail.endswith("no address of this node is known to others")
    scene.network = PeersStatus(known=9, reach="unknown")
    assert scene.codes() == []
