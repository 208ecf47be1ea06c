"""A qnode whose validator signs twice, for tests: with its first vote above height 3 it casts another, for a block that nobody made.

`python tests/support/twin_child.py run --config FILE`. Everything else of it is the daemon as it is.
"""

from __future__ import annotations

import hashlib

import qnode
from qnode.core.consensus_events import Sign
from qnode.service.term import Term
from qustream.wire.consensus import Kind, Statement, Vote

HONEST_UP_TO = 3

_sign = Term._sign
_done: list[int] = []


def _sign_twice(self: Term, effect: Sign) -> None:
    _sign(self, effect)
    statement = effect.statement
    if statement.kind is not Kind.NOTAR or _done or self.height <= HONEST_UP_TO:
        return
    _done.append(statement.view)
    other = Statement(statement.chain, statement.rotation, statement.view, Kind.NOTAR, hashlib.sha256(statement.digest).digest())
    voter, me = self._duties.voter, self.begun.me
    assert voter is not None
    assert me is not None
    signature = voter.key.sign(other)
    self._duties.ballots.broadcast(Vote(other.rotation, other.view, other.kind, other.digest, me, signature))


if __name__ == "__main__":
    Term._sign = _sign_twice  # type: ignore[method-assign]
    qnode.main()
