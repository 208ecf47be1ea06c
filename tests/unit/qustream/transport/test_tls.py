"""The TLS profile: what our own context would never offer, offered by OpenSSL used otherwise, is refused with its code."""

from __future__ import annotations

import datetime
import random
import struct
import warnings
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto

from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.transport import tls
from qustream.transport.certificate import make_certificate
from qustream.transport.limits import TLS_OWED_MAX_BYTES
from qustream.transport.tls import EXPORTER_LABEL, GROUP, TlsLayer

ALICE, BOB = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
PrivateKey = MLDSA65PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def context(*, groups: str = GROUP, ciphers: str = "TLS_AES_256_GCM_SHA384", low: int = SSL.TLS1_3_VERSION) -> SSL.Context:
    """A context that is free to differ from ours, without a certificate."""
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_min_proto_version(low)
    made.set_tls13_ciphersuites(ciphers.encode())
    SSL._lib.SSL_CTX_set1_curves_list(made._context, groups.encode())
    return made


def with_certificate(made: SSL.Context, certificate: x509.Certificate, key: PrivateKey, *more: x509.Certificate) -> SSL.Context:
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.use_certificate(certificate)
        made.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_ASN1, der))
        for one in more:
            made.add_extra_chain_cert(one)
    return made


def honest(made: SSL.Context, key: SigningKey = BOB) -> SSL.Context:
    return with_certificate(made, make_certificate(key), key.mldsa)


def foreign(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(9999, 12, 31))
    return builder.sign(key, SHA256())


class Raw:
    """The far end: OpenSSL as it is, with its own context."""

    def __init__(self, made: SSL.Context, layer: TlsLayer, *, client: bool, session: SSL.Session | None = None) -> None:
        self.connection = SSL.Connection(made, None)
        self.layer = layer
        self.done = False
        self.trouble = ""
        if client:
            self.connection.set_connect_state()
            if session is not None:
                self.connection.set_session(session)
        else:
            self.connection.set_accept_state()
            layer.start()

    def drain(self) -> bytes:
        parts = []
        while True:
            try:
                parts.append(self.connection.bio_read(65536))
            except SSL.WantReadError:
                return b"".join(parts)

    def step(self) -> None:
        try:
            if not self.done:
                self.connection.do_handshake()
                self.done = True
            self.connection.recv(16384)
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self.trouble = self.trouble or str(error)

    def run(self) -> list[bytes]:
        """Carry bytes until neither side has any; raises what our layer raises, after its last words were delivered."""
        chunks: list[bytes] = []
        while True:
            ours = b"".join(self.layer.pull())
            if ours:
                self.connection.bio_write(ours)
            self.step()
            theirs = self.drain()
            if not theirs and not ours:
                return chunks
            try:
                chunks += self.layer.receive(theirs)
            except QuStreamError:
                last = b"".join(self.layer.pull())
                if last:
                    self.connection.bio_write(last)
                    self.step()
                raise


def refused(made: SSL.Context, role: str) -> tuple[str, Raw]:
    layer = TlsLayer("server", ALICE) if role == "client" else TlsLayer("client", ALICE)
    raw = Raw(made, layer, client=role == "client")
    with pytest.raises(QuStreamError) as caught:
        raw.run()
    assert not layer.ready
    return caught.value.code, raw


# -- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_a_peer_that_keeps_the_profile_is_accepted(cipher: str) -> None:
    raw = Raw(honest(context(ciphers=cipher)), TlsLayer("server", ALICE), client=True)
    raw.run()
    assert raw.layer.ready
    assert raw.layer.peer_key == BOB.public
    assert raw.layer.exporter == raw.connection.export_keying_material(EXPORTER_LABEL, 32)
    assert raw.connection.get_group_name() == GROUP


def test_a_client_that_prefers_another_group_is_asked_again() -> None:
    raw = Raw(honest(context(groups=f"X25519:{GROUP}")), TlsLayer("server", ALICE), client=True)
    raw.run()
    assert raw.layer.ready
    assert raw.connection.get_group_name() == GROUP


# -- other groups, versions, ciphers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384", "MLKEM768", "SecP256r1MLKEM768"])
def test_another_group_is_refused_in_the_handshake(group: str) -> None:
    code, raw = refused(honest(context(groups=group)), "client")
    assert code == "E-TLS-GROUP"
    assert "alert handshake failure" in raw.trouble
    assert refused(honest(context(groups=group)), "server")[0] == "E-TLS-HANDSHAKE"


