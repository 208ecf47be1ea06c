"""Saying things to validators (`proto/spec/consensus.md`, §1 and §6).

Votes, proposals and questions go on the consensus channel, which waits for nobody: who does not take them loses the connection. What
answers a question (certificates of 240 KiB, blocks) goes in bulk, one answer a peer at a time, so that no vote waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from qnode.core.consensus_events import SendEnd, SendKept
from qnode.net.hub import Hub
from qnode.net.session import Session
from qnode.store.chain import ChainStore
from qustream.errors import QuStreamError
from qustream.transport.limits import Channel
from qustream.wire.codec import encode
from qustream.wire.consensus import ConsensusMessage, Kind

__all__ = ["ANSWER_MAX_BYTES", "Ballots"]

# Four certificates of a full set, or some twenty blocks: what a validator behind a thin line can take within its second.
ANSWER_MAX_BYTES = 1 << 20
# How long an answer may take to be taken; then its rest is dropped, and asked for again.
ANSWER_S = 10.0


class Ballots:
    """`nodes`: of the rotation's validators, by number, None for one that has no node; `hub`: where links are."""

    def __init__(self, hub: Hub, store: ChainStore, spawn: Callable[..., None]) -> None:
        self._hub, self._store, self._spawn = hub, store, spawn
        self._answering: set[bytes] = set()
        self.nodes: Sequence[bytes | None] = ()
        self.said = self.answered = 0

    def sessions(self) -> list[Session]:
        """Links to validators of the rotation that stand."""
        return [link for node in self.nodes if node is not None and (link := self._hub.link_to(node)) is not None and link.is_validators]

    def broadcast(self, message: ConsensusMessage) -> None:
        """Say it to all other validators that are linked."""
        body = encode(message)
        for link in self.sessions():
            self.said += link.vote(body)

    def send(self, to: int | bytes, message: ConsensusMessage) -> None:
        """Say it to one, if it is linked: a validator by number, or a node."""
        node = self.nodes[to] if isinstance(to, int) else to
        link = self._hub.link_to(node) if node is not None else None
        if link is not None and link.is_validators:
            self.said += link.vote(encode(message))

    def answer(self, to: bytes, parts: Sequence[SendKept | SendEnd]) -> None:
        """Send what a question has led to; while another answer is on its way there, nothing."""
        link = self._hub.link_to(to)
        if link is not None and link.is_validators and to not in self._answering:
            self._answering.add(to)
            self._spawn(self._send_answer, link, parts)

    async def _send_answer(self, link: Session, parts: Sequence[SendKept | SendEnd]) -> None:
        room = ANSWER_MAX_BYTES
        try:
            with trio.move_on_after(ANSWER_S):
                for part in parts:
                    body = await trio.to_thread.run_sync(self._read, part)
                    if body is None or len(body) > room:
                        continue
                    room -= len(body)
                    await link.connection.send(Channel.BULK, body)
                    self.answered += 1
        except QuStreamError:
            return  # the link is gone, or the disk says so elsewhere
        finally:
            self._answering.discard(link.peer)

    def _read(self, part: SendKept | SendEnd) -> bytes | None:
        message: ConsensusMessage | None
        if isinstance(part, SendEnd):
            message = self._store.end_of(part.rotation)
        elif part.kind is Kind.PROPOSAL:
            message = self._store.proposal(part.digest)
        else:
            message = self._store.certificate(part.rotation, part.view, part.kind, part.digest)
        return None if message is None else encode(message)
