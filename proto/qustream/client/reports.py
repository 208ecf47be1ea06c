"""What the client tells its caller: plain data, for a program to read and the command to print."""

from __future__ import annotations

from dataclasses import dataclass

from qustream.client.answers import CheckedBlock
from qustream.client.asking import Suspect
from qustream.errors import QuStreamError
from qustream.model.network import NodeClass

__all__ = ["BlockReport", "Encrypted", "ErasureReport", "Opened", "Report", "Revoked", "block_report"]


@dataclass(frozen=True, slots=True)
class BlockReport:
    """Where one block came from. With `doubt` the other fields about the server are empty: its origin could not be verified.

    `maker`: the key, in hexadecimal, that certified the device, '' if it has no key of its own; `maker_pinned`: the network asks for this
    maker's certificate; `leaf`: the RFC 6962 leaf hash of the unit in batch number `batch`, in hexadecimal."""

    node: bytes
    node_class: NodeClass
    operator: str
    server: bytes
    server_name: str
    device: str
    emulated: bool
    attested_from_ms: int
    attested_to_ms: int
    samples: int
    maker: str
    maker_pinned: bool
    device_serial: str
    batch: int
    leaf: str
    doubt: str


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An envelope was made. Times in milliseconds: for the keys from the network, and for the content."""

    size_bytes: int
    grant: bytes
    index: int
    expires_ms: int
    blocks: tuple[BlockReport, ...]
    suspects: tuple[Suspect, ...]
    unacknowledged: tuple[bytes, ...]
    keys_took_ms: int
    content_took_ms: int


@dataclass(frozen=True, slots=True)
class Opened:
    """An envelope was opened. `inconsistent`: nodes whose block did not fit the others."""

    size_bytes: int
    sender: bytes
    sender_device: bytes
    sender_device_label: str
    sender_device_revoked: bool
    created_ms: int
    blocks: tuple[BlockReport, ...]
    suspects: tuple[Suspect, ...]
    inconsistent: tuple[bytes, ...]
    unacknowledged: tuple[bytes, ...]
    keys_took_ms: int
    content_took_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    """An envelope was verified: every check that was made held. `blocks` only when they were asked for."""

    sender: bytes
    sender_device: bytes
    sender_device_label: str
    sender_device_revoked: bool
    created_ms: int
    expires_ms: int
    blocks: tuple[BlockReport, ...]
    suspects: tuple[Suspect, ...]


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What one node said to a revocation: when it erased (Unix ms), or why not.

    `was_before`: it had erased before it was asked, because the block was collected, had expired or was revoked earlier."""

    node: bytes
    node_class: NodeClass
    erased_ms: int | None
    error: QuStreamError | None
    was_before: bool


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation. `holds`: two nodes of a class have erased, so whoever has not collected cannot open any more."""

    nodes: tuple[ErasureReport, ...]
    holds: bool


def block_report(block: CheckedBlock) -> BlockReport:
    """The report of a checked block."""
    origin = block.provenance
    attestation = origin.attestation if origin else None
    device = attestation.device if attestation else None
    name = " ".join(part for part in (device.kind, device.model, device.source) if part) if device else ""
    return BlockReport(
        node=block.node.key.id,
        node_class=NodeClass(block.node.node_class),
        operator=block.node.operator,
        server=origin.server if origin else b"",
        server_name=origin.server_name if origin else "",
        device=name,
        emulated=device.emulated if device else False,
        attested_from_ms=attestation.start_ms if attestation else 0,
        attested_to_ms=attestation.end_ms if attestation else 0,
        samples=attestation.health.samples if attestation else 0,
        maker=device.evidence.authority.hex() if device and device.evidence else "",
        maker_pinned=origin.maker_pinned if origin else False,
        device_serial=device.serial if device else "",
        batch=attestation.batch if attestation else 0,
        leaf=origin.leaf.hex() if origin else "",
        doubt=str(block.doubt or ""),
    )
