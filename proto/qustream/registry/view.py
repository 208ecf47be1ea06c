"""One consistent view of the network, never changed once made (`proto/spec/registry.md`, "Questions")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from qustream.errors import QuStreamError, fault
from qustream.model.ids import IdKind, to_text
from qustream.model.network import Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry.assigned import AssignedNodes
from qustream.registry.contents import EnrolledUser, NetworkContents

__all__ = ["NetworkView", "unknown"]

ID_BYTES = 32  # BLAKE2b-256
NAMES = {IdKind.NODE: "node", IdKind.QRNG: "QRNG server", IdKind.USER: "user", IdKind.GRANT: "grant"}


def unknown(kind: IdKind, raw: bytes) -> QuStreamError:
    """The answer about a name that the network does not know."""
    shown = to_text(kind, raw) if len(raw) == ID_BYTES else f"an id of {len(raw)} bytes"
    return fault("E-REGISTRY-UNKNOWN", f"the network knows no {NAMES[kind]} {shown}")


class NetworkView:
    """What a network file said at one version. Takes over `contents`: nobody may change it afterwards. Safe for many threads."""

    def __init__(self, contents: NetworkContents) -> None:
        self._contents = contents
        self.chain = contents.chain
        self.height = contents.version
        self.epochs = contents.epochs
        self._assigned = AssignedNodes(contents.nodes, lambda epoch: self.epochs.at(epoch).seed)
        grants: dict[bytes, list[Grant]] = {}
        for grant in sorted(contents.grants.values(), key=lambda grant: (-grant.epoch, grant.grant)):
            grants.setdefault(grant.owner, []).append(grant)
        self._grants_of = {owner: tuple(theirs) for owner, theirs in grants.items()}

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
            raise unknown(IdKind.NODE, node_id)
        return node.record

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        return self._assigned.of_class(node_class)

    def qrng_server(self, server_id: bytes) -> QrngServerRecord:
        server = self._contents.qrng_servers.get(server_id)
        if server is None:
            raise unknown(IdKind.QRNG, server_id)
        return server

    def user(self, user_id: bytes) -> UserRecord:
        user = self._contents.users.get(user_id)
        if user is None:
            raise unknown(IdKind.USER, user_id)
        return user.record

    def grant(self, grant_id: bytes) -> Grant:
        grant = self._contents.grants.get(grant_id)
        if grant is None:
            raise unknown(IdKind.GRANT, grant_id)
        return grant

    def grants_of(self, user_id: bytes) -> Sequence[Grant]:
        return self._grants_of.get(user_id, ())

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        return self._assigned.assignment(grant, j)
