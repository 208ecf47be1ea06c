"""The certificate: made by us it is read by us, and nothing else is."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport.certificate import ED25519_EXTENSION, make_certificate, read_certificate
from qustream.transport.limits import CERTIFICATE_MAX_BYTES

KEY = SigningKey(b"k" * 32)
GOOD = x509.UnrecognizedExtension(ED25519_EXTENSION, b"\x04\x20" + KEY.public.ed25519)
PrivateKey = MLDSA65PrivateKey | MLDSA44PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def build(
    key: PrivateKey = KEY.mldsa,
    signer: PrivateKey | None = None,
    extension: x509.ExtensionType | None = GOOD,
    critical: bool = False,
    name: str = "",
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(datetime.datetime(1999, 1, 1))
        .not_valid_after(datetime.datetime(2000, 1, 1))
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=critical)
    signer = signer or key
    algorithm = None if isinstance(signer, MLDSA65PrivateKey | MLDSA44PrivateKey) else SHA256()
    return builder.sign(signer, algorithm).public_bytes(Encoding.DER)


def refused(der: bytes) -> str:
    with pytest.raises(QuStreamError) as caught:
        read_certificate(der)
    assert caught.value.code == "E-TLS-CERTIFICATE"
    return caught.value.detail


def test_our_certificate_carries_the_whole_public_key() -> None:
    der = make_certificate(KEY).public_bytes(Encoding.DER)
    assert read_certificate(der) == KEY.public
    assert len(der) < CERTIFICATE_MAX_BYTES


def test_names_serial_and_dates_mean_nothing() -> None:
    assert read_certificate(build(name="node of somebody")) == KEY.public


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048), MLDSA44PrivateKey.generate()]
)
def test_other_kinds_of_key_are_refused(key: PrivateKey) -> None:
    assert "ML-DSA-65" in refused(build(key))


def test_a_certificate_signed_by_another_key_is_refused() -> None:
    assert "own signature" in refused(build(signer=MLDSA65PrivateKey.generate()))
    assert "ML-DSA-65" in refused(build(signer=ec.generate_private_key(ec.SECP256R1())))


def test_a_changed_certificate_is_refused() -> None:
    der = bytearray(build())
    der[der.index(KEY.public.ed25519) + 5] ^= 1
    assert "own signature" in refused(bytes(der))


def test_a_certificate_without_the_ed25519_key_is_refused() -> None:
    assert "no Ed25519 key" in refused(build(extension=None))


@pytest.mark.parametrize("value", [b"", b"\x04\x20", KEY.public.ed25519, b"\x04\x1f" + bytes(31), b"\x04\x20" + bytes(33)])
def test_a_malformed_extension_is_refused(value: bytes) -> None:
    assert "no Ed25519 key" in refused(build(extension=x509.UnrecognizedExtension(ED25519_EXTENSION, value)))


def test_a_critical_extension_is_refused() -> None:
    assert "critical" in refused(build(critical=True))


def test_a_long_certificate_is_refused_unread() -> None:
    assert "at most" in refused(build(extension=x509.SubjectAlternativeName([x509.DNSName("a" * 63)] * 20)))
    assert "at most" in refused(bytes(CERTIFICATE_MAX_BYTES + 1))


def test_extensions_no_parser_knows_are_refused_calmly() -> None:
    """A general name of a type that X.400 alone uses: the parser raises an exception of its own kind."""
    oid = x509.ObjectIdentifier("2.5.29.17")
    der = build(extension=x509.UnrecognizedExtension(oid, bytes.fromhex("3006a304a0023000")))
    assert "cannot be read" in refused(der)


def test_what_is_no_certificate_is_refused() -> None:
    der = build()
    for bad in (b"", b"\x30", der[:-1], der[:100], der + b"\0", b"\0" * 5000):
        assert "cannot be read" in refused(bad)
