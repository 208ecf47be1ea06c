"""What the chain's entries are as answers of a registry (`proto/spec/registry.md`, "Chain"): in a node and for a light client."""

from __future__ import annotations

from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass, NodeRecord, UserRecord
from qustream.model.state import Licence, LicenceStatus, NodeEntry, UserEntry
from qustream.wire.codec import decode

__all__ = ["CHAIN_WEIGHT", "node_record", "operator_of", "user_record"]

# Every licence counts the same: revenue is shared evenly whatever traffic a node handles.
CHAIN_WEIGHT = 1
USER_MAX_BYTES = 16_384  # as the entry's field


def operator_of(licence: Licence) -> str:
    """Who runs the node of a licence: its owner's account; of a foundation licence its recorded site."""
    return licence.site if licence.node_class is NodeClass.FOUNDATION else to_text(IdKind.ACCOUNT, licence.owner)


def node_record(entry: NodeEntry, licence: Licence) -> NodeRecord:
    """The node under a licence. It is active if it is the one the licence runs now."""
    active = licence.status is LicenceStatus.ACTIVE and licence.node == entry.key.id
    return NodeRecord(entry.key, licence.node_class, operator_of(licence), entry.licence, entry.addresses, CHAIN_WEIGHT, active)


def user_record(entry: UserEntry) -> UserRecord:
    """The user of an entry."""
    return decode(entry.record, UserRecord, max_bytes=USER_MAX_BYTES)
