"""The chain from a device's maker to a read of the device (`proto/spec/entropy-feed.md`, "Device evidence").

Keys and signatures are those of `p256`.
"""

from __future__ import annotations

from collections.abc import Collection

from qustream.errors import fault
from qustream.identity.p256 import verify_p256
from qustream.model.entropy import DeviceDescriptor, DeviceEvidence

__all__ = ["SCHEME", "certificate_message", "check_evidence", "serial_text"]

SCHEME = "qcicada-p256"


def certificate_message(hardware: tuple[int, int], serial_number: int, key: bytes) -> bytes:
    """What a maker signs for a device, 72 bytes: 0 (2) ‖ hardware major (1) ‖ minor (1) ‖ serial number (4, little endian) ‖ key (64)."""
    return b"\x00\x00" + bytes(hardware) + serial_number.to_bytes(4, "little") + key


def serial_text(serial_number: int) -> str:
    """The serial as printed on the device and as its descriptor has it: `QC` and ten digits."""
    return f"QC{serial_number:010}"


def check_evidence(device: DeviceDescriptor, authorities: Collection[bytes]) -> None:
    """Check what a hostile descriptor proves of its device.

    `authorities`: the makers' keys (64 bytes each) of which one must stand behind it, by the server's record; empty: any maker's, or
    no evidence at all. Errors: `E-ATTESTATION-EVIDENCE`.
    """
    evidence = device.evidence
    if evidence is None:
        if authorities:
            raise fault("E-ATTESTATION-EVIDENCE", "no maker's certificate, which the network asks of this QRNG server")
        return
    if authorities and evidence.authority not in authorities:
        raise fault("E-ATTESTATION-EVIDENCE", "the device is certified by another maker than the network accepts of this QRNG server")
    _check_chain(device, evidence)


def _check_chain(device: DeviceDescriptor, evidence: DeviceEvidence) -> None:
    if evidence.scheme != SCHEME:
        raise fault("E-ATTESTATION-EVIDENCE", "a scheme of certificates that this version does not know")
    if device.serial != serial_text(evidence.serial_number):
        raise fault("E-ATTESTATION-EVIDENCE", "the certificate is for a device of another serial number")
    certified = certificate_message(evidence.hardware, evidence.serial_number, evidence.key)
    if not verify_p256(evidence.authority, certified, evidence.certificate):
        raise fault("E-ATTESTATION-EVIDENCE", "the maker's signature on the device's certificate does not hold")
    if not verify_p256(evidence.key, evidence.sample, evidence.signature):
        raise fault("E-ATTESTATION-EVIDENCE", "the device's signature on what it delivered does not hold")
