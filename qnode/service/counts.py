"""What a node counts about the requests it answers; the status snapshot shows it."""

from __future__ import annotations

from collections import Counter

from qustream.errors import CODES

__all__ = ["RequestCounts"]


class RequestCounts:
    """Requests by what became of them. Keys are the kinds of the protocol and the codes of the error table: bounded."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def count_answered(self, kind: str) -> None:
        """One request of this kind (key, collect, acknowledge, revoke, alerts) was answered."""
        self.answered[kind] += 1

    def count_refused(self, code: str) -> None:
        """One request was refused with this code."""
        assert code in CODES, "refusals carry codes of the table"
        self.refused[code] += 1
