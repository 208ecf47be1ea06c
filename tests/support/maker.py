"""A maker of devices with keys of their own: certificates and signed reads as the devices give them."""

from __future__ import annotations

import hashlib

from qustream.identity.device_evidence import SCHEME, certificate_message, serial_text
from qustream.identity.p256 import P256Key
from qustream.model.entropy import DeviceDescriptor, DeviceEvidence

__all__ = ["CertifiedDevice", "Maker"]


class Maker:
    """Certifies devices. The same name makes the same keys."""

    def __init__(self, name: str = "maker") -> None:
        self._seed = hashlib.sha256(name.encode()).digest()
        self._key = P256Key(self._seed, "maker")
        self.public = self._key.public

    def device(self, serial_number: int = 7) -> CertifiedDevice:
        return CertifiedDevice(self, P256Key(self._seed, f"device {serial_number}"), serial_number)

    def certify(self, message: bytes) -> bytes:
        return self._key.sign(message)


class CertifiedDevice:
    """A device with its maker's certificate."""

    def __init__(self, maker: Maker, key: P256Key, serial_number: int) -> None:
        self._maker, self._key, self._serial_number = maker, key, serial_number

    def evidence(self, sample: bytes = bytes(range(32))) -> DeviceEvidence:
        public, hardware = self._key.public, (1, 0)
        certificate = self._maker.certify(certificate_message(hardware, self._serial_number, public))
        return DeviceEvidence(
            SCHEME, self._maker.public, public, certificate, hardware, self._serial_number, sample, self._key.sign(sample), True
        )

    def descriptor(self, *, emulated: bool = True) -> DeviceDescriptor:
        serial = serial_text(self._serial_number)
        return DeviceDescriptor("serial", "QCicada", serial, 8, 8000, 0, False, emulated, "", self.evidence())
