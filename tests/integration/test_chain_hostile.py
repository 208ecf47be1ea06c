"""A validator that obeys no rule at the door of three that do: the chain goes on, and whoever lies loses the connection (`peers.md` §9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.chain_circle import CHAIN, ChainCircle
from support.hostile import Peer
from support.places import WORKER

from qnode.core.consensus_limits import VERIFYING_MAX
from qnode.core.consensus_view import certificate
from qustream.identity.signing import SigningKey
from qustream.transport.frames import frames_of
from qustream.transport.greeting import LocalHello
from qustream.transport.limits import Channel
from qustream.wire.codec import Message, decode, encode
from qustream.wire.consensus import NO_DIGEST, VOTE_SIGNATURE_BYTES, ConsensusAsk, Kind, Vote, Want
from qustream.wire.hello import Role
from qustream.wire.peers import LinkAccepted, LinkOpen, LinkReason

pytestmark = [pytest.mark.e2e]

HELLO = LocalHello(CHAIN, (Role.NODE,))
FORGED = bytes(VOTE_SIGNATURE_BYTES)
# Resident memory may grow by so much over everything that is done here.
GROWTH_MB = 120


class Siege:
    """Three validators that run; the fourth is whoever has its key. A fifth node is licensed and no validator."""

    def __init__(self, circle: ChainCircle) -> None:
        self.circle = circle
        self.honest = circle.nodes[:3]
        self.rotation = circle.nodes[0].ledger.rotation

    @contextmanager
    def linked(self, key: SigningKey) -> Iterator[Peer]:
        """A link to node 0."""
        target = self.circle.nodes[0]
        name, _, port = target.listen.rpartition(":")
        with Peer((name, int(port)), key, target.key.id, f"127.121.{WORKER}.1", HELLO) as peer:
            decode(peer.ask(LinkOpen(LinkReason.MESHED, 0)), LinkAccepted, max_bytes=999)
            yield peer

    def goes_on(self) -> None:
        self.circle.until_height(max(node.height for node in self.honest) + 2, self.honest)

    @property
    def resident_mb(self) -> float:
        process = self.circle.nodes[0].process
        assert process is not None
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with ChainCircle(tmp_path_factory.mktemp("siege"), 4, followers=1) as circle:
        circle.start(0, 1, 2)
        circle.until_height(3)
        yield Siege(circle)


def say(peer: Peer, *messages: Message, channel: Channel = Channel.CONSENSUS) -> None:
    peer.words(b"".join(frames_of(channel, encode(message)) for message in messages))
    peer.listen()


def vote(siege: Siege, validator: int, *, ahead: int = 5, kind: Kind = Kind.SKIP, digest: bytes = NO_DIGEST) -> Vote:
    """One that matters by all its fields, and that nobody has signed."""
    return Vote(siege.rotation, siege.circle.nodes[0].ledger.view + ahead, kind, digest, validator, FORGED)


def own(siege: Siege) -> int:
    """The number of the seat that we have the key of."""
    taken = {node.ledger.voting.seat for node in siege.honest if node.ledger.voting is not None}
    return next(number for number in range(4) if number not in taken)


def asked(siege: Siege) -> int:
    """The number of the seat of the node that we talk to."""
    voting = siege.circle.nodes[0].ledger.voting
    assert voting is not None
    return voting.seat


LIES: dict[str, tuple[Callable[[Siege, Peer], None], str]] = {
    "no message": (lambda _, peer: peer.words(frames_of(Channel.CONSENSUS, b"\xc1")), "E-WIRE-MALFORMED"),
    "too long": (lambda _, peer: peer.words(b"\x00\x01\x00\x01\x01"), "E-WIRE-OVERSIZE"),
    "a vote that nobody signed": (lambda siege, peer: say(peer, vote(siege, own(siege))), "E-SIGNATURE"),
    "a vote in its own name that it never signed": (
        lambda siege, peer: say(peer, vote(siege, asked(siege))), "E-SIGNATURE",
    ),
    "a certificate that nobody signed": (
        lambda siege, peer: say(
            peer, certificate(siege.rotation, siege.circle.nodes[0].ledger.view + 3, Kind.SKIP, NO_DIGEST, [(n, FORGED) for n in range(4)]),
            channel=Channel.BULK,
        ),
        "E-SIGNATURE",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_who_lies_loses_the_connection_and_the_chain_goes_on(siege: Siege, name: str) -> None:
    lie, code = LIES[name]
    with siege.linked(siege.circle.nodes[3].key) as peer:
        lie(siege, peer)
        assert peer.end() == code
    siege.goes_on()


def test_who_is_no_validator_is_refused_the_channel(siege: Siege) -> None:
    with siege.linked(siege.circle.nodes[4].key) as peer:
        say(peer, vote(siege, 3))
        assert peer.end() == "E-PEER-UNLICENSED"
    siege.goes_on()


def test_votes_in_the_name_of_others_and_of_other_times_cost_nothing(siege: Siege) -> None:
    before_mb, node = siege.resident_mb, siege.circle.nodes[0]
    verified = node.ledger.verified
    us = own(siege)
    third = next(number for number in range(4) if number not in (us, asked(siege)))
    others = [vote(siege, third, ahead=number % 60) for number in range(2_000)]
    late = [Vote(siege.rotation + 9, number, Kind.SKIP, NO_DIGEST, us, FORGED) for number in range(2_000)]
    far = [Vote(siege.rotation, 1 << 40, Kind.NOTAR, number.to_bytes(32, "big"), us, FORGED) for number in range(2_000)]
    early = [Vote(siege.rotation + 1, number, Kind.SKIP, NO_DIGEST, us, FORGED) for number in range(2_000)]
    with siege.linked(siege.circle.nodes[3].key) as peer:
        for messages in (others, late, far, early):
            for place in range(0, len(messages), 100):
                say(peer, *messages[place : place + 100])
        siege.goes_on()
        peer.listen()
        assert peer.code is None
    # The three say some ten things a block; none of ours was verified.
    assert node.ledger.verified - verified < VERIFYING_MAX // 8
    assert siege.resident_mb - before_mb < GROWTH_MB


def test_who_asks_without_end_is_answered_once_a_second(siege: Siege) -> None:
    wants = tuple(Want(view, Kind.NOTAR, NO_DIGEST) for view in range(1, 33))
    with siege.linked(siege.circle.nodes[3].key) as peer:
        for _ in range(500):
            say(peer, *[ConsensusAsk(siege.rotation, 1, 0, wants)] * 20)
        siege.goes_on()
        peer.listen()
        assert peer.code is None
        answers = sum(channel is Channel.BULK for channel, _ in peer.heard)
    # Of ten thousand questions; a question leads to the newest finalisation, one certificate and what of 32 is kept.
    assert 0 < answers < 1_000
