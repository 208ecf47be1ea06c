"""One consistent view of the network, never changed once made (`proto/spec/registry.md`, "Questions")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from qustream.errors import QuStreamError, fault
from qustream.model.ids import IdKind, to_text
from qustream.model.network import Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry.contents import EnrolledUser, NetworkContents
from qustream.rules.assignment import ranked

__all__ = ["NetworkView"]

# Requests in flight on a busy node, with room: an entry is a few hundred bytes, a miss costs a ranking (milliseconds).
ASSIGNMENTS_KEPT = 4096
# A grant lives two epochs, so few are asked for at one time; an entry points to all nodes of a class.
CANDIDATES_KEPT = 16
ID_BYTES = 32
NAMES = {IdKind.NODE: "node", IdKind.QRNG: "QRNG server", IdKind.USER: "user", IdKind.GRANT: "grant"}


def _unknown(kind: IdKind, raw: bytes) -> QuStreamError:
    shown = to_text(kind, raw) if len(raw) == ID_BYTES else f"an id of {len(raw)} bytes"
    return fault("E-REGISTRY-UNKNOWN", f"the network knows no {NAMES[kind]} {shown}")


class NetworkView:
    """What a network file said at one version. Takes over `contents`: nobody may change it afterwards. Safe for many threads."""

    def __init__(self, contents: NetworkContents) -> None:
        self._contents = contents
        self.chain = contents.chain
        self.height = contents.version
        self.epochs = contents.epochs
        self._of_class: dict[NodeClass, tuple[NodeRecord, ...]] = {}
        ordered = [node.record for _, node in sorted(contents.nodes.items())]
        for node_class in NodeClass:
            self._of_class[node_class] = tuple(record for record in ordered if record.node_class is node_class)
        grants: dict[bytes, list[Grant]] = {}
        for grant in sorted(contents.grants.values(), key=lambda grant: (-grant.epoch, grant.grant)):
            grants.setdefault(grant.owner, []).append(grant)
        self._grants_of = {owner: tuple(theirs) for owner, theirs in grants.items()}
        self._ranked = lru_cache(maxsize=ASSIGNMENTS_KEPT)(self._rank)
        self._candidates = lru_cache(maxsize=CANDIDATES_KEPT)(self._candidates_at)

    @property
    def users(self) -> Mapping[bytes, EnrolledUser]:
        """All users by id."""
        return MappingProxyType(self._contents.users)

    @property
    def contents(self) -> NetworkContents:
        """Everything, to compare two views. Read only."""
        return self._contents

    def node(self, node_id: bytes) -> NodeRecord:
        node = self._contents.nodes.get(node_id)
        if node is None:
            raise _unknown(IdKind.NODE, node_id)
        return node.record

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        return self._of_class[node_class]

    def qrng_server(self, server_id: bytes) -> QrngServerRecord:
        server = self._contents.qrng_servers.get(server_id)
        if server is None:
            raise _unknown(IdKind.QRNG, server_id)
        return server

    def user(self, user_id: bytes) -> UserRecord:
        user = self._contents.users.get(user_id)
        if user is None:
            raise _unknown(IdKind.USER, user_id)
        return user.record

    def grant(self, grant_id: bytes) -> Grant:
        grant = self._contents.grants.get(grant_id)
        if grant is None:
            raise _unknown(IdKind.GRANT, grant_id)
        return grant

    def grants_of(self, user_id: bytes) -> Sequence[Grant]:
        return self._grants_of.get(user_id, ())

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        return {node_class: list(nodes) for node_class, nodes in self._ranked(grant, j)}

    def _rank(self, grant: Grant, j: int) -> tuple[tuple[NodeClass, tuple[NodeRecord, ...]], ...]:
        seed = self.epochs.at(grant.epoch).seed
        return tuple(
            (node_class, tuple(ranked(self._candidates(node_class, grant.epoch), grant, j, node_class, seed))) for node_class in NodeClass
        )

    def _candidates_at(self, node_class: NodeClass, epoch: int) -> tuple[NodeRecord, ...]:
        """A node that joined later must not displace one that a grant sold earlier is assigned to."""
        since = self._contents.nodes
        return tuple(record for record in self._of_class[node_class] if record.active and since[record.key.id].since_epoch <= epoch)
