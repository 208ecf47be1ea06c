"""A network of peers cores, each with its gossip core, in one process under virtual time: everything follows from the seed
(`proto/spec/peers.md`).

    world = PeersWorld(seed=7, places=[Place("a"), Place("b", evil=Refuser), ...])
    world.run_ms(60_000); world.move(3); world.crash(5); world.restart(5)

What must never be is checked after every event (`peers_checks`); a breach raises `Breach`, whose text says how to see it again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qnode.core import gossip_events as ge
from qnode.core import peers_events as pe
from qnode.core.gossip import Gossip
from qnode.core.gossip import step as gossip_step
from qnode.core.gossip_events import Verdict
from qnode.core.peers import Peers
from qnode.core.peers import step as peers_step
from qnode.core.peers_limits import RECORD_EVERY_MS
from qnode.core.peers_records import check_record, records_from_ms
from qustream.errors import QuStreamError
from qustream.model.base import Signed
from qustream.model.network import AddressRecord
from qustream.rules.peering import prefix
from qustream.wire.codec import decode, encode
from qustream.wire.gossip import GossipMessage, Topic
from qustream.wire.peers import LinkReason
from sim import peers_checks as checks
from sim.clockwork import Clockwork
from sim.gossip_world import size_of
from sim.peers_evil import Evil
from sim.peers_lines import Conn, Lines
from sim.wires import REGIONS, Wires

__all__ = ["Evil", "Honest", "PeersWorld", "Place"]

CHAIN = "sim"
TICK_US, CHECK_US = 1_000_000, 900
BEGAN_MS = 1_700_000_000_000  # what clocks say when the simulation begins


@dataclass(frozen=True)
class Place:
    """A licence: its operator, which /16 its node is in, and what it is if it is not honest."""

    operator: str
    prefix: int = 0
    evil: Callable[[PeersWorld, int], Evil] | None = None


@dataclass
class Honest:
    """An honest node: its cores, its connections, and what it has on disk."""

    number: int
    core: Peers
    gossip: Gossip
    skew_ms: int
    is_up: bool = True
    life: int = 0
    born_ms: int = 0
    epoch: int = -1
    seen_registry: int = -1
    asked: int = 0  # links it asked for all records since its start
    links: dict[int, Conn] = field(default_factory=dict)
    # on disk
    anchors: tuple[bytes, ...] = ()
    records: dict[bytes, tuple[AddressRecord, bytes]] = field(default_factory=dict)
    issued_ms: int = 0
    # for the checks
    failed_ms: dict[bytes, int] = field(default_factory=dict)
    dialling: set[bytes] = field(default_factory=set)
    grey: dict[int, int] = field(default_factory=dict)  # whom gossip expelled, until when


class PeersWorld:
    """See the module. Nodes are numbers; `ids` are theirs, in no order."""

    def __init__(self, *, seed: int, places: Sequence[Place], epoch_ms: int = 150_000, skew_max_ms: int = 20_000) -> None:
        self.seed, self.places, self.epoch_ms = seed, list(places), epoch_ms
        self.clock, self.chance = Clockwork(), random.Random(seed)
        count = len(places)
        regions = [self.chance.randrange(len(REGIONS)) for _ in places]
        self.wires = Wires(self.clock, seed=seed + 1, regions=regions)
        self.lines = Lines(self.clock, regions, self)
        self.ids = [self.chance.randbytes(32) for _ in places]
        self.numbers = {node: number for number, node in enumerate(self.ids)}
        self.moves = [0] * count
        self.address = [self._address(number) for number in range(count)]
        self.lines.where = {address: number for number, address in enumerate(self.address)}
        self.registered = {
            node: pe.Known(place.operator, (self.address[self.numbers[node]],)) for node, place in zip(self.ids, places, strict=True)
        }
        self.registry, self.registry_version = dict(self.registered), 0
        self.replay = "see the test's seed"
        self.tick_us = TICK_US  # longer where little happens
        self.honest: dict[int, Honest] = {}
        self.evil: dict[int, Evil] = {}
        for number, place in enumerate(places):
            if place.evil is not None:
                self.evil[number] = place.evil(self, number)
            else:
                node = Honest(number, Peers(self.ids[number]), Gossip(), self.chance.randrange(-skew_max_ms, skew_max_ms + 1))
                self.honest[number] = node
            self.clock.plan(self.chance.randrange(5 * TICK_US), self._tick, number, 0)

    def _address(self, number: int) -> str:
        place = self.places[number].prefix
        return f"{10 + place // 250}.{place % 250}.{self.moves[number]}.{number + 1}:7400"

    # --- what happens

    def run_ms(self, duration_ms: int) -> None:
        self.clock.run(self.clock.now_us + 1000 * duration_ms)

    def move(self, number: int) -> None:
        """The node is reached elsewhere from now on. Its links stand."""
        self.moves[number] += 1
        del self.lines.where[self.address[number]]
        self.address[number] = self._address(number)
        self.lines.where[self.address[number]] = number

    def crash(self, number: int, *, silently: bool = False) -> None:
        """All that a node has in memory is gone."""
        node = self.honest[number]
        node.is_up, node.life = False, node.life + 1
        node.links.clear()
        node.dialling.clear()
        self.lines.crashed(number, silently=silently)

    def restart(self, number: int) -> None:
        """It comes back with what it had on disk."""
        node = self.honest[number]
        node.core, node.gossip = Peers(self.ids[number], node.anchors), Gossip()
        node.is_up, node.born_ms, node.epoch, node.asked = True, self.clock.now_ms, -1, 0
        node.failed_ms.clear()
        node.grey.clear()
        self._tick(number, node.life)

    def strike(self, number: int) -> None:
        """Its licence is gone."""
        del self.registry[self.ids[number]]
        self.registry_version += 1

    def list_again(self, number: int) -> None:
        node = self.ids[number]
        self.registry = {**self.registry, node: self.registered[node]}
        self.registry_version += 1

    def now_wall_ms(self) -> int:
        """What a clock says that goes right."""
        return BEGAN_MS + self.clock.now_ms

    def wall_ms(self, node: Honest) -> int:
        """What the node's clock says."""
        return self.now_wall_ms() + node.skew_ms

    # --- what the lines ask of the nodes

    def life(self, number: int) -> int:
        return self.honest[number].life if number in self.honest else 0

    def is_up(self, number: int) -> bool:
        return number in self.evil or self.honest[number].is_up

    def is_expected(self, number: int, peer: bytes) -> bool:
        return self.ids[number] == peer

    def asked(self, conn: Conn) -> None:
        if (evil := self.evil.get(conn.target)) is not None:
            code = evil.asked(conn.opener)
            if code is not None:
                self.lines.answer(conn, code)
            if code == "":
                evil.linked(conn.opener, conn)
        elif (node := self.honest[conn.target]).is_up:
            place = prefix(self.address[conn.opener])
            self._step(node, pe.LinkAsked(conn.number, self.ids[conn.opener], LinkReason.CHOSEN, place), conn)

    def lost(self, conn: Conn, end: int) -> None:
        peer = conn.other(end)
        if end in self.evil:
            if self.evil[end].links.get(peer) is conn:
                del self.evil[end].links[peer]
            return
        node = self.honest[end]
        if node.links.get(peer) is conn:
            del node.links[peer]
            self._gossip(node, ge.LinkClosed(self.ids[peer]))
        self._step(node, pe.LinkLost(conn.number, "E-PEER-CLOSED"))

    # --- an honest node's beat

    def _tick(self, number: int, life: int) -> None:
        if number in self.evil:
            self.evil[number].beat()
        else:
            node = self.honest[number]
            if not node.is_up or node.life != life:
                return
            self._look_at_network(node)
            self._step(node, pe.Ticked(self.chance.getrandbits(64)))
            self._gossip(node, ge.Ticked(self.chance.getrandbits(64)))
            self._say(node)
        self.clock.plan(self.clock.now_us + self.tick_us, self._tick, number, life)

    def epoch_seed(self, epoch: int) -> bytes:
        return hashlib.sha256(f"{self.seed} {epoch}".encode()).digest()

    def _look_at_network(self, node: Honest) -> None:
        epoch = self.wall_ms(node) // self.epoch_ms
        if epoch == node.epoch and node.seen_registry == self.registry_version:
            return
        is_first, node.epoch, node.seen_registry = node.epoch < 0, epoch, self.registry_version
        node.failed_ms = {peer: at_ms for peer, at_ms in node.failed_ms.items() if peer in self.registry}
        seeds = {each: self.epoch_seed(each) for each in (epoch - 1, epoch, epoch + 1)}
        from_ms = records_from_ms(epoch * self.epoch_ms, self.epoch_ms)
        self._step(node, pe.NetworkChanged(epoch, seeds, self.registry, records_from_ms=from_ms))
        if is_first:
            for record, _ in node.records.values():
                self._step(node, pe.AddressesLearnt(record.node, record.issued_ms, record.addresses))

    def _say(self, node: Honest) -> None:
        """Its record, when it has to be said (§1)."""
        mine, address = self.ids[node.number], self.address[node.number]
        newest = node.records.get(mine)
        if mine not in self.registry or not node.links:
            return
        now_ms = self.wall_ms(node)
        said = newest[0].addresses if newest is not None else self.registry[mine].addresses
        is_old = newest is not None and newest[0].issued_ms < node.epoch * self.epoch_ms
        if (said == (address,) and not is_old) or now_ms - node.issued_ms < RECORD_EVERY_MS:
            return
        node.issued_ms = max(now_ms, node.issued_ms + 1)
        record = AddressRecord(CHAIN, mine, node.issued_ms, (address,))
        body = self.signed(record)
        node.records[mine] = (record, body)
        self._gossip(node, ge.Published(Topic.ADDRESS, body))

    # --- records

    def signature(self, body: bytes, signer: int) -> bytes:
        """What only `signer` can make, in this world."""
        return hashlib.sha256(b"secret" + self.ids[signer] + body).digest().ljust(3373, b"\0")

    def signed(self, record: AddressRecord, signer: int | None = None) -> bytes:
        body = encode(record)
        return encode(Signed(body, self.signature(body, self.numbers[record.node] if signer is None else signer)))

    def judge(self, node: Honest, body: bytes) -> Verdict:
        """The part that knows the topic; a good record is kept."""
        try:
            signed = decode(body, Signed, max_bytes=8192)
            record = decode(signed.body, AddressRecord, max_bytes=8192)
        except QuStreamError:
            return Verdict.BAD
        newest = node.records.get(record.node)
        verdict = check_record(
            record, self.registry, newest[0].issued_ms if newest else None, chain=CHAIN, now_ms=self.wall_ms(node),
            from_ms=records_from_ms(node.epoch * self.epoch_ms, self.epoch_ms),
        )  # fmt: skip
        if verdict is not Verdict.GOOD:
            return verdict
        if signed.signature != self.signature(signed.body, self.numbers[record.node]):
            return Verdict.BAD
        node.records[record.node] = (record, body)
        node.failed_ms.pop(record.node, None)  # who has moved may be dialled at once
        self._step(node, pe.AddressesLearnt(record.node, record.issued_ms, record.addresses))
        return Verdict.GOOD

    def _judged(self, number: int, life: int, effect: ge.Check) -> None:
        node = self.honest[number]
        if node.is_up and node.life == life:
            self._gossip(node, ge.Judged(effect.id, self.judge(node, effect.body)))

    def _ask_records(self, node: Honest, peer: int) -> None:
        """All records, of the first two links after a start (§6)."""
        node.asked += 1
        bodies = [body for _, body in self.honest[peer].records.values()] if peer in self.honest else self.evil[peer].records()
        self.lines.after(2 * self.lines.one_way_ms(node.number, peer), self._records_came, node.number, node.life, bodies)

    def _records_came(self, number: int, life: int, bodies: list[bytes]) -> None:
        node = self.honest[number]
        if node.is_up and node.life == life:
            for body in bodies:
                self.judge(node, body)

    # --- performers

    def _steady_ms(self, node: Honest) -> int:
        return self.clock.now_ms - node.born_ms + 1

    def _step(self, node: Honest, event: pe.Event, conn: Conn | None = None) -> None:
        effects = peers_step(node.core, event, self._steady_ms(node))
        checks.effects(self, node, event, effects)
        for effect in effects:
            self._perform(node, effect, conn)
        checks.state(self, node)

    def _perform(self, node: Honest, effect: pe.Effect, conn: Conn | None) -> None:
        if isinstance(effect, pe.Dial):
            self._dial(node, effect)
        elif isinstance(effect, pe.Admit):
            assert conn is not None
            self._admit(node, effect, conn)
        elif isinstance(effect, pe.Refuse):
            assert conn is not None
            self.lines.answer(conn, effect.code, effect.retry_after_ms)
        elif isinstance(effect, pe.HangUp):
            standing = next((each for each in node.links.values() if each.number == effect.link), conn)
            assert standing is not None
            assert standing.number == effect.link
            peer = standing.other(node.number)
            if node.links.get(peer) is standing:
                del node.links[peer]
                self._gossip(node, ge.LinkClosed(self.ids[peer]))
            self.lines.close(standing, node.number)
        elif isinstance(effect, pe.KeepAnchors):
            node.anchors = effect.anchors
        else:
            assert isinstance(effect, pe.AskDialBack)
            self._dial_back(node, effect)

    def _admit(self, node: Honest, effect: pe.Admit, conn: Conn) -> None:
        peer = self.numbers[effect.peer]
        node.links[peer] = conn
        conn.admitted.add(node.number)
        self._gossip(node, ge.LinkOpened(effect.peer, effect.operator, effect.ours, effect.assigned))
        if not effect.ours:
            self.lines.answer(conn)
        if node.asked < 2:
            self._ask_records(node, peer)

    def _dial(self, node: Honest, effect: pe.Dial) -> None:
        node.dialling.add(effect.peer)

        def made(conn: Conn) -> None:
            node.dialling.discard(effect.peer)
            self._step(node, pe.LinkMade(conn.number, effect.peer, effect.purpose, conn.place), conn)

        def failed(code: str, retry_after_ms: int) -> None:
            node.dialling.discard(effect.peer)
            if self.numbers[effect.peer] not in node.links and effect.peer in node.core.network.nodes:
                node.failed_ms[effect.peer] = self.clock.now_ms
            self._step(node, pe.DialFailed(effect.peer, effect.purpose, code, retry_after_ms))

        is_feeler = effect.purpose is pe.Purpose.FEELER
        self.lines.dial(node.number, effect.peer, effect.addresses, made, failed, is_feeler=is_feeler)

    def _dial_back(self, node: Honest, effect: pe.AskDialBack) -> None:
        peer, life = self.numbers[effect.peer], node.life
        known = self.honest[peer].records.get(self.ids[node.number]) if peer in self.honest else None
        addresses = known[0].addresses if known is not None else self.registered[self.ids[node.number]].addresses
        reached = any(self.lines.where.get(address) == node.number for address in addresses) and not self.lines.is_cut(peer, node.number)

        def told() -> None:
            if node.life == life and node.is_up:
                self._step(node, pe.DialBackTold(effect.peer, reached if self.is_up(peer) else None))

        self.lines.after(5_000, told)

    def _gossip(self, node: Honest, event: ge.Event) -> None:
        for effect in gossip_step(node.gossip, event, self._steady_ms(node)):
            if isinstance(effect, ge.Send):
                if (conn := node.links.get(self.numbers[effect.peer])) is not None:
                    self.send(conn, node.number, effect.message)
            elif isinstance(effect, ge.Check):
                self.clock.plan(self.clock.now_us + CHECK_US, self._judged, node.number, node.life, effect)
            elif isinstance(effect, ge.Wake):
                self.clock.plan(1000 * (effect.at_ms - 1 + node.born_ms), self._wake, node.number, node.life)
            else:
                node.grey[self.numbers[effect.peer]] = self.clock.now_ms + effect.until_ms - self._steady_ms(node)
                self.clock.plan(self.clock.now_us, self._expel, node.number, node.life, effect)

    def _wake(self, number: int, life: int) -> None:
        node = self.honest[number]
        if node.is_up and node.life == life:
            self._gossip(node, ge.Ticked(0, is_heartbeat=False))

    def _expel(self, number: int, life: int, effect: ge.Expel) -> None:
        node = self.honest[number]
        if node.is_up and node.life == life:
            self._step(node, pe.Expelled(effect.peer, effect.until_ms))

    def send(self, conn: Conn, source: int, message: GossipMessage) -> None:
        target = conn.other(source)
        if not self.lines.cut(source, target):
            self.wires.carry(source, target, size_of(message), self._arrive, conn, target, message)

    def _arrive(self, conn: Conn, target: int, message: GossipMessage) -> None:
        if target not in conn.admitted:
            return  # it is no link there yet, or any more
        source = conn.other(target)
        if target in self.evil:
            self.evil[target].heard(source, message)
        else:
            self._gossip(self.honest[target], ge.Heard(self.ids[source], message))
