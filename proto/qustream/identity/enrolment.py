"""What a user's device shows to be known: the master key and what it signed (`proto/spec/identity.md`, "Devices")."""

from __future__ import annotations

from qustream.errors import fault
from qustream.identity.signing import SigningKey, open_signed
from qustream.model.base import Noun, Signed
from qustream.model.keys import DeviceCertificate, HpkeKeyStatement, PublicKey
from qustream.wire.codec import decode

__all__ = [
    "CERTIFICATE_LIFETIME_MS",
    "ENROLMENT_MAX_BYTES",
    "STRIPE_MAX",
    "Enrolment",
    "certify_device",
    "check_certificate",
    "check_enrolment",
    "decode_enrolment",
    "open_hpke_statement",
    "state_hpke_key",
]

# Long enough that nobody types his words every week, short enough that a forgotten device dies by itself.
CERTIFICATE_LIFETIME_MS = 90 * 24 * 3600 * 1000
STRIPE_MAX = 255  # `Grant.stripes` is at most 256
LABEL_MAX_CHARACTERS = 64
# Master key 2.0 KB, HPKE statement 4.7 KB, certificate 5.6 KB.
ENROLMENT_MAX_BYTES = 16_384

CERTIFICATE_PURPOSE = "device-certificate"
HPKE_PURPOSE = "hpke-key"


class Enrolment(Noun, frozen=True):
    """Public: what the network must be told of a user's device. `hpke`: a signed `HpkeKeyStatement`, `certificate`: a signed
    `DeviceCertificate`, both by `master`."""

    master: PublicKey
    hpke: Signed
    certificate: Signed


def certify_device(
    master: SigningKey, device: PublicKey, *, stripe: int, label: str, now_ms: int, lifetime_ms: int = CERTIFICATE_LIFETIME_MS
) -> Signed:
    """The master's certificate for a device. Errors: `E-CONFIG` for a stripe above 255 or a label that is no short printable text."""
    if not 0 <= stripe <= STRIPE_MAX:
        raise fault("E-CONFIG", f"a device's stripe is 0 to {STRIPE_MAX}")
    if not 1 <= len(label) <= LABEL_MAX_CHARACTERS or not label.isprintable():
        raise fault("E-CONFIG", f"a device's label is 1 to {LABEL_MAX_CHARACTERS} printable characters")
    certificate = DeviceCertificate(master.id, device, stripe, label, now_ms, now_ms + lifetime_ms)
    return master.sign_noun(CERTIFICATE_PURPOSE, certificate)


def check_certificate(certificate: Signed, master: PublicKey, *, now_ms: int | None) -> DeviceCertificate:
    """Open a device certificate of `master`'s. `now_ms` None: whether or not it has expired.

    Errors: `E-SIGNATURE`, `E-DEVICE-EXPIRED`, those of `decode`.
    """
    opened = open_signed(certificate, DeviceCertificate, master, CERTIFICATE_PURPOSE)
    if opened.user != master.id:
        raise fault("E-SIGNATURE", "a device certificate that names another user than its signer")
    if now_ms is not None and now_ms >= opened.expires_ms:
        days = (now_ms - opened.expires_ms) // 86_400_000
        raise fault("E-DEVICE-EXPIRED", f"the certificate of this device expired {days} days ago" if days else "")
    return opened


def state_hpke_key(master: SigningKey, hpke_public: bytes) -> Signed:
    """The master's statement of the user's HPKE key (1,216 bytes)."""
    return master.sign_noun(HPKE_PURPOSE, HpkeKeyStatement(master.id, hpke_public))


def open_hpke_statement(statement: Signed, master: PublicKey) -> bytes:
    """The 1,216-byte HPKE key that `master` states. Errors: `E-SIGNATURE`, those of `decode`."""
    opened = open_signed(statement, HpkeKeyStatement, master, HPKE_PURPOSE)
    if opened.user != master.id:
        raise fault("E-SIGNATURE", "an HPKE key that is stated for another user than its signer")
    return opened.hpke


def check_enrolment(enrolment: Enrolment, *, now_ms: int | None = None) -> DeviceCertificate:
    """Check both signatures of an enrolment and return its device certificate. Errors: those of `check_certificate`."""
    open_hpke_statement(enrolment.hpke, enrolment.master)
    return check_certificate(enrolment.certificate, enrolment.master, now_ms=now_ms)


def decode_enrolment(data: bytes) -> Enrolment:
    """Decode the bytes of an `enrolment.bin` from anybody; not yet checked. Errors: those of `decode`."""
    return decode(data, Enrolment, max_bytes=ENROLMENT_MAX_BYTES)
