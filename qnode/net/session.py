"""One connection with a known node: gossip in batches, requests both ways, bulk for whoever takes it, and between validators consensus
(`proto/spec/peers.md`, §4 and §9).

A session carries requests from its first moment, and gossip once it is a *link*. What a peer whose link we have asked for says before
its acceptance has been heard is kept for a moment, within bounds: it counts us as told, and would not say it again. Of anybody else
gossip is dropped until then.

Nothing here waits on a peer: what is said to it is queued at once or dropped, what it says is handed on as it comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from qnode.net.tags import CONSENSUS_TAGS, tag_of
from qustream.aio.admission import Bucket
from qustream.aio.connection import Connection
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError
from qustream.transport.limits import CHANNEL_LIMITS, PIECE_BYTES, Channel
from qustream.wire.codec import decode
from qustream.wire.consensus import ConsensusMessage
from qustream.wire.gossip import GOSSIP_MAX_BYTES, GossipAnnounce, GossipMessage, GossipPull

__all__ = [
    "NODE_CHANNELS", "WORK_BURST", "WORK_RATE_PER_S", "Answer", "BulkTaker", "ConsensusTaker", "GossipTaker", "Session",
]  # fmt: skip

# A peer that has not taken all of its gossip for so long is of no use as a link, and holds 2 MiB here.
FULL_MAX_S = 30.0
# What the kernel holds unsent, whatever its channel: in front of gossip that is 5 ms at 100 Mbit/s; what it takes by itself would be 250.
UNSENT_MAX_BYTES = PIECE_BYTES
# What a known node may use. Consensus is for validators among themselves.
NODE_CHANNELS = frozenset({Channel.REQUEST, Channel.GOSSIP, Channel.BULK})
# Gossip heard before the acceptance of our link: what a round trip brings, and never much.
EARLY_MAX, EARLY_MAX_BYTES = 64, 256 * 1024
# TLS records and messages of one node: four times what the topics allow it, and a tenth of a core if they are all rubbish. What is above
# is read more slowly. A request counts 16 more, for it starts a task and may look at the disk; news and pulls of 64 ids count 16 more.
WORK_BURST, WORK_RATE_PER_S = 65_536, 16_384
REQUEST_WORK, IDS_PER_WORK = 16, 4

GossipTaker: TypeAlias = Callable[[bytes, Sequence[GossipMessage]], None]
# Answers a request of a session's peer, who waits for so many ms; a `QuStreamError` is a refusal.
Answer: TypeAlias = Callable[["Session", bytes, int], Awaitable[bytes]]
# Takes what came together on the bulk channel. While it waits, the connection is not read.
BulkTaker: TypeAlias = Callable[["Session", Sequence[bytes | bytearray]], Awaitable[None]]
# Takes what a validator says to validators, at once; may raise what it did wrong.
ConsensusTaker: TypeAlias = Callable[["Session", Sequence[ConsensusMessage]], None]


class Session:
    """A connection that is entered. `number`: of this connection alone; `ours`: we opened it; `prefix`: of the address at its other end;
    `opened_s`: of trio's clock."""

    def __init__(self, number: int, connection: Connection, *, ours: bool, prefix: str = "") -> None:
        self.number, self.connection, self.ours, self.prefix = number, connection, ours, prefix
        self.peer = connection.peer.id
        self._post = connection.post
        self.address = connection.remote  # where it is connected to, or from
        self.height = connection.peer.hello.height  # of the network as its peer sees it, as it says
        self.is_link = False
        self.opened_s = trio.current_time()
        self.linked_s = 0.0
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = self.dropped = 0
        self._full_s: float | None = None  # when something was dropped first since its queue last took something, and when last
        self._dropped_s = 0.0
        self._take: GossipTaker | None = None
        self._take_consensus: ConsensusTaker | None = None
        self._ignores_consensus = False
        self._early: list[GossipMessage] | None = None
        self._early_bytes = 0
        connection.is_kept = False  # its place is its own once it is a link
        self.keep_pace(connection.pace or Bucket(WORK_BURST, WORK_RATE_PER_S, self.opened_s))
        connection.paced_read_bytes = PIECE_BYTES
        connection.keep_unsent(UNSENT_MAX_BYTES)
        connection.takers[Channel.GOSSIP] = self._hear

    def keep_pace(self, pace: Bucket) -> None:
        """Read at this pace from now on."""
        self._pace = self.connection.pace = pace

    def await_acceptance(self) -> None:
        """We ask for a link: gossip that comes from now on is kept until `release_early`, or until it is hung up."""
        self._early = []

    def begin(self, take: GossipTaker) -> None:
        """It is a link from now on; what its peer says goes to `take`."""
        self._take, self.is_link, self.linked_s = take, True, trio.current_time()
        self.connection.is_kept = True

    def release_early(self) -> None:
        """Hand on what came before `begin`."""
        early, self._early = self._early, None
        if early and self._take is not None:
            self._take(self.peer, early)

    def say(self, body: bytes) -> bool:
        """Queue encoded gossip without waiting. False: it was dropped, for the peer does not take it."""
        if not self._post(body):
            self.dropped += 1
            self._dropped_s = trio.current_time()
            if self._full_s is None:
                self._full_s = self._dropped_s
            return False
        self._full_s = None
        self.messages_out += 1
        self.bytes_out += len(body)
        return True

    def join_consensus(self, take: ConsensusTaker | None) -> None:
        """Both ends are validators: what its peer says as one goes to `take`. None: they are not any more."""
        self._take_consensus, self._ignores_consensus = take, False
        self.connection.permit(NODE_CHANNELS if take is None else NODE_CHANNELS | {Channel.CONSENSUS})
        if take is None:
            self.connection.takers.pop(Channel.CONSENSUS, None)
        else:
            self.connection.takers[Channel.CONSENSUS] = self._hear_consensus

    def ignore_consensus(self) -> None:
        """This end is no validator, as far as it knows; its peer may know better. What it says as one is dropped unread."""
        self._take_consensus, self._ignores_consensus = None, True
        self.connection.permit(NODE_CHANNELS | {Channel.CONSENSUS})
        self.connection.takers[Channel.CONSENSUS] = self._hear_consensus

    @property
    def is_validators(self) -> bool:
        """Whether both ends are validators."""
        return self._take_consensus is not None

    @property
    def hears_consensus(self) -> bool:
        """Whether its peer may say something as a validator, taken or not."""
        return self.is_validators or self._ignores_consensus

    def vote(self, body: bytes) -> bool:
        """Queue an encoded message of consensus without waiting. False: the connection is over; a peer that does not take it loses it."""
        return self._post(body, Channel.CONSENSUS)

    @property
    def is_clogged(self) -> bool:
        """Whether its peer has not taken what is said to it for so long that it is no use as a link."""
        return self._full_s is not None and self._dropped_s - self._full_s > FULL_MAX_S

    async def call(self, body: bytes, deadline_ms: int, *, max_answer_bytes: int) -> bytes:
        """Ask the peer. Errors: as `Connection.call`."""
        return await self.connection.call(body, deadline_ms=deadline_ms, max_answer_bytes=max_answer_bytes)

    def hang_up(self, code: str = "", detail: str = "") -> None:
        """End it without waiting. It is no link any more."""
        self.is_link, self._take, self._early = False, None, None
        self.connection.close_soon(code, detail)

    async def run(self, answer: Answer, take_bulk: BulkTaker | None) -> str:
        """Take what the peer sends and asks until the connection is over; why it ended, empty if in order. It must be entered."""

        async def answer_paced(body: bytes, deadline_ms: int) -> bytes:
            self._pace.spend(REQUEST_WORK, trio.current_time())
            return await answer(self, body, deadline_ms)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, take_bulk)
            try:
                await serve_requests(self.connection, answer_paced)
            except* QuStreamError:
                pass  # `end_code` says the same
            nursery.cancel_scope.cancel()
        return self.connection.end_code

    async def _read(self, take_bulk: BulkTaker | None) -> None:
        try:
            while True:
                batch = await self.connection.receive_many()  # gossip goes to `_hear`
                bulk = self._without_consensus(batch)
                if take_bulk is not None:
                    await take_bulk(self, bulk)
        except QuStreamError as error:
            self.connection.close_soon(error.code, error.detail)  # its peer broke a rule; nothing to say if it is over

    def _without_consensus(self, batch: Sequence[tuple[Channel, bytes | bytearray]]) -> list[bytes | bytearray]:
        """What came in bulk; certificates among it, and what came before `join_consensus`, are handed on."""
        bulk = []
        for channel, body in batch:
            is_consensus = channel is Channel.CONSENSUS or tag_of(body) in CONSENSUS_TAGS
            if is_consensus and self.hears_consensus:
                self._hear_consensus([body])
            elif channel is Channel.BULK:
                bulk.append(body)
        return bulk

    def _hear_consensus(self, bodies: Sequence[bytes | bytearray]) -> None:
        """Errors: `E-WIRE-…`, and nothing of what came together is taken."""
        if self._take_consensus is not None:
            most_bytes = CHANNEL_LIMITS[Channel.BULK].message_max_bytes
            self._take_consensus(self, [decode(body, ConsensusMessage, max_bytes=most_bytes) for body in bodies])

    def _hear(self, bodies: Sequence[bytes | bytearray]) -> None:
        """Errors: `E-WIRE-…`, and nothing of what came together is taken."""
        size = sum(map(len, bodies))
        self.messages_in += len(bodies)
        self.bytes_in += size
        if self._take is not None:
            messages = [decode(body, GossipMessage, max_bytes=GOSSIP_MAX_BYTES) for body in bodies]
            self._pace.spend(sum(map(_ids, messages)) // IDS_PER_WORK, trio.current_time())
            self._take(self.peer, messages)
        elif self._early is not None and len(self._early) + len(bodies) <= EARLY_MAX and self._early_bytes + size <= EARLY_MAX_BYTES:
            self._early_bytes += size
            self._early += [decode(body, GossipMessage, max_bytes=GOSSIP_MAX_BYTES) for body in bodies]

    def __repr__(self) -> str:
        return f"<Session {self.number} {'>' if self.ours else '<'}{self.peer.hex()[:8]}{' link' if self.is_link else ''}>"


def _ids(message: GossipMessage) -> int:
    """How many messages it speaks of."""
    if isinstance(message, GossipAnnounce):
        return len(message.entries)
    return len(message.ids) if isinstance(message, GossipPull) else 0
