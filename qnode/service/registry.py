"""The registry of a node that keeps the chain: every answer from the executed state (`proto/spec/registry.md`, "Chain").

The nodes are all in memory, for every request ranks them; users and grants are looked up, and the newest kept. One view of the state is
held open from one executed block to the next, so that all answers are of one height, whatever is being written meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

from qnode.core.ledger.state import Reader
from qustream.errors import QuStreamError, fault
from qustream.model.base import Noun
from qustream.model.genesis import Genesis
from qustream.model.ids import IdKind
from qustream.model.network import Epoch, Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.model.state import EpochEntry, Licence, NodeEntry, Parameters, Progress, Table, UserEntry
from qustream.registry.assigned import AssignedNodes
from qustream.registry.chain_records import node_record, user_record
from qustream.registry.changes import GRANT_KINDS, NODE_KINDS, QRNG_KINDS, USER_KINDS, ChangeLog, compared, device_changes
from qustream.registry.contents import LicensedNode
from qustream.registry.interface import Change, Registry, if_known
from qustream.registry.view import unknown
from qustream.wire.codec import decode

__all__ = ["ChainRegistry"]

# The largest value of a state: a user with 256 devices.
VALUE_MAX_BYTES = 65_536
# Users and grants of the requests of some minutes: 9 MB and 3 MB at most. A miss costs a look into the store and the decoding.
USERS_KEPT, GRANTS_KEPT = 1024, 8192
# Seeds of epochs that grants still name, and of those that are looked back at.
EPOCHS_KEPT = 64
# How many entries of a table are read at a time.
PAGE = 1024
# The newest of a user's that are told: a device has a directory of 1,024, of which half may have ended.
GRANTS_OF_MAX = 4096
ID_BYTES = 32  # BLAKE2b-256
EPOCH_BYTES = 8  # as in names of the state

_T = TypeVar("_T", bound=Noun)
_V = TypeVar("_V")


class _Newest(OrderedDict[bytes, _V]):
    """At most so many; whoever was asked for longest ago goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def find(self, name: bytes) -> _V | None:
        """It, and it is the newest again."""
        if name in self:
            self.move_to_end(name)
        return self.get(name)

    def keep(self, name: bytes, value: _V) -> _V:
        self[name] = value
        if len(self) > self._most:
            self.popitem(last=False)
        return value


def _of(table: Table, changes: Mapping[bytes, bytes | None]) -> list[bytes]:
    """The keys of a table among those that changed, in order."""
    return sorted(key for key in changes if key[0] == table)


def _user(raw: bytes | None) -> UserRecord | None:
    return None if raw is None else user_record(decode(raw, UserEntry, max_bytes=VALUE_MAX_BYTES))