def test_another_group_is_refused_after_the_handshake_where_it_cannot_be_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the private setter OpenSSL agrees on what the peer likes; the check behind the handshake still holds."""
    monkeypatch.setattr(tls, "_set_group", lambda _context: None)
    tls._context.cache_clear()
    try:
        assert refused(honest(context(groups="X25519")), "client")[0] == "E-TLS-GROUP"
        assert refused(honest(context(groups="X25519")), "server")[0] == "E-TLS-GROUP"
    finally:
        tls._context.cache_clear()


def test_older_tls_is_refused() -> None:
    old = honest(context(low=SSL.TLS1_2_VERSION))
    old.set_max_proto_version(SSL.TLS1_2_VERSION)
    assert refused(old, "client")[0] == "E-TLS-HANDSHAKE"


def test_a_cipher_of_128_bits_is_refused() -> None:
    assert refused(honest(context(ciphers="TLS_AES_128_GCM_SHA256")), "client")[0] == "E-TLS-HANDSHAKE"


# -- other certificates -----------------------------------------------------------------------------------------------

RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("key", [RSA, EC])
def test_a_foreign_certificate_is_refused(role: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    code, raw = refused(with_certificate(context(), foreign(key), key), role)
    assert code == "E-TLS-CERTIFICATE"
    assert "alert" in raw.trouble


def test_no_certificate_is_refused() -> None:
    code, raw = refused(context(), "client")
    assert code == "E-TLS-CERTIFICATE"
    assert "certificate required" in raw.trouble


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_chain_is_refused(role: str) -> None:
    made = with_certificate(context(), make_certificate(BOB), BOB.mldsa, foreign(EC))
    assert refused(made, role)[0] == "E-TLS-CERTIFICATE"


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(
    ("what", "instead"),
    [(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"), (b"99991231235959Z", b"99991331235959Z")],
    ids=["version", "date"],
)
def test_a_chain_that_only_openssl_can_read_is_refused(role: str, what: bytes, instead: bytes) -> None:
    """OpenSSL takes certificates on which the parser of `cryptography` raises: they are a peer's fault, no bug of ours."""
    der = make_certificate(BOB).public_bytes(Encoding.DER)
    made = honest(context())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.add_extra_chain_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der.replace(what, instead, 1)))
    assert refused(made, role)[0] == "E-TLS-CERTIFICATE"


def test_a_certificate_without_the_extension_is_refused() -> None:
    name, key = x509.Name([]), BOB.mldsa
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(9999, 12, 31))
    bare = builder.sign(key, None)
    for role in ("client", "server"):
        assert refused(with_certificate(context(), bare, key), role)[0] == "E-TLS-CERTIFICATE"


def test_the_finding_about_one_peer_never_reaches_another() -> None:
    """pyOpenSSL keeps a callback's exception on the context, which all connections of an identity share."""
    good = Raw(honest(context()), TlsLayer("server", ALICE), client=True)
    good.run()
    assert refused(with_certificate(context(), foreign(EC), EC), "client")[0] == "E-TLS-CERTIFICATE"
    good.layer.write(b"still here")
    good.connection.bio_write(b"".join(good.layer.pull()))
    assert good.connection.recv(100) == b"still here"


# -- sessions, key updates, floods ------------------------------------------------------------------------------------


def test_no_session_is_resumed() -> None:
    made = honest(context())
    made.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
    first = Raw(made, TlsLayer("server", ALICE), client=True)
    first.run()
    again = Raw(made, TlsLayer("server", ALICE), client=True, session=first.connection.get_session())
    again.run()
    assert again.layer.ready
    assert not SSL._lib.SSL_session_reused(again.connection._ssl)
    assert again.layer.peer_key == BOB.public
    assert again.layer.exporter != first.layer.exporter


def test_tickets_that_a_server_insists_on_are_ignored() -> None:
    made = honest(context())
    made.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    made.set_session_id(b"any")
    raw = Raw(made, TlsLayer("client", ALICE), client=False)
    raw.run()
    assert raw.layer.ready
    raw.connection.send(b"hello")
    assert raw.run() == [b"hello"]


def test_what_tls_owes_a_peer_that_does_not_read_is_bounded() -> None:
    raw = Raw(honest(context()), TlsLayer("server", ALICE), client=True)
    raw.run()
    # Key updates cannot be sent from Python: what they would pile up is put there by hand.
    raw.layer._owed = [bytes(TLS_OWED_MAX_BYTES)]
    raw.layer._connection.send(b"the answer to a key update")
    raw.layer._stirred = True
    raw.connection.send(b"y")
    with pytest.raises(QuStreamError) as caught:
        raw.layer.receive(raw.drain())
    assert caught.value.code == "E-PEER-LIMIT"


