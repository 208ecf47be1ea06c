"""`qnode doctor` on peers: can other nodes be reached, and do they reach this one?

Beside a running node it is asked what it knows. Alone, doctor takes the node's place for the time of the check: it listens where the
node would, connects to a few known nodes as the node, and asks some of them, of different operators, to connect back
(`proto/spec/peers.md`, §6). They try the addresses the network has of this node and no others.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial

import trio

from qnode.api.peers import OFF, PeersStatus, code_shown, lonely_text, reach_text, shown, tried_text
from qnode.api.sync_status import SyncStatus
from qnode.net.dialer import Dialer
from qustream.aio.connection import Connection
from qustream.aio.listener import open_listener, serve
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.network import NodeClass, NodeRecord
from qustream.registry import Registry
from qustream.transport.greeting import LocalHello
from qustream.wire.codec import decode, encode
from qustream.wire.hello import Role
from qustream.wire.peers import DialBackAnswer, DialBackAsk, DialResult

__all__ = ["Local", "PeerSurvey", "asks_of", "peers_of", "reach_of"]

# Which addresses of a node may lead into a local network; None: all.
Local = Callable[[bytes], Collection[str] | None]

# As many as say something about a large network, and a laptop's handshakes in a second.
TRIED_MAX = 12
# Handshakes under way, half a core's.
TRIED_AT_ONCE = 4
# Of different operators: one may lie, or sit behind the same router.
ASKED_MAX = 3
# What an operator waits for without asking himself whether it hangs; a node that takes longer is counted as one that does not answer.
DIALS_S = 10.0
# Whoever dials back tries all addresses at once, for five seconds each.
DIAL_BACK_MS = 9_000
# Eight addresses of 256 characters of four bytes, and their codes.
ANSWER_MAX_BYTES = 16_384


def reach_of(network: PeersStatus, now_ms: int) -> str:
    """What a running node says of whether others reach it. Errors: `E-UNREACHABLE`."""
    if not network.enabled:
        return "not known without links to other nodes"
    if network.reach == "unreachable":
        raise fault("E-UNREACHABLE", tried_text(network.tried) or "no address of this node is known to others")
    seen = f", seen at {', '.join(map(shown, network.seen_at[:2]))}" if network.seen_at else ""
    return f"{reach_text(network, now_ms)}{seen}"


def peers_of(network: PeersStatus) -> str:
    """What a running node says of its links. Errors: `E-NO-PEERS`."""
    if not network.enabled:
        return OFF
    if network.lonely and network.known:
        raise fault("E-NO-PEERS", lonely_text(network))
    ways = network.ways()
    return f"linked: {ways['out']} out, {ways['in']} in; {network.known} nodes known, the last dial to {network.unreached} of them failed"


def asks_of(sync: SyncStatus) -> str:
    """What a running node says that has no active licence, and so no links. Errors: `E-NO-PEERS`."""
    strangers = sync.nodes.get("stranger", 0)
    if not strangers:
        raise fault("E-NO-PEERS", f"none of the {sync.known} nodes that it could ask for the chain answers; name others: nodes")
    behind = f", {sync.behind} blocks behind them" if sync.behind else ""
    return f"nobody is linked to a node without an active licence; it asks {strangers} of {sync.known} nodes as a stranger{behind}"


class PeerSurvey:
    """Both checks of a node that does not run. The network is asked once, when the first of them is made; at most twenty seconds.

    `told`: where the configuration says that other nodes find this one, if it says so; `local`: as `Dialer.reach`, of each node."""

    def __init__(
        self, key: SigningKey, registry: Registry, *, chain: str, listen: Sequence[str], told: Sequence[str] = (),
        local: Local = lambda _: None,
    ) -> None:  # fmt: skip
        self._survey, self._told = _Survey(key, registry, chain, listen), told
        self._survey.local = local

    @cached_property
    def _found(self) -> _Survey:
        trio.run(self._survey.run)
        return self._survey

    def peers(self) -> str:
        """How many known nodes answer. Errors: `E-NO-PEERS`."""
        found = self._found
        if not found.known:
            return "the network has no other active node"
        failed = f"; {_codes(found.failed)}" if found.failed else ""
        if not found.answered:
            raise fault("E-NO-PEERS", f"{found.tried} of {found.known} known nodes were tried, and none answered{failed}")
        return f"{found.tried} of {found.known} known nodes were tried, {found.answered} answered{failed}"

    def reachable(self) -> str:
        """What came of this node's addresses. Errors: `E-UNREACHABLE`, `E-ADDRESS-IN-USE`, `E-CONFIG`."""
        found = self._found
        if found.trouble is not None:
            raise found.trouble
        if not found.told:
            why = f" ({_codes(found.silent)})" if found.silent else ""
            again = "; each can be asked once a minute" if "E-PEER-LIMIT" in found.silent else ""
            return f"not known: no other node could be asked to connect{why}{again}"
        words = _by_address(found.told) or "no address of this node is known to others"
        tried = {result.address for results in found.told for result in results}
        new = ", ".join(address for address in self._told if address not in tried)
        if new:
            words += f"; not tried: {new}, of which others hear when the node runs"
        if any(not result.code for results in found.told for result in results):
            return words
        if new:
            return f"not known: {words}"
        raise fault("E-UNREACHABLE", words)


