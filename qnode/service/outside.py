"""Asking other nodes as a stranger: for a node that is no link of anybody (`proto/spec/sync.md`, §8).

A node whose licence is not active, or that nobody links to any more, keeps a few connections on which it only asks. It asks the nodes that
its operator has named, genesis' nodes, and those of the chain's registry once it has some of the chain. Nothing that is answered is
believed for who answers it, so any of them will do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from qnode.net.dialer import Dialer, is_local
from qustream.aio.connection import Connection
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.model.network import NodeClass
from qustream.registry import Registry

__all__ = ["PLACES", "Outside", "Vouched"]

# Connections: one that gives, two that are watched whether it withholds, one that comes and goes.
PLACES = 4
# Of these, as many are kept for nodes that the operator has named, if there are any: he knows somebody, and drawn ones are anybody.
NAMED_PLACES = 2
LOOK_S = 0.5
# Who does not answer, or hangs up at once, is let alone for so long, doubled each time...
REST_S, REST_MAX_S = 2.0, 300.0
# ... who answers no strangers, for longer; and so whoever lied.
REFUSED_REST_S, LIE_REST_S = 600.0, 600.0
# A connection that stood for so long was no failure.
STOOD_S = 30.0
# After so long the one that stands longest gives way to another: whoever was drawn once is not all one hears for ever.
TURN_S = 300.0
# Nodes whose rests are remembered: more than the network has.
RESTS_MAX = 8_192

Vouched = Mapping[bytes, Collection[str]]


@dataclass(slots=True)
class _Rest:
    until_s: float = 0.0
    span_s: float = REST_S


@dataclass(slots=True)
class _Place:
    """One that is asked, or being dialled (no connection yet)."""

    since_s: float
    connection: Connection | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Outside:
    """`run` it; it connects as long as `is_wanted`. `named`: nodes that the operator has named; `genesis`: those that the chain began with;
    addresses of both by node id, and they alone may lead into a local network, unless this node `is_within` one itself."""

    def __init__(
        self, dialer: Dialer, *, own: bytes, named: Vouched, genesis: Vouched, registry: Registry, is_wanted: Callable[[], bool],
        is_within: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._dialer, self._own, self._named, self._genesis = dialer, own, named, genesis
        self._registry, self._is_wanted, self._is_within = registry, is_wanted, is_within
        self._places: dict[bytes, _Place] = {}
        self._rests: dict[bytes, _Rest] = {}
        self._listed_height = -1
        self._listed: dict[bytes, tuple[str, ...]] = {}
        self.reached = self.failed = 0

    @property
    def nodes(self) -> list[bytes]:
        """Those that can be asked."""
        return [node for node, place in self._places.items() if place.connection is not None]

    @property
    def is_open(self) -> bool:
        return bool(self._places)

    @property
    def candidates(self) -> int:
        """How many nodes it knows of."""
        return len({*self._named, *self._genesis, *self._registered()} - {self._own})

    def local(self, node: bytes) -> Collection[str] | None:
        """Which of a node's addresses may lead into a local network, None: all of them."""
        inside = any(is_local(place.connection.remote) for place in self._places.values() if place.connection is not None)
        return None if inside or self._is_within() else {*self._named.get(node, ()), *self._genesis.get(node, ())}

    # -- asking -----------------------------------------------------------------------------------------------------------------

    async def call(self, node: bytes, body: bytes, deadline_ms: int, *, max_answer_bytes: int) -> bytes:
        """Ask one of `nodes`. Errors: `E-PEER-UNREACHABLE` if it is none, and as `Connection.call`."""
        place = self._places.get(node)
        if place is None or place.connection is None:
            raise fault("E-PEER-UNREACHABLE", "no connection to this node")
        try:
            return await place.connection.call(body, deadline_ms=deadline_ms, max_answer_bytes=max_answer_bytes)
        except QuStreamError as error:
            if error.code == "E-PEER-UNLICENSED":
                self.drop(node, REFUSED_REST_S)
            raise

    def drop(self, node: bytes, rest_s: float = LIE_REST_S) -> None:
        """Ask it no more for so long."""
        place = self._places.get(node)
        if place is not None:
            self._rests[node] = _Rest(trio.current_time() + rest_s)
            place.scope.cancel()

    # -- connecting -------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                if self._is_wanted():
                    self._turn()
                    for node in self._drawn(PLACES - len(self._places)):
                        self._places[node] = _Place(trio.current_time())
                        nursery.start_soon(self._keep, node, self._places[node])
                else:
                    for place in self._places.values():
                        place.scope.cancel()
                await trio.sleep(LOOK_S)

    def _turn(self) -> None:
        """Let the oldest go, if it has stood its time and there is another to take its place."""
        if len(self._places) < PLACES or not self._free():
            return
        node, oldest = min(self._places.items(), key=lambda item: item[1].since_s)
        if oldest.connection is not None and trio.current_time() - oldest.since_s >= TURN_S:
            self._rests[node] = _Rest(trio.current_time() + STOOD_S)
            oldest.scope.cancel()

    async def _keep(self, node: bytes, place: _Place) -> None:
        began_s = trio.current_time()
        try:
            with place.scope:
                reached = await self._dialer.reach(node, self._addresses(node), local=self.local(node))
                self.reached += 1
                began_s = trio.current_time()
                async with reached.connection as connection:
                    place.connection = connection
                    await serve_requests(connection, _refuse)
        except* QuStreamError:
            self.failed += place.connection is None
        finally:
            del self._places[node]
        if not place.scope.cancelled_caught:
            self._rest(node, stood=place.connection is not None and trio.current_time() - began_s >= STOOD_S)

    def _rest(self, node: bytes, *, stood: bool) -> None:
        rest = _Rest() if stood else self._rests.get(node, _Rest())
        self._rests[node] = _Rest(trio.current_time() + rest.span_s, min(REST_MAX_S, 2 * rest.span_s))
        if len(self._rests) > RESTS_MAX:
            del self._rests[next(iter(self._rests))]

    def _addresses(self, node: bytes) -> tuple[str, ...]:
        """The operator's word first, the chain's before that of its beginning."""
        return tuple(dict.fromkeys((*self._named.get(node, ()), *self._registered().get(node, ()), *self._genesis.get(node, ()))))

    def _registered(self) -> Mapping[bytes, tuple[str, ...]]:
        """The active nodes of the chain's registry, as far as it goes here."""
        height = self._registry.nodes_height
        if height != self._listed_height:
            active = [each for node_class in NodeClass for each in self._registry.nodes(node_class) if each.active]
            self._listed, self._listed_height = {each.key.id: each.addresses for each in active}, height
        return self._listed

    # -- whom -------------------------------------------------------------------------------------------------------------------

    def _free(self) -> list[bytes]:
        """Nodes that can be tried now: those that are named first, each part in an order that is drawn."""
        named, others = set(self._named), {*self._genesis, *self._registered()}
        return [*self._able(named), *self._able(others - named)]

    def _able(self, nodes: Iterable[bytes]) -> list[bytes]:
        now_s = trio.current_time()
        able = [node for node in nodes if node != self._own and node not in self._places and self._rest_of(node) <= now_s]
        secrets.SystemRandom().shuffle(able)
        return able

    def _rest_of(self, node: bytes) -> float:
        rest = self._rests.get(node)
        return 0.0 if rest is None else rest.until_s

    def _drawn(self, count: int) -> list[bytes]:
        """For so many places: named ones for a part of them, and for the others only if there are no others."""
        if count <= 0:
            return []
        free = self._free()
        named = [node for node in free if node in self._named]
        others = [node for node in free if node not in self._named]
        held = sum(1 for node in self._places if node in self._named)
        first = named[: max(0, NAMED_PLACES - held)]
        return [*first, *others, *named[len(first) :]][:count]


async def _refuse(_body: bytes, _deadline_ms: int) -> bytes:
    """Who is asked by a stranger has nothing to ask of it."""
    raise fault("E-PEER-UNLICENSED", "this node answers nobody on a connection that it has opened to ask")
