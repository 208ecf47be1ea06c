"""The tables of a network file and the nouns they stand for (`proto/spec/registry.md`, "File").

The order of a row's fields is their order in the file.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from qustream.errors import fault
from qustream.model.base import U63, Label, Signed, Text
from qustream.model.ids import IdKind, from_text, licence_from_text, licence_text, to_text
from qustream.model.keys import PublicKey
from qustream.model.network import DeviceEntry, Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.registry.contents import EnrolledUser, LicensedNode

__all__ = ["DeviceRow", "FileRow", "GrantRow", "NodeRow", "QrngServerRow", "UserRow", "hex_from_text", "key_from_text", "key_text"]

_T = TypeVar("_T")
ED25519_BYTES = 32  # RFC 8032
KEY_BYTES = 1984  # raw Ed25519 and ML-DSA-65 (FIPS 204) halves
ClassName = Literal["foundation", "community"]
CLASS_NAMES: dict[NodeClass, ClassName] = {NodeClass.FOUNDATION: "foundation", NodeClass.COMMUNITY: "community"}
CLASSES = {name: node_class for node_class, name in CLASS_NAMES.items()}


def validated(fields: tuple[Any, ...], kind: type[_T]) -> _T:
    """Build the noun `kind` from its fields under the bounds of its type, which a plain constructor does not check."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        names = kind.__struct_fields__  # type: ignore[attr-defined]
        text = str(error)
        for place, name in enumerate(names):
            text = text.replace(f"`$[{place}]", f"`{name}")
        raise fault("E-REGISTRY-FORMAT", text) from None


