"""The core of the network of peers under histories of hostile peers: connections asked for and lost, dials that fail in every way, records,
registries that change, time. Its bounds hold, and everybody is answered once.

    input: events, each one byte of kind ‖ what the kind takes
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from support.fuzzing.choices import Choices

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
from qustream.errors import CODES
from qustream.wire.peers import LinkReason

__all__ = ["run", "seeds"]

ME = bytes([100]) * 32
NODES = [bytes([number]) * 32 for number in (*range(1, 60), *range(120, 181))]
OPERATORS, PREFIXES = 40, 12
BACK_MS = (0, 1, 1000, 1000, 5000, 60_000, 700_000, 3_700_000)
REFUSALS = ("E-PEER-UNREACHABLE", "E-PEER-LIMIT", "E-PEER-UNLICENSED", "E-DEADLINE", "E-NO-SUCH", "", "\x00" * 99)
EVENTS_MAX = 400  # a history of some hours


def _network(size: int, shift: int) -> dict[bytes, Known]:
    """`size` of the nodes, the first of them number `shift`, and we."""
    nodes = {ME: Known("our own", ("9.9.0.1:7400",))}
    for place in range(size):
        number = (place + shift) % len(NODES)
        nodes[NODES[number]] = Known(f"operator {number % OPERATORS}", (f"10.{number % PREFIXES}.0.{number}:7400",))
    return nodes


class _History:
    """A core, a shell that does what it orders, and what has to be true of both."""

    def __init__(self, choices: Choices) -> None:
        self.core = Peers(ME, tuple(choices.one_of([*NODES, b"x" * 32]) for _ in range(choices.below(6))))
        self.now_ms, self.epoch, self.last_link = 1_000, 5, 0
        self.nodes: dict[bytes, Known] = {}
        self.links: dict[int, bytes] = {}  # admitted
        self.dials: dict[bytes, Purpose] = {}
        self.answers: Counter[int] = Counter()  # of this event, by link
        self.changes(len(NODES), 0, 0)

    def does(self, event: Event) -> None:
        self.answers.clear()
        gone: set[int] = set()
        for effect in step(self.core, event, self.now_ms):
            self._performed(effect, gone)
        sizes = self.core.sizes
        assert sizes["links"] == len(self.links) == len(set(self.links.values()))
        assert all(peer in self.nodes and peer != ME for peer in self.links.values())
        assert sizes["outbound"] <= limits.OUTBOUND_MAX + 1  # one more while one gives way to another
        assert sizes["places"] <= limits.INBOUND_MAX
        assert sizes["dials"] == len(self.dials) <= limits.DIALS_MAX
        assert sizes["anchors"] <= limits.ANCHORS_MAX
        assert max(sizes["known"], sizes["attempts"], sizes["records"], sizes["grey"]) <= len(NODES)
        operators = Counter(link.operator for link in self.core.links.placed())
        assert max(operators.values(), default=0) <= limits.INBOUND_OPERATOR_MAX
        assert set(self.core.dialled) <= {"reached", *CODES}
        assert len(self.core.next_dials) <= len(NODES)

    def _performed(self, effect: Effect, gone: set[int]) -> None:
        if isinstance(effect, Dial):
            assert effect.peer not in self.dials
            assert effect.peer not in self.links.values()
            assert effect.addresses
            self.dials[effect.peer] = effect.purpose
        elif isinstance(effect, Admit):
            assert effect.link not in self.links
            self.links[effect.link] = effect.peer
            self.answers[effect.link] += 1
        elif isinstance(effect, Refuse):
            assert effect.code in CODES
            assert effect.retry_after_ms >= 0
            self.answers[effect.link] += 1
        elif isinstance(effect, HangUp):
            assert effect.link not in gone
            gone.add(effect.link)
            if self.links.pop(effect.link, None) is None:
                self.answers[effect.link] += 1
        elif isinstance(effect, KeepAnchors):
            assert len(effect.anchors) <= limits.ANCHORS_MAX
        else:
            assert isinstance(effect, AskDialBack)
            assert effect.peer in self.links.values()

    # -- events

    def changes(self, size: int, shift: int, meshed: int) -> None:
        self.nodes = _network(size, shift)
        if meshed & 64:
            del self.nodes[ME]
        seeds = {epoch: bytes([epoch % 256]) * 32 for epoch in range(self.epoch - 1, self.epoch + 2)}
        of_mesh = frozenset([ME, *NODES[: meshed % 16]]) if meshed & 128 else frozenset()
        self.does(NetworkChanged(self.epoch, seeds, self.nodes, of_mesh, records_from_ms=meshed * 10))

    def changed(self, choices: Choices) -> None:
        self.epoch += choices.below(3)
        self.changes(choices.below(len(NODES) + 1), choices.below(len(NODES)), choices.number(1))

    def asked(self, choices: Choices) -> None:
        """Somebody connects and wants a link: a known node or, may be, another."""
        self.last_link += 1
        peer, prefix = choices.one_of([*NODES, b"x" * 32, ME]), f"10.{choices.below(PREFIXES)}.0.0/16"
        self.does(LinkAsked(self.last_link, peer, choices.one_of(list(LinkReason)), prefix))
        assert self.answers[self.last_link] == 1

    def asked_by_many(self, choices: Choices) -> None:
        prefix = f"10.{choices.below(PREFIXES)}.0.0/16"
        for number in range(choices.below(len(NODES))):
            self.last_link += 1
            self.does(LinkAsked(self.last_link, NODES[number], LinkReason.ASSIGNED, prefix))
            assert self.answers[self.last_link] == 1

    def dialled(self, choices: Choices) -> None:
        """What becomes of a dial."""
        if not self.dials:
            return
        peer, how = choices.one_of(list(self.dials)), choices.number(1)
        purpose = self.dials.pop(peer)
        if how & 1:
            self.does(DialFailed(peer, purpose, choices.one_of(REFUSALS), choices.number(4) if how & 2 else 0))
            return
        self.last_link += 1
        self.does(LinkMade(self.last_link, peer, purpose, f"10.{choices.below(PREFIXES)}.0.0/16"))
        assert self.answers[self.last_link] == 1

    def lost(self, choices: Choices) -> None:
        link = choices.one_of([*self.links, 1 << 40])
        self.links.pop(link, None)
        self.does(LinkLost(link, choices.one_of(REFUSALS)))

    def expelled(self, choices: Choices) -> None:
        self.does(Expelled(choices.one_of([*NODES, b"x" * 32]), self.now_ms + choices.one_of(BACK_MS)))

    def learnt(self, choices: Choices) -> None:
        node, issued_ms = choices.one_of([*NODES, ME, b"x" * 32]), choices.number(2) * 100
        self.does(AddressesLearnt(node, issued_ms, (f"10.{choices.below(PREFIXES)}.9.9:1", "node.example:7400")))

    def told(self, choices: Choices) -> None:
        self.does(DialBackTold(choices.one_of([*self.links.values(), b"x" * 32]), choices.one_of((True, False, None))))

    def ticked(self, choices: Choices) -> None:
        self.now_ms += choices.one_of(BACK_MS)
        self.does(Ticked(choices.number(2) * 0x9E3779B97F4A7C15 & (1 << 64) - 1))


KINDS: list[Callable[[_History, Choices], None]] = [
    _History.ticked, _History.dialled, _History.asked, _History.lost, _History.expelled, _History.learnt, _History.told, _History.changed,
    _History.asked_by_many,
]  # fmt: skip


def run(data: bytes) -> None:
    choices = Choices(data)
    history = _History(choices)
    for _ in range(EVENTS_MAX):
        if not choices:
            return
        choices.one_of(KINDS)(history, choices)


def _event(kind: Callable[[_History, Choices], None], *rest: int) -> bytes:
    return bytes([KINDS.index(kind), *rest])


def seeds() -> list[bytes]:
    tick, reached = _event(_History.ticked, 2, 3, 7), _event(_History.dialled, 0, 0, 3)
    failed = _event(_History.dialled, 0, 3, 1, 0, 0, 9, 9)
    start = b"".join(tick + bytes([*_event(_History.dialled, 0, 0, number)]) for number in range(12))
    asked = b"".join(_event(_History.asked, number, number % 12, 1) for number in range(30))
    later = _event(_History.ticked, 6, 1, 1)
    found = [b"\0" + start, b"\2\1\2" + start + later * 3, b"\0" + asked + tick * 3, b"\0" + (tick + failed) * 10, b"\0" + start + asked]
    found.append(b"\0" + start + _event(_History.changed, 1, 40, 10, 130) + tick * 4 + reached * 4)
    found.append(
        b"\0" + start + _event(_History.expelled, 3, 6) + _event(_History.lost, 0, 1) + _event(_History.learnt, 4, 9, 9, 2) + later
    )
    found.append(
        b"\0" + _event(_History.asked_by_many, 3, 90) + later + _event(_History.told, 0, 1) + _event(_History.asked_by_many, 5, 120)
    )
    return found
