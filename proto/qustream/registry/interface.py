"""The questions every part asks about the network, whoever answers (`proto/spec/registry.md`, "Questions").

Blocking form. An implementation answers from one consistent view at `height`; it raises `E-REGISTRY-UNKNOWN` for what the
network does not know and `E-CHAIN-STALE` (unavailable) while it has no view at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from qustream.errors import QuStreamError
from qustream.model.network import Epoch, Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord

__all__ = ["Change", "ChangeKind", "Refreshed", "Registry", "if_known"]

_T = TypeVar("_T")
_N = TypeVar("_N")


class ChangeKind(StrEnum):
    """What happened to what `Change.id` names. `EVERYTHING`: too much, or too long ago, to be told one by one."""

    EVERYTHING = "everything"
    NODE_ADDED = "node-added"
    NODE_CHANGED = "node-changed"
    NODE_REMOVED = "node-removed"
    QRNG_SERVER_ADDED = "qrng-server-added"
    QRNG_SERVER_CHANGED = "qrng-server-changed"
    QRNG_SERVER_REMOVED = "qrng-server-removed"
    USER_ADDED = "user-added"
    USER_CHANGED = "user-changed"
    USER_REMOVED = "user-removed"
    DEVICE_ADDED = "device-added"
    DEVICE_REVOKED = "device-revoked"
    GRANT_ADDED = "grant-added"
    GRANT_CHANGED = "grant-changed"
    GRANT_REMOVED = "grant-removed"


class Change(NamedTuple):
    """One difference between two views.

    `height`: at which it came; `id`: 32 raw bytes, empty for `EVERYTHING`; `user`: a device's owner, else empty."""

    height: int
    kind: ChangeKind
    id: bytes = b""
    user: bytes = b""


class Registry(Protocol):
    """The one question-answerer about the network. All ids are 32 raw bytes, all times Unix ms."""

    @property
    def height(self) -> int:
        """Of the view that answers: a network file's version, later a block's height."""
        ...

    @property
    def nodes_height(self) -> int:
        """A height above which nothing about any node has changed; at most `height`."""
        return self.height

    @property
    def chain(self) -> str:
        """The network's chain id."""
        ...

    def node(self, node_id: bytes, /) -> NodeRecord:
        """The licensed node, active or not."""
        ...

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        """All licensed nodes of a class in order of id, active or not."""
        ...

    def qrng_server(self, server_id: bytes, /) -> QrngServerRecord:
        """The registered QRNG server, active or not."""
        ...

    def user(self, user_id: bytes, /) -> UserRecord:
        """The user, his HPKE key and his devices; the master's signature on the HPKE key has been checked."""
        ...

    def addressee(self, user_id: bytes, /) -> bytes:
        """Whom to write to who means this user: the one he was merged into, or himself."""
        return user_id

    def grant(self, grant_id: bytes, /) -> Grant:
        """The grant, ended or not: whoever serves it compares epochs."""
        ...

    def grants_of(self, user_id: bytes, /) -> Sequence[Grant]:
        """The user's grants, the newest epoch first; empty for a user without any."""
        ...

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        """The nodes for index `j` of `grant`: at most five a class, rank 1 first, by the seed of the grant's epoch."""
        ...

    def epoch(self, now_ms: int) -> Epoch:
        """The epoch in which `now_ms` lies."""
        ...

    def epoch_at(self, number: int) -> Epoch:
        """The epoch with this number, past or to come."""
        ...

    def age_ms(self, now_ms: int) -> int:
        """How long ago this view was last confirmed."""
        ...

    def changes(self, since_height: int) -> Sequence[Change]:
        """What changed above `since_height`, oldest first; one `EVERYTHING` if that cannot be told any more."""
        ...


@runtime_checkable
class Refreshed(Protocol):
    """A registry that answers from what it has seen, and looks again when told."""

    def refresh(self, now_ms: int) -> object:
        """Look again; before the next question if need be."""
        ...


def if_known(look: Callable[[_N], _T], name: _N) -> _T | None:
    """What `look`, a question of a registry's, answers about the id or number `name`; None for what the network does not know."""
    try:
        return look(name)
    except QuStreamError as error:
        if error.code != "E-REGISTRY-UNKNOWN":
            raise
        return None