class ChainRegistry(Registry):
    """`Registry` from the state of the chain. Every method may be called from any thread."""

    def __init__(self, state: Callable[[], AbstractContextManager[Reader]], genesis: Genesis) -> None:
        """`state`: a view of the newest executed state, which stays as it is until it is closed."""
        self._state, self._chain, self._genesis_ms = state, genesis.chain, genesis.time_ms
        self._lock = threading.RLock()
        self._users: _Newest[UserRecord] = _Newest(USERS_KEPT)
        self._grants: _Newest[Grant] = _Newest(GRANTS_KEPT)
        self._epochs: _Newest[Epoch] = _Newest(EPOCHS_KEPT)
        self._open, self._view = self._opened()
        progress = self._read(Table.PROGRESS, b"", Progress)
        assert progress is not None, "a state says how far it is"
        self._progress, self._nodes_height = progress, progress.height
        self._parameters = self._read_parameters()
        self._log = ChangeLog(progress.height)
        self._node_of: dict[bytes, bytes] = {}  # licence → node
        self._nodes = self._all_nodes()
        self._assigned = self._assign()

    @property
    def trouble(self) -> QuStreamError | None:
        """As a network file's: a state that was executed is never bad."""
        return None

    def close(self) -> None:
        """Let go of the state."""
        with self._lock:
            self._open.close()

    # -- following ----------------------------------------------------------------------------------------------------------

    def executed(self, changes: Mapping[bytes, bytes | None], progress: Progress) -> None:
        """A block has been executed and is in the store: `changes` of its state, by key. From the next question on it counts."""
        with self._lock:
            before, old = self._open, self._view
            self._open, self._view = self._opened()
            try:
                self._follow(old, changes, progress)
            finally:
                before.close()

    def _follow(self, old: Reader, changes: Mapping[bytes, bytes | None], progress: Progress) -> None:
        told = [*self._changed_nodes(changes, progress.height)]
        if told:
            self._nodes_height = progress.height
            self._assigned = self._assign()
        for table, kinds in ((Table.QRNG_SERVER, QRNG_KINDS), (Table.USER, USER_KINDS), (Table.GRANT, GRANT_KINDS)):
            keys = _of(table, changes)
            was = {key[1:]: raw for key in keys if (raw := old.get(key)) is not None}
            told += compared(progress.height, kinds, was, {key[1:]: raw for key in keys if (raw := changes[key]) is not None})
            if table is Table.USER:
                for key in keys:
                    if (user := _user(changes[key])) is not None:
                        told += device_changes(progress.height, key[1:], _user(old.get(key)), user)
                    self._users.pop(key[1:], None)
            if table is Table.GRANT:
                for key in keys:
                    self._grants.pop(key[1:], None)
        if bytes([Table.PARAMETERS]) in changes:
            self._parameters = self._read_parameters()
            self._epochs.clear()
        self._log = self._log.extended(progress.height, told)
        self._progress = progress

    def _changed_nodes(self, changes: Mapping[bytes, bytes | None], height: int) -> Iterator[Change]:
        """Take over what became of nodes. A licence says whether its node is active, and who runs it."""
        touched = {key[1:] for key in _of(Table.NODE, changes)}
        touched |= {self._node_of[key[1:]] for key in _of(Table.LICENCE, changes) if key[1:] in self._node_of}
        if not touched:
            return
        old = {node: self._nodes[node] for node in touched if node in self._nodes}
        for licensed in old.values():
            self._node_of.pop(licensed.record.licence, None)
        new = {node: found for node in touched if (found := self._read_node(node)) is not None}
        self._nodes = {node: each for node, each in self._nodes.items() if node not in touched} | new
        self._node_of |= {licensed.record.licence: node for node, licensed in new.items()}
        yield from compared(height, NODE_KINDS, old, new)

    # -- reading --------------------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[ExitStack, Reader]:
        stack = ExitStack()
        return stack, stack.enter_context(self._state())

    def _read(self, table: Table, name: bytes, kind: type[_T]) -> _T | None:
        raw = self._view.get(bytes([table]) + name)
        return None if raw is None else decode(raw, kind, max_bytes=VALUE_MAX_BYTES)

    def _read_parameters(self) -> Parameters:
        parameters = self._read(Table.PARAMETERS, b"", Parameters)
        assert parameters is not None, "a chain has parameters"
        return parameters

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        after = b""
        while page := self._view.scan(prefix, after, PAGE):
            yield from page
            after = page[-1][0]

    def _all_nodes(self) -> dict[bytes, LicensedNode]:
        nodes = {}
        for key, _ in self._scan(bytes([Table.NODE])):
            licensed = self._read_node(key[1:])
            if licensed is not None:
                nodes[key[1:]] = licensed
                self._node_of[licensed.record.licence] = key[1:]
        return nodes

    def _read_node(self, node: bytes) -> LicensedNode | None:
        entry = self._read(Table.NODE, node, NodeEntry)
        licence = self._read(Table.LICENCE, entry.licence, Licence) if entry is not None else None
        if entry is None or licence is None:
            return None
        return LicensedNode(node_record(entry, licence), licence.since_epoch)

    def _assign(self) -> AssignedNodes:
        return AssignedNodes(self._nodes, lambda epoch: self.epoch_at(epoch).seed)

    # -- the registry -----------------------------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        return self._progress.height

    @property
    def nodes_height(self) -> int:
        return self._nodes_height

    @property
    def chain(self) -> str:
        return self._chain

    def node(self, node_id: bytes, /) -> NodeRecord:
        licensed = self._nodes.get(node_id)
        if licensed is None:
            raise unknown(IdKind.NODE, node_id)
        return licensed.record

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        return self._assigned.of_class(node_class)

    def qrng_server(self, server_id: bytes, /) -> QrngServerRecord:
        with self._lock:
            server = self._read(Table.QRNG_SERVER, server_id, QrngServerRecord)
        if server is None:
            raise unknown(IdKind.QRNG, server_id)
        return server

    def user(self, user_id: bytes, /) -> UserRecord:
        """As `Registry.user`. Who was merged into another is still himself: his devices sign for him, with certificates of his master."""
        with self._lock:
            known = self._users.find(user_id)
            if known is None:
                known = self._users.keep(user_id, user_record(self._user_entry(user_id)))
            return known

    def _user_entry(self, user_id: bytes) -> UserEntry:
        entry = self._read(Table.USER, user_id, UserEntry)
        if entry is None:
            raise unknown(IdKind.USER, user_id)
        return entry

    def addressee(self, user_id: bytes, /) -> bytes:
        with self._lock:
            return self._user_entry(user_id).alias or user_id

    def grant(self, grant_id: bytes, /) -> Grant:
        with self._lock:
            grant = self._grants.find(grant_id)
            if grant is None:
                grant = self._read(Table.GRANT, grant_id, Grant)
                if grant is None:
                    raise unknown(IdKind.GRANT, grant_id)
                self._grants.keep(grant_id, grant)
            return grant

    def grants_of(self, user_id: bytes, /) -> Sequence[Grant]:
        """As `Registry.grants_of`: the newest 4,096."""
        if len(user_id) != ID_BYTES:
            return ()
        prefix = bytes([Table.GRANT_OF]) + user_id
        newest: OrderedDict[bytes, None] = OrderedDict()
        with self._lock:
            for key, _ in self._scan(prefix):
                newest[key[len(prefix) + EPOCH_BYTES :]] = None
                if len(newest) > GRANTS_OF_MAX:
                    newest.popitem(last=False)
            grants = [self.grant(grant) for grant in newest]
        return tuple(sorted(grants, key=lambda grant: (-grant.epoch, grant.grant)))

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        return self._assigned.assignment(grant, j)

    def epoch(self, now_ms: int) -> Epoch:
        """The epoch of now, or the chain's newest as long as that one has no block."""
        if now_ms < self._genesis_ms:
            raise fault("E-CHAIN-STALE", f"this clock is {self._genesis_ms - now_ms} ms before the network's genesis")
        with self._lock:
            newest = self._progress.epoch
            # An epoch in which there was no block at all is none.
            number = min((now_ms - self._genesis_ms) // self._parameters.epoch_ms, newest)
            return if_known(self.epoch_at, number) or self.epoch_at(newest)

    def epoch_at(self, number: int) -> Epoch:
        """Errors: `E-REGISTRY-UNKNOWN` for one that has had no block."""
        name = number.to_bytes(EPOCH_BYTES, "big") if 0 <= number < 1 << 63 else b""
        with self._lock:
            known = self._epochs.find(name)
            if known is None:
                entry = self._read(Table.EPOCH, name, EpochEntry) if name else None
                if entry is None:
                    raise fault("E-REGISTRY-UNKNOWN", f"epoch {number} has had no block")
                length_ms = self._parameters.epoch_ms
                known = self._epochs.keep(name, Epoch(number, self._genesis_ms + number * length_ms, entry.seed, length_ms))
            return known

    def age_ms(self, now_ms: int) -> int:
        """How old the newest executed block is, by this clock: a node that hears of no block any more grows stale."""
        return max(0, now_ms - self._progress.time_ms)

    def changes(self, since_height: int) -> Sequence[Change]:
        return self._log.since(since_height)
