"""Before a validator votes that was just started: who is there, and what they have of its own votes (`proto/spec/consensus.md`, §6).

A data directory and a sign-state that were put back together from one old copy contradict nothing on this machine, and where nobody is
ahead, nothing in how far others are. But others have the votes; and votes are signed, so nobody can make one up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from qnode.core.consensus_limits import REMINDED_MAX
from qnode.service.ballots import Ballots
from qnode.service.judging import seen
from qustream.identity.voting import VoteKey, verify_vote
from qustream.rules.rotation import quorum
from qustream.wire.consensus import ConsensusAsk, ConsensusMessage, Statement, Vote

__all__ = ["Meeting"]


class Meeting:
    """`hear` it what others say, `hold` it. `words`: our own votes that others have, their signatures checked."""

    def __init__(self, ballots: Ballots, key: VoteKey, chain: str, me: int) -> None:
        self.words: list[Vote] = []
        self._ballots, self._key, self._chain, self._me = ballots, key, chain, me
        self._asked: set[bytes] = set()
        self._told: dict[bytes, int] = {}  # how much each has said: who says much is heard as much as others

    async def hold(self, weights: Mapping[bytes, int], ours: int, ask: ConsensusAsk, *, meet_s: float, answer_s: float) -> None:
        """Until a quorum is linked, which nothing is decided without, and has had the time to answer. `weights`: of the other validators'
        nodes; `ours`: our own; `meet_s`: so long we wait for links."""
        enough = quorum([*weights.values(), ours])

        def is_there() -> bool | None:
            linked = {link.peer for link in self._ballots.sessions()}
            for peer in linked - self._asked:
                self._asked.add(peer)
                self._ballots.send(peer, ask)
            return ours + sum(weights.get(peer, 0) for peer in linked) >= enough or None

        with trio.move_on_after(meet_s):
            await seen(is_there)
        with trio.move_on_after(answer_s):
            await seen(lambda: self._asked <= self._told.keys() or None)

    def hear(self, peer: bytes, messages: Sequence[ConsensusMessage]) -> None:
        """What a validator says."""
        for message in messages:
            count = self._told.get(peer, 0)
            if not isinstance(message, Vote) or message.validator != self._me or count >= REMINDED_MAX:
                continue
            self._told[peer] = count + 1
            if message in self.words:
                continue
            statement = Statement(self._chain, message.rotation, message.view, message.kind, message.digest)
            if verify_vote(self._key.public, statement, message.signature):
                self.words.append(message)
