"""What a network file says, as nouns, filled by the parser and by the writer alike (`proto/spec/registry.md`, "Rules").

Everything is keyed by its id, nothing stands twice, and what belongs together fits together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from qustream.errors import QuStreamError, fault
from qustream.identity.enrolment import open_hpke_statement
from qustream.identity.p256 import is_p256_key
from qustream.model.network import Grant, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry.epochs import TIME_MAX_MS, EpochClock

__all__ = ["EnrolledUser", "LicensedNode", "NetworkContents", "check_node", "check_qrng_server"]

# The mission's cap on licences.
NODES_MAX = 4732
# Each QRNG server feeds hundreds of nodes.
QRNG_SERVERS_MAX = 256
# A user takes about 9 KB: these are 37 MB. A network with more users has a chain.
USERS_MAX = 4096
# A grant takes about 330 bytes: these are 6 MB; grants that have ended may be left out of the next version.
GRANTS_MAX = 16_384
# A day of one-second epochs is a test; shorter ones would end before a request made in them arrives.
EPOCH_LENGTH_MIN_MS = 1000
CHAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,200}):([0-9]{1,5})")
PORT_MAX = 65_535  # TCP


class LicensedNode(NamedTuple):
    """A node and the first epoch whose grants may be assigned to it."""

    record: NodeRecord
    since_epoch: int


class EnrolledUser(NamedTuple):
    """A user and the name the file's maker knows him by ('' for none)."""

    record: UserRecord
    label: str


def _refuse(detail: str) -> QuStreamError:
    return fault("E-REGISTRY-FORMAT", detail)


def _check_text(what: str, text: str) -> None:
    # These reach terminals and logs.
    if not text.isprintable():
        raise _refuse(f"{what} holds characters that cannot be printed")


@dataclass(slots=True)
class NetworkContents:
    """A network file's contents. The `add_…` methods raise `E-REGISTRY-FORMAT` and then have changed nothing."""

    chain: str
    version: int
    genesis_ms: int
    epoch_length_ms: int
    seed: bytes
    nodes: dict[bytes, LicensedNode] = field(default_factory=dict)
    qrng_servers: dict[bytes, QrngServerRecord] = field(default_factory=dict)
    users: dict[bytes, EnrolledUser] = field(default_factory=dict)
    grants: dict[bytes, Grant] = field(default_factory=dict)
    _licences: set[bytes] = field(default_factory=set)
    _labels: set[str] = field(default_factory=set)
    _roots: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not CHAIN.fullmatch(self.chain):
            raise _refuse("chain: 1 to 64 letters, digits, dots, hyphens or underscores")
        if not 0 <= self.version <= TIME_MAX_MS or not 0 <= self.genesis_ms <= TIME_MAX_MS:
            raise _refuse("version and genesis_ms are whole numbers of at most 63 bits")
        if not EPOCH_LENGTH_MIN_MS <= self.epoch_length_ms <= TIME_MAX_MS:
            raise _refuse(f"epoch_length_ms: at least {EPOCH_LENGTH_MIN_MS}")
        if len(self.seed) != 32:
            raise _refuse("seed: 32 bytes as 64 hexadecimal digits")

    @property
    def epochs(self) -> EpochClock:
        return EpochClock(self.chain, self.genesis_ms, self.epoch_length_ms, self.seed)

    def add_node(self, record: NodeRecord, since_epoch: int) -> None:
        """Add a node whose key and licence are new to this network."""
        if len(self.nodes) >= NODES_MAX:
            raise _refuse(f"more than {NODES_MAX} nodes")
        if record.key.id in self.nodes:
            raise _refuse("this node stands here twice")
        if record.licence in self._licences:
            raise _refuse("licence: a licence runs one node, and this one runs another already")
        check_node(record)
        self.nodes[record.key.id] = LicensedNode(record, since_epoch)
        self._licences.add(record.licence)

    def add_qrng_server(self, record: QrngServerRecord) -> None:
        """Add a QRNG server whose key is new to this network."""
        if len(self.qrng_servers) >= QRNG_SERVERS_MAX:
            raise _refuse(f"more than {QRNG_SERVERS_MAX} QRNG servers")
        if record.key.id in self.qrng_servers:
            raise _refuse("this QRNG server stands here twice")
        check_qrng_server(record)
        self.qrng_servers[record.key.id] = record

    def add_user(self, record: UserRecord, label: str, verified: Mapping[bytes, EnrolledUser] | None = None) -> None:
        """Add a user; `verified`: users of an earlier view, whose unchanged HPKE keys need not be verified again."""
        user = record.master.id
        if len(self.users) >= USERS_MAX:
            raise _refuse(f"more than {USERS_MAX} users")
        if user in self.users:
            raise _refuse("this user stands here twice")
        if label and label in self._labels:
            raise _refuse("label: another user has this label")
        _check_text("label", label)
        if len({entry.device for entry in record.devices}) != len(record.devices):
            raise _refuse("devices: one stands here twice")
        earlier = verified.get(user) if verified else None
        if earlier is None or earlier.record.hpke != record.hpke:
            check_hpke(record)
        self.users[user] = EnrolledUser(record, label)
        self._labels.add(label)

    def add_grant(self, grant: Grant) -> None:
        """Add a grant of an enrolled user over identifiers that no other grant covers."""
        if len(self.grants) >= GRANTS_MAX:
            raise _refuse(f"more than {GRANTS_MAX} grants")
        if grant.grant in self.grants:
            raise _refuse("this grant stands here twice")
        if grant.owner not in self.users:
            raise _refuse("owner: no such user")
        if grant.root in self._roots:
            raise _refuse("root: another grant covers the same rotating identifiers")
        self.grants[grant.grant] = grant
        self._roots.add(grant.root)

    def drop_grants(self, before_epoch: int) -> int:
        """Leave out the grants of epochs before `before_epoch`; return how many."""
        ended = [grant for grant in self.grants.values() if grant.epoch < before_epoch]
        for grant in ended:
            del self.grants[grant.grant]
            self._roots.discard(grant.root)
        return len(ended)


def check_node(record: NodeRecord) -> None:
    """Operator and addresses of a node. Errors: `E-REGISTRY-FORMAT`."""
    _check_text("operator", record.operator)
    if not record.operator:
        raise _refuse("operator: empty, but no two nodes of one assignment may share their operator")
    for address in record.addresses:
        match = ADDRESS.fullmatch(address)
        if not match or not 1 <= int(match[1]) <= PORT_MAX:
            raise _refuse("addresses: an address is host:port")


def check_qrng_server(record: QrngServerRecord) -> None:
    """Name and makers of a QRNG server's devices. Errors: `E-REGISTRY-FORMAT`."""
    _check_text("name", record.name)
    if not all(map(is_p256_key, record.device_authorities)):
        raise _refuse("device_authorities: not a point of P-256, 64 bytes x and y")
    if len(set(record.device_authorities)) != len(record.device_authorities):
        raise _refuse("device_authorities: one stands here twice")


def check_hpke(record: UserRecord) -> None:
    """The master's signature on the user's HPKE key. Errors: `E-REGISTRY-FORMAT`."""
    try:
        open_hpke_statement(record.hpke, record.master)
    except QuStreamError as error:
        raise _refuse(f"hpke: {error.detail}") from None
