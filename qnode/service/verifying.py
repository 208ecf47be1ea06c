"""The signatures of what validators say, checked in the order in which they came, many at a time (`proto/spec/consensus.md`, §6).

Whoever sends what does not hold loses the connection: a validator says its own votes and what it has verified, so it knows better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from qnode.core.consensus_hearing import key_of
from qnode.core.consensus_limits import VERIFYING_MAX
from qnode.core.consensus_view import voters_of
from qnode.service.verify import Verifier
from qustream.wire.consensus import Certificate, Kind, Proposal, Statement, Vote, header_digest

__all__ = ["Verifying", "stated"]

# Messages whose signatures are under way at once: one batch in the processes, one on the way to them, one coming back.
BATCHES_AT_ONCE = 3
# Signatures of a batch: a full certificate and the votes of a view, 20 ms of one processor.
BATCH_SIGNATURES = 256

Checkable = Proposal | Vote | Certificate


class Verifying:
    """Of one rotation. `keys`: its vote keys; `told`: hears of each message whether it holds, and who sent it (None: we, or the disk)."""

    def __init__(
        self, verifier: Verifier, chain: str, keys: Sequence[bytes], told: Callable[[Checkable, bool, bytes | None], None]
    ) -> None:  # fmt: skip
        self._verifier, self._chain, self._keys, self._told = verifier, chain, keys, told
        self._waiting: dict[tuple[object, ...], tuple[Checkable, bytes | None]] = {}
        self._news = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def verify(self, message: Checkable, peer: bytes | None) -> None:
        """Check it as soon as possible. The core asks for no more than `VERIFYING_MAX` at a time."""
        assert len(self._waiting) < VERIFYING_MAX
        self._waiting[key_of(message)] = message, peer
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(BATCHES_AT_ONCE):
                nursery.start_soon(self._check_batches)

    async def _check_batches(self) -> None:
        while True:
            while not self._waiting:
                self._news = trio.Event() if self._news.is_set() else self._news
                await self._news.wait()
            batch, statements = self._take()
            holds = await self._verifier.statements([each for several in statements for each in several])
            for (message, peer), several in zip(batch, statements, strict=True):
                good, holds = all(holds[: len(several)]), holds[len(several) :]
                self._told(message, good, peer)

    def _take(self) -> tuple[list[tuple[Checkable, bytes | None]], list[list[tuple[bytes, Statement, bytes]]]]:
        """The oldest, up to a batch."""
        batch, statements, count = [], [], 0
        while self._waiting and count < BATCH_SIGNATURES:
            key = next(iter(self._waiting))
            message, peer = self._waiting.pop(key)
            batch.append((message, peer))
            statements.append(stated(message, self._chain, self._keys))
            count += len(statements[-1])
        return batch, statements


def stated(message: Checkable, chain: str, keys: Sequence[bytes]) -> list[tuple[bytes, Statement, bytes]]:
    """What a message says that validators have signed: (vote key, statement, signature). Its form fits the rotation of `keys`."""
    match message:
        case Proposal(header=header):
            statement = Statement(chain, header.rotation, header.view, Kind.PROPOSAL, header_digest(header))
            return [(keys[header.proposer], statement, message.signature)]
        case Vote():
            statement = Statement(chain, message.rotation, message.view, message.kind, message.digest)
            return [(keys[message.validator], statement, message.signature)]
        case Certificate():
            statement = Statement(chain, message.rotation, message.view, message.kind, message.digest)
            signers = zip(voters_of(message), message.signatures, strict=True)
            return [(keys[voter], statement, signature) for voter, signature in signers]
