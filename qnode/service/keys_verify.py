"""The signatures of a request (`proto/spec/delivery.md` §3.3). For a worker thread: up to half a millisecond of arithmetic each."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from qustream.identity.signing import verify
from qustream.model.base import Signed
from qustream.model.keys import DeviceCertificate, PublicKey
from qustream.wire.keys import DeviceRequest

__all__ = ["CertificateCache", "Verdict", "verify_request"]

# Devices whose certificates are remembered: 32 bytes each, and what a busy node sees in an hour.
CERTIFICATES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Verdict:
    """`by_device`: the request is signed by the key its certificate names; `by_master`: the certificate by the user's master."""

    by_device: bool
    by_master: bool


class CertificateCache:
    """Certificates whose signature by a master held. Failures are not remembered, so no stranger fills it."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def name(self, certificate: Signed, master: PublicKey) -> bytes:
        """What this certificate of this master is remembered by."""
        parts = (master.ed25519, master.mldsa, certificate.signature, certificate.body)  # all but the last have one length
        return hashlib.sha256(b"".join(parts)).digest()

    def knows(self, name: bytes) -> bool:
        """Whether it held before."""
        if name in self._known:
            self._known.move_to_end(name)
            return True
        return False

    def remember(self, name: bytes) -> None:
        """It held. The one longest not seen gives way."""
        self._known[name] = None
        if len(self._known) > CERTIFICATES_MAX:
            self._known.popitem(last=False)


def verify_request(request: DeviceRequest, certificate: DeviceCertificate, signed: Signed, master: PublicKey | None) -> Verdict:
    """Check the device's signature on `request`, and the certificate's (`signed`) unless `master` is None: not needed, or known to hold."""
    by_device = verify(certificate.device_key, "device-request", request.body, request.signature)
    by_master = master is None or (by_device and verify(master, "device-certificate", signed.body, signed.signature))
    return Verdict(by_device, by_master)
