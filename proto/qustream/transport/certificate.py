"""The certificate of a QuStream identity (`proto/spec/transport.md`, "Certificate").

X.509 is only the box TLS demands: self-signed by the ML-DSA-65 half, with the Ed25519 half in a private extension, so that the
whole public key, hence the id, is known at first contact. Names and dates mean nothing and are ignored.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from qustream.errors import fault
from qustream.identity.signing import SigningKey
from qustream.model.keys import PublicKey
from qustream.transport.limits import CERTIFICATE_MAX_BYTES

__all__ = ["ED25519_EXTENSION", "make_certificate", "read_certificate"]

# A UUID under the arc 2.25 (ITU-T X.667), which needs no registration.
ED25519_EXTENSION = x509.ObjectIdentifier("2.25.72997266025122678547904618922863057892")
# The extension's value is a DER OCTET STRING of 32 bytes.
_OCTETS_32 = b"\x04\x20"
_MLDSA65 = x509.ObjectIdentifier("2.16.840.1.101.3.4.3.18")
# RFC 5280 §4.1.2.5: the date that means "no end".
_NEVER = datetime.datetime(9999, 12, 31, 23, 59, 59)
_ALWAYS = datetime.datetime(2020, 1, 1)


def make_certificate(key: SigningKey) -> x509.Certificate:
    """The self-signed certificate of `key`: ~5.4 KiB. Two calls differ in the signature alone (ML-DSA is hedged)."""
    nobody = x509.Name([])
    extension = x509.UnrecognizedExtension(ED25519_EXTENSION, _OCTETS_32 + key.public.ed25519)
    builder = (
        x509.CertificateBuilder()
        .subject_name(nobody)
        .issuer_name(nobody)
        .public_key(key.mldsa.public_key())
        .serial_number(1)
        .not_valid_before(_ALWAYS)
        .not_valid_after(_NEVER)
        .add_extension(extension, critical=False)
    )
    return builder.sign(key.mldsa, None)


def read_certificate(der: bytes) -> PublicKey:
    """The public key in a peer's certificate, whose own signature holds. Errors: `E-TLS-CERTIFICATE`."""
    if len(der) > CERTIFICATE_MAX_BYTES:
        raise fault("E-TLS-CERTIFICATE", f"a certificate of {len(der)} bytes; at most {CERTIFICATE_MAX_BYTES}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        mldsa = certificate.public_key()
        extensions = list(certificate.extensions)
        algorithm = certificate.signature_algorithm_oid
    except Exception:
        # The parser meets a stranger's bytes here, and its refusals share no class of their own (a general name of an unknown type,
        # a duplicate extension, an unknown curve ...): whatever it says, the certificate cannot be read.
        raise fault("E-TLS-CERTIFICATE", "the certificate cannot be read") from None
    if not isinstance(mldsa, MLDSA65PublicKey) or algorithm != _MLDSA65:
        raise fault("E-TLS-CERTIFICATE", "the certificate is not of an ML-DSA-65 key")
    ed25519 = _ed25519_of(extensions)
    try:
        mldsa.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature:
        raise fault("E-TLS-CERTIFICATE", "the certificate's own signature does not hold") from None
    return PublicKey(ed25519, mldsa.public_bytes_raw())


def _ed25519_of(extensions: list[x509.Extension[x509.ExtensionType]]) -> bytes:
    found = None
    for extension in extensions:
        if extension.critical:
            raise fault("E-TLS-CERTIFICATE", "the certificate has a critical extension")
        if extension.oid == ED25519_EXTENSION and isinstance(extension.value, x509.UnrecognizedExtension):
            found = extension.value.value
    if found is None or len(found) != len(_OCTETS_32) + 32 or not found.startswith(_OCTETS_32):
        raise fault("E-TLS-CERTIFICATE", "the certificate carries no Ed25519 key")
    return found[len(_OCTETS_32) :]
