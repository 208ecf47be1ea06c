"""Making and amending a network file with the network's key (`proto/spec/registry.md`, "Writing")."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qustream.errors import fault
from qustream.identity import files
from qustream.identity.enrolment import Enrolment, check_enrolment, open_hpke_statement
from qustream.identity.grants import GrantOffer
from qustream.identity.signing import SigningKey
from qustream.model.base import Noun
from qustream.model.ids import IdKind, to_text
from qustream.model.network import DeviceEntry, Grant, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry.contents import EnrolledUser, LicensedNode, NetworkContents, check_node, check_qrng_server
from qustream.registry.emit import emit
from qustream.registry.parse import parse
from qustream.registry.rows import GrantRow, NodeRow, QrngServerRow, UserRow
from qustream.registry.signed_file import FILE_MAX_BYTES, open_file, seal_file

__all__ = ["NetworkFileWriter", "grant_id"]

_N = TypeVar("_N", bound=Noun)
# Everybody on the machine may read what the network says.
FILE_MODE = 0o644
HEADING = "# QuStream network file. Change it with the network's key: an edit by hand breaks the signature on the last line."


def grant_id(chain: str, owner: bytes, root: bytes, epoch: int) -> bytes:
    """A grant's id where no chain gives it one: SHA-256("qustream/1/grant-id" ‖ chain ‖ owner ‖ root ‖ epoch (8 bytes BE))."""
    return hashlib.sha256(b"qustream/1/grant-id" + chain.encode() + owner + root + epoch.to_bytes(8, "big")).digest()


