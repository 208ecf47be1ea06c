"""From the device to the unit: descriptor, attestation, leaf proof (`proto/spec/entropy-feed.md`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import U8, U16, U63, Bytes32, Bytes64, Count32, Label, Noun, Path, Signed

__all__ = [
    "KGEN_BYTES",
    "MATERIAL_BYTES",
    "R_BYTES",
    "SCATTER_BYTES",
    "UNIT_BYTES",
    "Attestation",
    "Conditioning",
    "DeviceDescriptor",
    "DeviceEvidence",
    "HealthReport",
    "LeafLogEntry",
    "LeafLogHeader",
    "LeafProof",
]

R_BYTES = 262_144  # R = 2,097,152 bits: a place in it is then exactly 21 bits
KGEN_BYTES = 126  # 1,008 bits: a quantum search over them costs 2^504 steps
MATERIAL_BYTES = R_BYTES + KGEN_BYTES
SCATTER_BYTES = 128  # the draws of a layout run out of it with probability 2^-162
UNIT_BYTES = MATERIAL_BYTES + SCATTER_BYTES


class DeviceEvidence(Noun, frozen=True):
    """What a device with a key of its own proves of itself: its maker's certificate and one signed read (spec, "Device evidence").

    Keys are P-256 points x ‖ y, signatures ECDSA with SHA-256, r ‖ s, all big endian. `certificate`: by `authority`, over
    0 (2 bytes) ‖ hardware major (1) ‖ minor (1) ‖ serial number (4, little endian) ‖ `key`. `signature`: by `key`, over `sample`, bytes
    that were read when the device was opened and thrown away. `all_reads_signed`: the server says it checked as much of every read.
    """

    scheme: Label
    authority: Bytes64
    key: Bytes64
    certificate: Bytes64
    hardware: tuple[U8, U8]
    serial_number: Count32
    sample: Annotated[bytes, Meta(min_length=32, max_length=64)]
    signature: Bytes64
    all_reads_signed: bool


class DeviceDescriptor(Noun, frozen=True):
    """What a device says it is. Entropy in millibits a sample; `source`: /dev/hwrng's `rng_current`, else ''; `evidence`: None of a
    device without a key of its own. The default is for constructors: encoded, the field is always there."""

    kind: Label
    model: Label
    serial: Label
    sample_bits: Annotated[int, Meta(ge=1, le=16)]
    min_entropy_millibits: Annotated[int, Meta(ge=1, le=16_000)]
    nominal_rate_bps: U63
    conditioned: bool
    emulated: bool
    source: Label
    evidence: DeviceEvidence | None = None


class HealthReport(Noun, frozen=True):
    """The SP 800-90B continuous tests over the samples behind one batch: cutoffs, samples seen, windows failed and discarded.

    `alpha_exponents`: the two alarm levels as positive exponents of two (40 means 2^-40): intermittent, permanent."""

    samples: U63
    windows: U63
    windows_failed: U63
    rct_cutoff: Count32
    apt_cutoff: Count32
    apt_window: Count32
    alpha_exponents: tuple[U16, U16]


class Conditioning(Noun, frozen=True):
    """How raw samples became units: the vetted function, raw bytes in for `out_bytes` out, assessed millibits a raw bit."""

    name: Label
    raw_bytes: U16
    out_bytes: U16
    min_entropy_millibits_per_bit: Annotated[int, Meta(ge=1, le=1000)]


class Attestation(Noun, frozen=True):
    """A QRNG server's statement about one batch of units; travels as `Signed`, purpose `qustream/1/attestation`.

    `root`: RFC 6962 (SHA-256) root over `leaves` leaves, leaf data = node id (32) ‖ sequence (8, big endian) ‖ SHA-256(material).
    Says: the registered server attests healthy measurements between `start_ms` and `end_ms`. It does not prove physics.
    """

    chain: Label
    server: Bytes32
    batch: U63
    device: DeviceDescriptor
    health: HealthReport
    conditioning: Conditioning
    start_ms: U63
    end_ms: U63
    expires_ms: U63
    root: Bytes32
    leaves: Annotated[int, Meta(ge=1, le=4096)]


class LeafProof(Noun, frozen=True):
    """Where a unit's leaf stands in its attestation's tree."""

    sequence: U63
    index: Count32
    path: Path


class LeafLogHeader(Noun, frozen=True):
    """The first record of a log segment (`proto/spec/leaf-log.md`). `previous`: SHA-256 of the segment before, zeros for segment 0."""

    chain: Label
    server: Bytes32
    segment: Count32
    previous: Bytes32


class LeafLogEntry(Noun, frozen=True):
    """A batch in a leaf log: its signed attestation and the data of its leaves in order, 72 bytes each, 1 to 4,096 of them."""

    attestation: Signed
    leaves: Annotated[bytes, Meta(min_length=72, max_length=294_912)]
