"""A maker of devices with keys of their own, played with `cryptography`: certificates and signed reads as the devices give them."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from qustream.identity.device_evidence import SCHEME, certificate_message, serial_text
from qustream.model.entropy import DeviceDescriptor, DeviceEvidence

__all__ = ["CertifiedDevice", "Maker"]


def _public(key: EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _signed(key: EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ECDSA(SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _key(*names: object) -> EllipticCurvePrivateKey:
    return derive_private_key(int.from_bytes(hashlib.sha256(repr(names).encode()).digest(), "big") >> 1, SECP256R1())


class Maker:
    """Certifies devices. The same name makes the same keys and signatures."""

    def __init__(self, name: str = "maker") -> None:
        self.name, self._key = name, _key(name)
        self.public = _public(self._key)

    def device(self, serial_number: int = 7) -> CertifiedDevice:
        return CertifiedDevice(self, serial_number)

    def certify(self, message: bytes) -> bytes:
        return _signed(self._key, message)


class CertifiedDevice:
    """A device with its maker's certificate."""

    def __init__(self, maker: Maker, serial_number: int) -> None:
        self._key = _key(maker.name, serial_number)
        self._maker, self._serial_number = maker, serial_number

    def evidence(self, sample: bytes = bytes(range(32))) -> DeviceEvidence:
        public, hardware = _public(self._key), (1, 0)
        certificate = self._maker.certify(certificate_message(hardware, self._serial_number, public))
        return DeviceEvidence(
            SCHEME, self._maker.public, public, certificate, hardware, self._serial_number, sample, _signed(self._key, sample), True
        )

    def descriptor(self, *, emulated: bool = True) -> DeviceDescriptor:
        serial = serial_text(self._serial_number)
        return DeviceDescriptor("serial", "QCicada", serial, 8, 8000, 0, False, emulated, "", self.evidence())
