"""Who is told what, on which channel, and how much of an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
import trio.testing
from support.peers_town import until
from support.stored_chain import StoredChain, certificate, proposal_of

from qnode.core.consensus_events import SendEnd, SendKept
from qnode.service.ballots import ANSWER_MAX_BYTES, Ballots
from qustream.errors import fault
from qustream.transport.limits import Channel
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, ConsensusAsk, Kind, header_digest

ALICE, BOB, CAROL = b"a" * 32, b"b" * 32, b"c" * 32
ASK = ConsensusAsk(1, 2, 1, ())


class Link:
    """As a session that is a link."""

    def __init__(self, peer: bytes, *, is_validators: bool = True) -> None:
        self.peer, self.is_validators, self.connection = peer, is_validators, self
        self.voted: list[bytes] = []
        self.sent: list[tuple[Channel, bytes]] = []
        self.blocked = trio.Event()
        self.blocked.set()
        self.trouble = ""

    def vote(self, body: bytes) -> bool:
        self.voted.append(body)
        return True

    async def send(self, channel: Channel, body: bytes) -> None:
        await self.blocked.wait()
        if self.trouble:
            raise fault(self.trouble, "gone")
        self.sent.append((channel, body))


class Hub:
    def __init__(self, *links: Link) -> None:
        self.links = {link.peer: link for link in links}

    def link_to(self, peer: bytes) -> Any:
        return self.links.get(peer)


def test_what_is_said_goes_to_validators_that_are_linked() -> None:
    alice, bob = Link(ALICE), Link(BOB, is_validators=False)
    ballots = Ballots(Hub(alice, bob), None, lambda *_: None)  # type: ignore[arg-type]
    ballots.nodes = (ALICE, BOB, CAROL, None)
    ballots.broadcast(ASK)
    assert (alice.voted, bob.voted) == ([encode(ASK)], [])
    for to in (0, ALICE, 1, 2, 3, CAROL):
        ballots.send(to, ASK)
    assert alice.voted == [encode(ASK)] * 3
    assert ballots.said == 3
    assert [link.peer for link in ballots.sessions()] == [ALICE]


async def test_an_answer_goes_in_bulk_one_at_a_time_and_no_more_than_its_bound(tmp_path: Path) -> None:
    stored = StoredChain(tmp_path / "chain")
    stored.block()
    block = stored.blocks[0]
    alice = Link(ALICE)
    async with trio.open_nursery() as nursery:
        ballots = Ballots(Hub(alice), stored.store, nursery.start_soon)  # type: ignore[arg-type]
        header = block.header
        kept = SendKept(ALICE, 1, header.view, Kind.PROPOSAL, block.digest)
        final = SendKept(ALICE, 1, header.view, Kind.FINAL, NO_DIGEST)
        missing = [SendKept(ALICE, 1, 99, Kind.NOTAR, b"n" * 32), SendEnd(ALICE, 7)]
        alice.blocked = trio.Event()
        ballots.answer(ALICE, [kept, *missing, final])
        await trio.testing.wait_all_tasks_blocked()
        ballots.answer(ALICE, [kept])  # while the other is under way: dropped
        ballots.answer(BOB, [kept])  # not linked
        alice.blocked.set()
        await until(lambda: len(alice.sent) == 2)
        assert alice.sent == [(Channel.BULK, encode(proposal_of(block))), (Channel.BULK, encode(certificate(header)))]
        await until(lambda: not ballots._answering)
        room = ANSWER_MAX_BYTES // len(encode(proposal_of(block)))
        ballots.answer(ALICE, [kept] * (room + 50))
        await until(lambda: not ballots._answering)
        assert len(alice.sent) == 2 + room
        alice.trouble = "E-PEER-CLOSED"
        ballots.answer(ALICE, [kept])
        await until(lambda: not ballots._answering)
    assert header_digest(header) == block.digest
    stored.store.close()
