"""The chain from a device's maker to a read of the device (`proto/spec/entropy-feed.md`, "Device evidence").

ECDSA over P-256 with SHA-256 (FIPS 186-5 §6), as the makers of devices use it; nothing of QuStream's own rests on it. Keys and
signatures are raw: two 32-byte numbers, big endian.
"""

from __future__ import annotations

from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from qustream.errors import fault
from qustream.model.entropy import DeviceDescriptor, DeviceEvidence

__all__ = ["SCHEME", "certificate_message", "check_evidence", "is_p256_key", "serial_text", "verify_p256"]

SCHEME = "qcicada-p256"
NUMBER_BYTES = 32  # a coordinate, r or s of P-256


def certificate_message(hardware: tuple[int, int], serial_number: int, key: bytes) -> bytes:
    """What a maker signs for a device, 72 bytes: 0 (2) ‖ hardware major (1) ‖ minor (1) ‖ serial number (4, little endian) ‖ key (64)."""
    return b"\x00\x00" + bytes(hardware) + serial_number.to_bytes(4, "little") + key


def serial_text(serial_number: int) -> str:
    """The serial as printed on the device and as its descriptor has it: `QC` and ten digits."""
    return f"QC{serial_number:010}"


def _public_key(key: bytes) -> EllipticCurvePublicKey | None:
    """None if the 64 bytes are no point of the curve."""
    x, y = int.from_bytes(key[:NUMBER_BYTES], "big"), int.from_bytes(key[NUMBER_BYTES:], "big")
    try:
        return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    except ValueError:
        return None


def is_p256_key(key: bytes) -> bool:
    """Whether 64 hostile bytes x ‖ y are a point of P-256."""
    return len(key) == 2 * NUMBER_BYTES and _public_key(key) is not None


def verify_p256(key: bytes, message: bytes | bytearray, signature: bytes) -> bool:
    """Whether `signature` (r ‖ s, 64 bytes) over `message` holds under `key` (x ‖ y, 64 bytes); never raises on hostile input."""
    if len(key) != 2 * NUMBER_BYTES or len(signature) != 2 * NUMBER_BYTES:
        return False
    public = _public_key(key)
    if public is None:
        return False
    r, s = int.from_bytes(signature[:NUMBER_BYTES], "big"), int.from_bytes(signature[NUMBER_BYTES:], "big")
    try:
        public.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


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