def data_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def data_from_text(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fault("E-REGISTRY-FORMAT", f"{name}: not base64") from None


def hex_from_text(name: str, text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise fault("E-REGISTRY-FORMAT", f"{name}: not hexadecimal") from None
    if data.hex() != text:
        raise fault("E-REGISTRY-FORMAT", f"{name}: hexadecimal is written in lower case without spaces")
    return data


def key_text(key: PublicKey) -> str:
    """Both raw halves as one base64 text of 2,648 characters."""
    return data_text(key.ed25519 + key.mldsa)


def key_from_text(name: str, text: str) -> PublicKey:
    """Errors: `E-REGISTRY-FORMAT`."""
    data = data_from_text(name, text)
    if len(data) != KEY_BYTES:
        raise fault("E-REGISTRY-FORMAT", f"{name}: {len(data)} bytes where a public key has {KEY_BYTES}")
    return PublicKey(data[:ED25519_BYTES], data[ED25519_BYTES:])


def _named_key(kind: IdKind, id_text: str, name: str, text: str) -> PublicKey:
    """The key in `text`, whose id must be `id_text`: people search and copy ids, so they must not lie."""
    key = key_from_text(name, text)
    if to_text(kind, key.id) != id_text:
        raise fault("E-REGISTRY-FORMAT", f"id: not the id of this {name}")
    return key


class Row(Struct, frozen=True, kw_only=True):
    """A table of the file. Unknown keys are refused by the parser, which suggests the nearest known one."""


class FileRow(Row, frozen=True):
    """The top of the file, then the tables."""

    format: Literal[1]
    chain: str
    version: U63
    genesis_ms: U63
    epoch_length_ms: U63
    seed: Annotated[str, Meta(max_length=64)]
    nodes: list[dict[str, Any]] = field(default_factory=list)
    qrng_servers: list[dict[str, Any]] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)
    grants: list[dict[str, Any]] = field(default_factory=list)


class NodeRow(Row, frozen=True):
    id: str
    node_class: ClassName = field(name="class")
    operator: Label
    licence: str
    addresses: Annotated[list[Text], Meta(max_length=8)]
    weight: int
    active: bool
    since_epoch: U63
    key: str

    @classmethod
    def of(cls, node: LicensedNode) -> NodeRow:
        record = node.record
        return cls(
            id=to_text(IdKind.NODE, record.key.id),
            node_class=CLASS_NAMES[record.node_class],
            operator=record.operator,
            licence=licence_text(record.licence),
            addresses=list(record.addresses),
            weight=record.weight,
            active=record.active,
            since_epoch=node.since_epoch,
            key=key_text(record.key),
        )

    def noun(self) -> LicensedNode:
        key = _named_key(IdKind.NODE, self.id, "key", self.key)
        licence = licence_from_text(self.licence)
        fields = (key, CLASSES[self.node_class], self.operator, licence, self.addresses, self.weight, self.active)
        return LicensedNode(validated(fields, NodeRecord), self.since_epoch)


class QrngServerRow(Row, frozen=True):
    """`device_authorities`: in hexadecimal, as their makers publish them; left out if there are none."""

    id: str
    name: Label
    emulated: bool
    active: bool
    key: str
    device_authorities: Annotated[list[str], Meta(max_length=4)] | None = None

    @classmethod
    def of(cls, record: QrngServerRecord) -> QrngServerRow:
        return cls(
            id=to_text(IdKind.QRNG, record.key.id),
            name=record.name,
            emulated=record.emulated,
            active=record.active,
            key=key_text(record.key),
            device_authorities=[key.hex() for key in record.device_authorities] or None,
        )

    def noun(self) -> QrngServerRecord:
        key = _named_key(IdKind.QRNG, self.id, "key", self.key)
        makers = tuple(hex_from_text("device_authorities", text) for text in self.device_authorities or ())
        return validated((key, self.name, self.emulated, self.active, makers), QrngServerRecord)


class DeviceRow(Row, frozen=True):
    id: str
    revoked: bool

    @classmethod
    def of(cls, entry: DeviceEntry) -> DeviceRow:
        return cls(id=to_text(IdKind.DEVICE, entry.device), revoked=entry.revoked)

    def noun(self) -> DeviceEntry:
        return DeviceEntry(from_text(self.id, IdKind.DEVICE), self.revoked)


class UserRow(Row, frozen=True):
    """`hpke`, `hpke_signature`: the body of the signed `HpkeKeyStatement` and the master's signature."""

    id: str
    label: Label
    master: str
    hpke: str
    hpke_signature: str
    devices: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, user: EnrolledUser) -> UserRow:
        record = user.record
        return cls(
            id=to_text(IdKind.USER, record.master.id),
            label=user.label,
            master=key_text(record.master),
            hpke=data_text(record.hpke.body),
            hpke_signature=data_text(record.hpke.signature),
            devices=[msgspec.structs.asdict(DeviceRow.of(entry)) for entry in record.devices],
        )

    def noun(self, devices: tuple[DeviceEntry, ...]) -> EnrolledUser:
        master = _named_key(IdKind.USER, self.id, "master", self.master)
        signature = data_from_text("hpke_signature", self.hpke_signature)
        hpke = validated((data_from_text("hpke", self.hpke), signature), Signed)
        return EnrolledUser(validated((master, hpke, devices), UserRecord), self.label)


class GrantRow(Row, frozen=True):
    """`pinned`: a licence, or left out."""

    id: str
    owner: str
    root: str
    count: int
    stripes: int
    epoch: U63
    lifetime_max_ms: U63
    pinned: str | None = None

    @classmethod
    def of(cls, grant: Grant) -> GrantRow:
        return cls(
            id=to_text(IdKind.GRANT, grant.grant),
            owner=to_text(IdKind.USER, grant.owner),
            root=grant.root.hex(),
            count=grant.count,
            stripes=grant.stripes,
            epoch=grant.epoch,
            lifetime_max_ms=grant.lifetime_max_ms,
            pinned=None if grant.pinned is None else licence_text(grant.pinned),
        )

    def noun(self) -> Grant:
        pinned = None if self.pinned is None else licence_from_text(self.pinned)
        grant, owner = from_text(self.id, IdKind.GRANT), from_text(self.owner, IdKind.USER)
        root = hex_from_text("root", self.root)
        fields = (grant, owner, root, self.count, self.stripes, self.epoch, self.lifetime_max_ms, pinned)
        return validated(fields, Grant)