class NetworkFileWriter:
    """A network file in the making. Nothing is on disk until `write`; a refused change changes nothing.

    Errors of all methods: `E-REGISTRY-FORMAT` for what the file may not hold, `E-REGISTRY-UNKNOWN` for names it does not know.
    """

    def __init__(self, path: Path, key: SigningKey, contents: NetworkContents, on_disk: bytes | None) -> None:
        """Use `create` or `load`."""
        self.path = path
        self._key = key
        self._contents = contents
        self._on_disk = on_disk  # SHA-256 of the file these contents came from; None: there was none

    @classmethod
    def create(cls, path: Path, chain: str, key: SigningKey, *, genesis_ms: int, epoch_length_ms: int, seed: bytes) -> NetworkFileWriter:
        """A new network, version 0 until written. `seed`: 32 random bytes. Errors: `E-FILE` if there is a file already."""
        if path.exists():
            raise fault("E-FILE", f"{path} is there already; load it to amend it")
        return cls(path, key, NetworkContents(chain, 0, genesis_ms, epoch_length_ms, seed), None)

    @classmethod
    def load(cls, path: Path, key: SigningKey) -> NetworkFileWriter:
        """An existing network. Errors: `E-FILE`, `E-REGISTRY-SIGNATURE` if `key` did not sign it, `E-REGISTRY-FORMAT`."""
        data = files.read(path, FILE_MAX_BYTES, private=False)
        return cls(path, key, parse(open_file(data, key.id)), hashlib.sha256(data).digest())

    @property
    def version(self) -> int:
        """The version on disk; 0 before the first `write`."""
        return self._contents.version

    @property
    def contents(self) -> NetworkContents:
        """What the next `write` will say. To look at: change it by the methods below."""
        return self._contents

    @property
    def network_key_text(self) -> str:
        """What others pin as `network_key`."""
        return to_text(IdKind.NETWORK, self._key.id)

    def add_node(self, record: NodeRecord, *, since_epoch: int = 0) -> bytes:
        """License a node; return its id. `since_epoch`: the first epoch whose grants may go to it. On a network in use take
        the next epoch: grants of the present one have their assignments already."""
        self._contents.add_node(_checked(record), since_epoch)
        return record.key.id

    def set_node_active(self, node: bytes, active: bool) -> None:
        """Suspend a node or take it back."""
        old = self._contents.nodes.get(node)
        if old is None:
            raise fault("E-REGISTRY-UNKNOWN", f"no node {to_text(IdKind.NODE, node)}")
        self._contents.nodes[node] = old._replace(record=msgspec.structs.replace(old.record, active=active))

    def set_node_addresses(self, node: bytes, addresses: tuple[str, ...]) -> None:
        """A node has moved."""
        old = self._contents.nodes.get(node)
        if old is None:
            raise fault("E-REGISTRY-UNKNOWN", f"no node {to_text(IdKind.NODE, node)}")
        record = _checked(msgspec.structs.replace(old.record, addresses=addresses))
        check_node(record)
        self._contents.nodes[node] = LicensedNode(record, old.since_epoch)

    def add_qrng_server(self, record: QrngServerRecord) -> bytes:
        """Register a QRNG server; return its id."""
        self._contents.add_qrng_server(_checked(record))
        return record.key.id

    def set_qrng_server_active(self, server: bytes, active: bool) -> None:
        """Take a QRNG server out, or back in."""
        self._contents.qrng_servers[server] = msgspec.structs.replace(self._known_qrng_server(server), active=active)

    def set_device_authorities(self, server: bytes, authorities: tuple[bytes, ...]) -> None:
        """Ask of a QRNG server that one of these makers' keys (P-256, x ‖ y, at most 4) certified its devices; empty: of none."""
        record = _checked(msgspec.structs.replace(self._known_qrng_server(server), device_authorities=authorities))
        check_qrng_server(record)
        self._contents.qrng_servers[server] = record

    def enrol(self, enrolment: Enrolment, label: str = "") -> bytes:
        """Enrol a user with a first device, or another device of a user; return the user's id.

        The certificate and the HPKE key must bear the master's signature (`E-SIGNATURE`). `label`: what this file calls the user.
        """
        user = enrolment.master.id
        entry = DeviceEntry(check_enrolment(enrolment).device_key.id, False)
        known = self._contents.users.get(user)
        if known is None:
            self._contents.add_user(_checked(UserRecord(enrolment.master, enrolment.hpke, (entry,))), label)
            return user
        record = known.record
        if entry.device in {each.device for each in record.devices}:
            raise fault("E-REGISTRY-FORMAT", f"the device {to_text(IdKind.DEVICE, entry.device)} is enrolled, or was and is revoked")
        if open_hpke_statement(record.hpke, record.master) != open_hpke_statement(enrolment.hpke, enrolment.master):
            raise fault("E-REGISTRY-FORMAT", "the user is enrolled with another HPKE key")
        self._contents.users[user] = known._replace(record=_with_devices(record, (*record.devices, entry)))
        return user

    def revoke_device(self, user: bytes, device: bytes) -> None:
        """Revoke a user's device, for good."""
        known = self._known_user(user)
        devices = known.record.devices
        if device not in {entry.device for entry in devices}:
            raise fault("E-REGISTRY-UNKNOWN", f"the user has no device {to_text(IdKind.DEVICE, device)}")
        changed = tuple(DeviceEntry(entry.device, entry.revoked or entry.device == device) for entry in devices)
        self._contents.users[user] = known._replace(record=_with_devices(known.record, changed))

    def grant(self, offer: GrantOffer, owner: bytes, *, lifetime_max_ms: int, epoch: int, pinned: bytes | None = None) -> Grant:
        """Grant the offered requests to the enrolled user `owner`; return the grant. `pinned`: a licence of this network."""
        self._known_user(owner)
        if pinned is not None and all(node.record.licence != pinned for node in self._contents.nodes.values()):
            raise fault("E-REGISTRY-UNKNOWN", "no node has the pinned licence")
        name = grant_id(self._contents.chain, owner, offer.root, epoch)
        grant = _checked(Grant(name, owner, offer.root, offer.count, offer.stripes, epoch, lifetime_max_ms, pinned))
        self._contents.add_grant(grant)
        return grant

    def drop_grants(self, before_epoch: int) -> int:
        """Leave out the grants of epochs before `before_epoch`; return how many. Not before the blocks made under them have expired
        (`lifetime_max_ms`): until then recipients ask whose they were."""
        return self._contents.drop_grants(before_epoch)

    def find_user(self, label: str) -> bytes:
        """The id of the user with this label."""
        for user, known in self._contents.users.items():
            if label and known.label == label:
                return user
        raise fault("E-REGISTRY-UNKNOWN", f"no user is called {label}")

    def write(self) -> int:
        """Publish the contents as the next version, durably and whole; return that version.

        What is published has been read back first. Errors: `E-REGISTRY-VERSION` if somebody else wrote meanwhile (load again),
        `E-REGISTRY-FORMAT` if it is too large, `E-FILE`, `E-DISK-FULL`.
        """
        version = self.version + 1
        data = seal_file(self._text(version), self._key)
        if len(data) > FILE_MAX_BYTES:
            raise fault("E-REGISTRY-FORMAT", f"the file would be larger than {FILE_MAX_BYTES} bytes")
        parse(open_file(data, self._key.id), self._contents.users)
        with _locked(self.path.parent):
            if self._found() != self._on_disk:
                raise fault("E-REGISTRY-VERSION", f"{self.path} was changed since it was loaded; load it again")
            files.replace(self.path, data, mode=FILE_MODE)
        self._contents.version, self._on_disk = version, hashlib.sha256(data).digest()
        return version

    def _known_qrng_server(self, server: bytes) -> QrngServerRecord:
        known = self._contents.qrng_servers.get(server)
        if known is None:
            raise fault("E-REGISTRY-UNKNOWN", f"no QRNG server {to_text(IdKind.QRNG, server)}")
        return known

    def _known_user(self, user: bytes) -> EnrolledUser:
        known = self._contents.users.get(user)
        if known is None:
            raise fault("E-REGISTRY-UNKNOWN", f"no user {to_text(IdKind.USER, user)}")
        return known

    def _found(self) -> bytes | None:
        if not self.path.exists():
            return None
        return hashlib.sha256(files.read(self.path, FILE_MAX_BYTES, private=False)).digest()

    def _text(self, version: int) -> str:
        contents = self._contents
        table: dict[str, Any] = {
            "format": 1,
            "chain": contents.chain,
            "version": version,
            "genesis_ms": contents.genesis_ms,
            "epoch_length_ms": contents.epoch_length_ms,
            "seed": contents.seed.hex(),
            "nodes": [_table(NodeRow.of(node)) for _, node in sorted(contents.nodes.items())],
            "qrng_servers": [_table(QrngServerRow.of(server)) for _, server in sorted(contents.qrng_servers.items())],
            "users": [_table(UserRow.of(user)) for _, user in sorted(contents.users.items())],
            "grants": [_table(GrantRow.of(grant)) for _, grant in sorted(contents.grants.items())],
        }
        return f"{HEADING}\n{emit(table)}\n"


def _table(row: msgspec.Struct) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(row)
    return built


def _checked(noun: _N) -> _N:
    """`noun` under the bounds of its type, which its constructor does not check. Errors: `E-REGISTRY-FORMAT`."""
    try:
        return msgspec.convert(msgspec.to_builtins(noun), type(noun))
    except msgspec.ValidationError as error:
        raise fault("E-REGISTRY-FORMAT", f"not a {type(noun).__name__}: {error}") from None


def _with_devices(record: UserRecord, devices: tuple[DeviceEntry, ...]) -> UserRecord:
    return _checked(msgspec.structs.replace(record, devices=devices))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: two writers must not both find the file unchanged."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise fault("E-FILE", f"{directory}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
