"""The state that a chain begins with, in memory: what a node knows of the network before it has any other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from types import TracebackType

from qnode.core.ledger.genesis import begin
from qnode.core.ledger.state import State
from qustream.model.genesis import Genesis

__all__ = ["Beginning"]


class Beginning:
    """A reader (`qnode.core.ledger.state.Reader`) of genesis' entries; nothing has to be closed. A large genesis has 60,000."""

    def __init__(self, genesis: Genesis) -> None:
        """Errors: `E-LEDGER-FORM`."""
        state = State(_Nothing())
        begin(state, genesis)
        self._entries = {key: value for key, value in state.changes().items() if value is not None}
        self._keys = sorted(self._entries)

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        at = bisect_right(self._keys, after) if after >= prefix else bisect_left(self._keys, prefix)
        found = self._keys[at : at + limit]
        return [(key, self._entries[key]) for key in found if key.startswith(prefix)]

    def __enter__(self) -> Beginning:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class _Nothing:
    """The state before genesis."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return []
