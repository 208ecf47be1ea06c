"""From the device to the unit: descriptor, attestation, leaf proof (`proto/spec/entropy-feed.md`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import U16, U63, Bytes32, Count32, Label, Noun, Path

__all__ = [
    "KGEN_BYTES",
    "MATERIAL_BYTES",
    "R_BYTES",
    "SCATTER_BYTES",
    "UNIT_BYTES",
    "Attestation",
    "Conditioning",
    "DeviceDescriptor",
    "HealthReport",
    "LeafProof",
]

R_BYTES = 262_144  # R = 2,097,152 bits: a place in it is then exactly 21 bits
KGEN_BYTES = 126  # 1,008 bits: a quantum search over them costs 2^504 steps
MATERIAL_BYTES = R_BYTES + KGEN_BYTES
SCATTER_BYTES = 128  # the draws of a layout run out of it with probability 2^-162
UNIT_BYTES = MATERIAL_BYTES + SCATTER_BYTES


class DeviceDescriptor(Noun, frozen=True):
    """What a device says it is. Entropy in millibits a sample; `source`: /dev/hwrng's `rng_current`, else ''."""

    kind: Label
    model: Label
    serial: Label
    sample_bits: Annotated[int, Meta(ge=1, le=16)]
    min_entropy_millibits: Annotated[int, Meta(ge=1, le=16_000)]
    nominal_rate_bps: U63
    conditioned: bool
    emulated: bool
    source: Label


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
