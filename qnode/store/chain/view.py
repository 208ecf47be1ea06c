"""One state of the chain, to be read and proved from while blocks go on being executed (`proto/spec/state.md` §3)."""

from __future__ import annotations

import threading
from types import TracebackType

from qnode.store.chain import state
from qnode.store.chain.environment import Environment, Reading
from qustream.errors import fault
from qustream.model.state import Progress
from qustream.rules.radix import Proof, path_of
from qustream.rules.radix_tree import prove

__all__ = ["HeldState", "ProvenNodes", "StateView"]


# Of lowest inner nodes that proofs were made with: those of a state of 200,000 entries, 2.5 MB. Anybody may ask for proofs of any keys.
PROVEN_MAX = 4096


class ProvenNodes:
    """What was made for proofs, for those that come after (`qustream.rules.radix_tree.Proven`); the one put in longest ago gives way. Any
    threads."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> bytes | None:
        return self._nodes.get(digest)

    def put(self, digest: bytes, node: bytes) -> None:
        with self._lock:
            self._nodes[digest] = node
            if len(self._nodes) > PROVEN_MAX:
                del self._nodes[next(iter(self._nodes))]

    def __len__(self) -> int:
        return len(self._nodes)


class HeldState:
    """A reading that several views share; closed when the last lets go of it."""

    def __init__(self, environment: Environment, reading: Reading, root: bytes, proven: ProvenNodes) -> None:
        self.environment, self.reading, self.root, self.proven = environment, reading, root, proven
        if reading.progress is None:
            raise fault("E-NOT-HELD", "there is no state yet")
        self.progress: Progress = reading.progress
        self._lock = threading.Lock()
        self._users = 1

    def view(self) -> StateView:
        """One more who uses it."""
        with self._lock:
            self._users += 1
        return StateView(self)

    def release(self) -> None:
        """One fewer."""
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            self.reading.close()


class StateView:
    """The state after the block `height`, whose root is `root` (`qnode.core.ledger.state.Reader`). Any thread may use it; to be closed.

    Errors of reading: `E-DATA-CORRUPT`; `E-NOT-HELD` after `close`, and, for a state that is not the newest, when the database had to
    grow."""

    def __init__(self, held: HeldState) -> None:
        """Use `ChainStore.state` or `ChainStore.certified`."""
        self._held = held
        self._reading, self._entries = held.reading, held.environment.tables.entries
        self._closed = False
        self.progress, self.root, self.height = held.progress, held.root, held.progress.height

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        if self._closed:
            self._require_open()
        stored = self._reading.get(path_of(key), self._entries)
        return None if stored is None else state.value_of(key, stored)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` entries whose keys begin with `prefix` and are greater than `after`, in order of the keys."""
        self._require_open()
        with self._held.reading.using() as txn:
            return state.scan(txn, self._held.environment.tables, prefix, after, limit)

    def prove(self, key: bytes) -> Proof:
        """A proof, under `root`, of what `get` says."""
        self._require_open()
        with self._held.reading.using() as txn:
            return prove(state.StoredTree(txn, self._held.environment.tables), self.root, key, self._held.proven)

    @property
    def reading(self) -> Reading:
        """For what exports a snapshot of it."""
        self._require_open()
        return self._held.reading

    def _require_open(self) -> None:
        if self._closed:
            raise fault("E-NOT-HELD", "this view of the state has been closed")

    def close(self) -> None:
        """Let go of it. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._held.release()

    def __enter__(self) -> StateView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