class KeyUpdates:
    """What OpenSSL's Python face cannot send: TLS 1.3 key updates, made by hand (RFC 8446 §4.6.3, §5.2, §7.2)."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def expand(self, label: bytes, length: int) -> bytes:
        info = struct.pack(">HB", length, 6 + len(label)) + b"tls13 " + label + b"\0"
        return HKDFExpand(algorithm=SHA384(), length=length, info=info).derive(self.secret)

    def next(self) -> bytes:
        """One, the first record under its key."""
        inner = b"\x18\0\0\x01\0" + b"\x16"  # update_not_requested, in a handshake record
        header = b"\x17\x03\x03" + struct.pack(">H", len(inner) + 16)
        record = header + AESGCM(self.expand(b"key", 32)).encrypt(self.expand(b"iv", 12), inner, header)
        self.secret = self.expand(b"traffic upd", 48)
        return record


def test_records_that_openssl_keeps_to_itself_are_counted() -> None:
    """Or a flood of key updates would be work that nobody paces."""
    lines: list[bytes] = []
    made = honest(context())
    made.set_keylog_callback(lambda _connection, line: lines.append(line))
    raw = Raw(made, TlsLayer("server", ALICE), client=True)
    raw.run()
    (secret,) = (line.split()[2] for line in lines if line.startswith(b"CLIENT_TRAFFIC_SECRET_0"))
    updates = KeyUpdates(bytes.fromhex(secret.decode()))
    before = raw.layer.received_records
    flood = b"".join(updates.next() for _ in range(100))
    for at in range(0, len(flood), 7):  # in pieces that end anywhere
        assert raw.layer.receive(flood[at : at + 7]) == []
    assert raw.layer.received_records == before + 100


def test_a_context_is_made_once_an_identity() -> None:
    assert tls._context(ALICE) is tls._context(ALICE)
    assert tls._context(ALICE) is not tls._context(BOB)


@pytest.mark.parametrize("write", [lambda layer: layer.write(b"x"), lambda layer: layer.shutdown()])
def test_a_broken_layer_says_no_more(write: Callable[[TlsLayer], None]) -> None:
    raw = Raw(honest(context()), TlsLayer("server", ALICE), client=True)
    raw.run()
    with pytest.raises(QuStreamError):
        raw.layer.receive(b"\x17\x03\x03\x00\x20" + bytes(32))
    raw.layer.pull()  # the alert
    write(raw.layer)
    assert raw.layer.pull() == []


# -- plaintext --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw_read", [True, False])
@pytest.mark.parametrize("step", [1 << 20, 40_000, 16_384, 1000])
def test_plaintext_comes_out_whole_however_it_is_cut(raw_read: bool, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not raw_read:  # as if pyOpenSSL had no such inner function
        monkeypatch.setattr("qustream.transport.tls._SSL_READ", None)
    alice, bob = TlsLayer("client", ALICE), TlsLayer("server", BOB)
    alice.start()
    while not (alice.ready and bob.ready):
        bob.receive(b"".join(alice.pull()))
        alice.receive(b"".join(bob.pull()))
    sent = random.Random(3).randbytes(400_000)
    alice.write(sent[:100], sent[100:101], memoryview(sent)[101:300_000])
    alice.write(sent[300_000:])
    data, got = b"".join(alice.pull()), b""
    for at in range(0, len(data), step):
        chunks = bob.receive(data[at : at + step])
        assert all(chunks), "an empty chunk"
        got += b"".join(chunks)
    assert got == sent


@pytest.mark.parametrize("raw_read", [True, False])
def test_what_is_no_plaintext_is_judged_alike(raw_read: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not raw_read:
        monkeypatch.setattr("qustream.transport.tls._SSL_READ", None)
    raw = Raw(honest(context()), TlsLayer("server", ALICE), client=True)
    raw.run()
    raw.connection.send(b"first")
    raw.connection.shutdown()
    assert b"".join(raw.layer.receive(raw.drain())) == b"first"
    assert raw.layer.ended
    raw = Raw(honest(context()), TlsLayer("server", ALICE), client=True)
    raw.run()
    raw.connection.send(b"altered")
    altered = bytearray(raw.drain())
    altered[-1] ^= 1
    with pytest.raises(QuStreamError) as caught:
        raw.layer.receive(altered)
    assert caught.value.code == "E-TLS-RECORD"
    assert raw.layer.pull(), "no alert"
