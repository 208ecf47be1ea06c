"""Whether a transaction may stand in a block (`proto/spec/ledger.md`, §3; rule V5 of consensus). Mempool, proposer and voter ask the same.

Asked is the executed state and what comes after it unexecuted, in order. Whatever execution makes of those, a transaction that is
admitted here can pay: what somebody is yet to receive does not count, and what he may yet spend does.
"""

from __future__ import annotations

from collections.abc import Sequence

from qnode.core.ledger.actions import fee_least, outflow
from qnode.core.ledger.block import Checked
from qnode.core.ledger.state import State
from qustream.model.state import Account, Parameters, Table
from qustream.wire.transactions import Body

__all__ = ["EXPIRES_AHEAD_MAX", "Admission"]

# Four hours of blocks of a second: whoever signs offline has time, and nobody's forgotten transaction comes back another day.
EXPIRES_AHEAD_MAX = 14_400


class Admission:
    """Running sums per sender. Bounded by what is added."""

    def __init__(self, state: State, unexecuted: Sequence[Body], parameters: Parameters) -> None:
        """`state`: the executed one; `unexecuted`: what stands in the blocks after it, in order."""
        self._state, self._parameters = state, parameters
        self._held: dict[bytes, Account] = {}
        self._next: dict[bytes, tuple[int, int]] = {}  # nonce, and what is left to spend
        for body in unexecuted:
            _, left = self._of(body.sender)
            self._next[body.sender] = body.nonce + 1, left - body.fee - outflow(body.action, parameters)

    def add(self, checked: Checked, height: int) -> str | None:
        """Why this may not stand next in the block of `height`, as a code; or None, and then it does."""
        body, parameters = checked.body, self._parameters
        nonce, left = self._of(body.sender)
        if checked.key is None and not self._held[body.sender].nonce:
            return "E-LEDGER-KEY"
        if body.nonce != nonce:
            return "E-LEDGER-NONCE"
        if not height <= body.expires <= height + EXPIRES_AHEAD_MAX:
            return "E-LEDGER-EXPIRED"
        if body.fee < fee_least(body.action, checked.size, parameters):
            return "E-LEDGER-FEE"
        after = left - body.fee - outflow(body.action, parameters)
        if after < 0:
            return "E-LEDGER-FUNDS"
        self._next[body.sender] = nonce + 1, after
        return None

    def next_nonce(self, sender: bytes) -> int:
        """What the nonce of the sender's next transaction has to be."""
        return self._of(sender)[0]

    def _of(self, sender: bytes) -> tuple[int, int]:
        known = self._next.get(sender)
        if known is None:
            held = self._state.get(Table.ACCOUNT, sender, Account) or Account(0, 0)
            self._held[sender] = held
            known = self._next[sender] = held.nonce, held.liquid
        return known