class _Survey:
    """`tried`: nodes, `answered`: of them. `told`: what each that was asked found at this node's addresses; `silent`: why others told
    nothing. `trouble`: why this end could not listen."""

    def __init__(self, key: SigningKey, registry: Registry, chain: str, listen: Sequence[str]) -> None:
        self._key, self._listen = key, listen
        self._hello = LocalHello(chain, (Role.NODE,), (), registry.height)
        nodes = (node for node_class in NodeClass for node in registry.nodes(node_class))
        others = [node for node in nodes if node.active and node.key.id != key.id]
        self._nodes = _sample(others)
        self.known, self.tried, self.answered = len(others), len(self._nodes), 0
        self.failed: Counter[str] = Counter()
        self.told: list[Sequence[DialResult]] = []
        self.silent: Counter[str] = Counter()
        self.trouble: QuStreamError | None = None
        self.local: Local = lambda _: None
        self._operators: set[str] = set()  # of those who were asked and have not failed to answer

    async def run(self) -> None:
        with ExitStack() as sockets:
            try:
                listening = [sockets.enter_context(open_listener(address)) for address in self._listen]
            except QuStreamError as error:  # whether other nodes answer can be told all the same
                self.trouble, listening = error, []
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve, listening, key=self._key, hello=self._hello, handler=_turn_away))
                await self._ask_all()
                nursery.cancel_scope.cancel()

    async def _ask_all(self) -> None:
        dialer, ends_s = Dialer(self._key, lambda: self._hello), trio.current_time() + DIALS_S
        dials, asks = trio.CapacityLimiter(TRIED_AT_ONCE), trio.CapacityLimiter(ASKED_MAX)

        async def examine(node: NodeRecord) -> None:
            try:
                with trio.fail_at(ends_s):
                    async with dials:
                        reached = await dialer.reach(node.key.id, node.addresses, local=self.local(node.key.id))
            except (QuStreamError, trio.TooSlowError) as error:
                self.failed[getattr(error, "code", "E-DEADLINE")] += 1
                return
            self.answered += 1
            async with reached.connection as connection, asks:
                if self.trouble is None and len(self._operators) < ASKED_MAX and trio.current_time() < ends_s:
                    await self._ask(connection, node.operator)

        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(examine, node)

    async def _ask(self, connection: Connection, operator: str) -> None:
        if operator in self._operators:
            return
        self._operators.add(operator)
        try:
            answer = await connection.call(encode(DialBackAsk()), deadline_ms=DIAL_BACK_MS, max_answer_bytes=ANSWER_MAX_BYTES)
            self.told.append(decode(answer, DialBackAnswer, max_bytes=ANSWER_MAX_BYTES).results)
        except QuStreamError as error:
            self.silent[error.code] += 1
            self._operators.discard(operator)


async def _turn_away(connection: Connection) -> None:
    """Somebody came in, which is all we wanted to know."""

    async def answer(_body: bytes, _deadline_ms: int) -> bytes:
        raise fault("E-PEER-CLOSED", "this node does not run; it is being examined")

    await serve_requests(connection, answer)


def _sample(others: list[NodeRecord]) -> list[NodeRecord]:
    """Drawn at random, of as many operators as there are."""
    drawn = list(others)
    secrets.SystemRandom().shuffle(drawn)
    firsts = {node.operator: node for node in drawn}
    return sorted(drawn, key=lambda node: firsts[node.operator] is not node)[:TRIED_MAX]


def _by_address(told: Sequence[Sequence[DialResult]]) -> str:
    """What those who were asked say of each address."""
    found: dict[str, list[str]] = {}
    for results in told:
        for result in results:
            found.setdefault(shown(result.address), []).append(result.code)
    words = []
    for address, codes in found.items():
        failed = Counter(codes)
        reached = failed.pop("", 0)
        words.append(f"{address} reached by {reached} of {len(codes)}{f' ({_codes(failed)})' if failed else ''}")
    return "; ".join(words)


def _codes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code_shown(code)} {count}" for code, count in sorted(counts.items()) if code != "reached")
