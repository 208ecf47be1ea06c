"""Following the chain's rotations from a checkpoint, by asking linked nodes what a light client asks (`proto/spec/light-client.md`, §2)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence

import trio

from qustream.errors import PeerFault, QuStreamError, fault
from qustream.identity.voting import verify_vote
from qustream.light.trust import Later, Trust
from qustream.wire.codec import encode
from qustream.wire.consensus import Certificate, ChainHeader
from qustream.wire.light import HandOversAsk, LightAsk

__all__ = ["Following"]

# So many must say that a rotation is the present one, if as many can be asked: one honest of them knows of a later.
AGREE = 3


class Following:
    """`ask`: a peer's answer; `peers`: who can be asked; `charge`: this one lied. One task at a time is served."""

    def __init__(
        self, pinned: bytes, chain: str, *, ask: Callable[[bytes, bytes], Awaitable[bytes]], peers: Callable[[], Sequence[bytes]],
        charge: Callable[[bytes, str], None], clock_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._trust = Trust(pinned, verify=verify_vote, now_ms=clock_ms())
        self._chain, self._clock_ms = chain, clock_ms
        self._ask, self._peers, self._charge = ask, peers, charge
        self._lock = trio.Lock()

    @property
    def rotation(self) -> int:
        """The newest that is known; 0 before the checkpoint is."""
        return self._trust.rotation

    async def require(self, headers: Sequence[ChainHeader], certificate: Certificate, peer: bytes) -> None:
        """That the last of these headers is final, and the others are its ancestors; `peer` said so. Errors: `E-PROOF` for a lie;
        `E-CHECKPOINT-OLD`; `E-CHAIN-STALE` if the checkpoint is of another chain, or unknown to all, or it cannot be told."""
        async with self._lock:
            for _ in range(2):
                await self._follow(peer)
                try:
                    await trio.to_thread.run_sync(self._trust.proven, headers, certificate)
                except Later:
                    continue
                return
        raise fault("E-CHAIN-STALE", "a state of a rotation that nobody hands over to")

    async def _follow(self, first: bytes) -> None:
        trust = self._trust
        trust.follow(self._clock_ms())
        while (question := trust.question()) is not None:
            await self._answered(question, first)
            if trust.chain and trust.chain != self._chain:
                raise fault("E-CHAIN-STALE", f"the checkpoint is of the chain {trust.chain!r}, not of {self._chain!r}")

    async def _answered(self, question: LightAsk, first: bytes) -> None:
        """The first answer that checks; `first`, and then others in random order, are asked."""
        peers = [peer for peer in self._peers() if peer != first]
        secrets.SystemRandom().shuffle(peers)
        have_not, why = 0, "nobody can be asked"
        for peer in (first, *peers):
            try:
                said = await self._ask(peer, encode(question))
            except QuStreamError as error:
                have_not += error.code == "E-NOT-HELD"
                why = error.detail
                if isinstance(question, HandOversAsk) and have_not >= AGREE:
                    break
                continue
            try:
                await trio.to_thread.run_sync(self._trust.take, question, said)
            except PeerFault as error:
                self._charge(peer, error.detail)
                continue
            return
        if not isinstance(question, HandOversAsk) or not have_not:
            raise fault("E-CHAIN-STALE", f"no node that is linked could be asked about the checkpoint: {why}")
        self._trust.is_newest()
