"""Two statements that nobody signs who obeys the rules become a transaction (`proto/spec/consensus.md` §7, `ledger.md` §3).

It is sent from the account of this node's own key, if that has what it costs; else it is kept and shown, for whoever pays can send it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from qnode.core.consensus_events import Accuse, RotationBegan
from qnode.core.ledger.actions import fee_least
from qnode.service.chain import Chain
from qnode.service.mempool import Mempool
from qustream.aio.logs import logger
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.ids import account_id
from qustream.model.state import Account, Incident, IncidentKind, Table
from qustream.wire.chain import incident_id
from qustream.wire.codec import encode
from qustream.wire.transactions import Body, DoubleSign, Transaction

__all__ = ["Accusation", "Accusing"]

# One a validator and rotation counts; what is beyond is of a set of which a third lies, and everybody has it.
ACCUSATIONS_MAX = 128
# An hour of blocks: whoever is accused cannot outlast it, and it does not lie about for ever.
EXPIRES_AHEAD = 3_600
# FIPS 204 and Ed25519 together: what the sender's signature takes.
HYBRID_BYTES = 3373


@dataclass(slots=True)
class Accusation:
    """One. `state`: `sent`, or why it was not; `action`: for whoever wants to send it."""

    licence: bytes
    rotation: int
    view: int
    action: DoubleSign
    state: str = ""


class Accusing:
    """`key`: this node's. `accusations`: by licence and rotation, the oldest first."""

    def __init__(self, chain: Chain, mempool: Mempool, key: SigningKey, spawn: Callable[..., None]) -> None:
        self.accusations: dict[tuple[bytes, int], Accusation] = {}
        self._chain, self._mempool, self._key, self._spawn = chain, mempool, key, spawn
        self._log = logger("consensus")
        self._turn = trio.Lock()

    def accuse(self, begun: RotationBegan, effect: Accuse) -> None:
        """Take it up, once a validator and rotation: the second is of the same incident."""
        entry = self._chain.rotation(begun.rotation)
        if entry is None:
            return
        licence = entry.seats[effect.validator].licence
        name = (licence, begun.rotation)
        if name in self.accusations:
            return
        key = self._chain.vote_keys(begun.rotation)[effect.validator]
        (first, first_signature), (second, second_signature) = effect.first, effect.second
        action = DoubleSign(key, first, first_signature, second, second_signature)
        self.accusations[name] = found = Accusation(licence, begun.rotation, first.view, action)
        if len(self.accusations) > ACCUSATIONS_MAX:
            del self.accusations[next(iter(self.accusations))]
        self._log.debug("a validator has signed twice", licence=licence.hex(), rotation=begun.rotation, view=first.view)
        self._spawn(self._send, found)

    async def _send(self, found: Accusation) -> None:
        async with self._turn:  # each behind the one before: or who is to be caught would have somebody else take the nonce first
            if self._is_known(found):
                found.state = "known"
                return
            try:
                await self._mempool.submit(self._signed(found.action))
                found.state = "sent"
            except QuStreamError as error:  # most nodes' own accounts have nothing
                found.state = error.code
                self._log.debug("the proof is kept, and not sent from this node's account", code=error.code, detail=error.detail)

    def _is_known(self, found: Accusation) -> bool:
        name = incident_id(IncidentKind.DOUBLE_SIGN, found.licence, found.rotation)
        return self._chain.state().get(Table.INCIDENT, name, Incident) is not None

    def _signed(self, action: DoubleSign) -> bytes:
        """From our own account, with the least fee."""
        chain, sender = self._chain, account_id(self._key.id)
        held = chain.state().get(Table.ACCOUNT, sender, Account) or Account(0, 0)
        nonce = max(held.nonce, self._mempool.core.next_nonce(sender))  # something of its own may wait
        expires = chain.head.height + EXPIRES_AHEAD

        def raw(fee: int, signature: bytes | None = None) -> bytes:
            body = encode(Body(chain.genesis.chain, sender, nonce, expires, fee, action))
            return encode(Transaction(body, self._key.public, signature or self._key.sign("transaction", body)))

        # Numbers of eight bytes are the longest, so this is what it costs at most.
        size = len(raw(1 << 62, bytes(HYBRID_BYTES)))
        return raw(fee_least(action, size, chain.parameters))
