"""TLS 1.3 over memory buffers: bytes of the network on one side, plaintext on the other, no socket anywhere.

The profile (`proto/spec/transport.md`, "TLS"): TLS 1.3 alone, key exchange X25519MLKEM768 alone, AES-256-GCM or
ChaCha20-Poly1305, a certificate from both ends, judged by our own rule; no session is resumed. The profile is asked for in the
context and checked again once the handshake is done, before a byte of plaintext passes either way.

pyOpenSSL raises an exception of a verify callback in whichever connection of the same context looks first, so the callback
raises nothing: it leaves its finding on its own connection.
"""

from __future__ import annotations

import threading
import warnings
from functools import lru_cache
from typing import Any, Literal

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto

from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.keys import PublicKey
from qustream.transport.certificate import make_certificate, read_certificate
from qustream.transport.limits import HANDSHAKE_MAX_BYTES, TLS_OWED_MAX_BYTES

__all__ = ["EXPORTER_LABEL", "TlsLayer"]

EXPORTER_LABEL = b"EXPORTER-qustream-1"
EXPORTER_BYTES = 32  # RFC 8446 §7.5 leaves the length to us: as strong as the handshake
GROUP = "X25519MLKEM768"
CIPHERS = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
# The largest TLS record's plaintext, and what a record adds to it: header, type, tag.
RECORD_BYTES = 16384
RECORD_OVERHEAD_BYTES = 22
# RFC 8446 §5.1: type, version, length.
RECORD_HEADER_BYTES = 5
# RFC 8446 §5.5: AES-GCM keeps its margin for 2^24.5 records under one key, which is 390 GB of full ones. OpenSSL does not change keys by
# itself and Python cannot ask it to, so a connection ends in order before that.
RECORDS_MAX = 1 << 24
# What TLS has to say by itself fits into one such read, but for the server's first flight.
OWED_READ_BYTES = 4096
# OpenSSL's SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets without exporting it: a write would end after one record.
_PARTIAL_WRITE = 1
# What OpenSSL's buffers have grown to they keep for the life of a connection: 27 KB in a handshake, a third more than the largest write.
# So a write is cut, and after so many turns without more than this at once they are made anew: a link of gossip gets there in seconds,
# a transfer never.
WRITE_BYTES = 4 * RECORD_BYTES
RENEW_ABOVE_BYTES, RENEW_AFTER_TURNS = RECORD_BYTES, 8
# Identities one process speaks for: a daemon has one, a test a few; more are merely made again.
CONTEXTS_MAX = 16

# OpenSSL's words for "we share no group", and for "the certificate was not there or not liked".
_GROUP_REASONS = ("no suitable key share", "no suitable groups", "no shared group", "bad key share")
_CERTIFICATE_REASONS = ("certificate", "unknown ca")
_warnings_lock = threading.Lock()
_FFI: Any = getattr(SSL, "_ffi", None)
_LIB: Any = getattr(SSL, "_lib", None)
_SSL_READ: Any = getattr(_LIB, "SSL_read", None)
_CAN_RENEW = all(hasattr(_LIB, name) for name in ("BIO_new", "BIO_s_mem", "SSL_set_bio"))


def _judge(connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, _ok: int) -> bool:
    """OpenSSL asks what we think of the peer's certificate. It may ask twice; the first finding stands."""
    layer = connection.get_app_data()
    assert isinstance(layer, TlsLayer)
    return depth == 0 and layer.judge(certificate)


@lru_cache(maxsize=CONTEXTS_MAX)
def _context(key: SigningKey) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(":".join(CIPHERS).encode())
    # Tickets would embed the client's certificate; with the cache off as well, what is left of them resumes nothing.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.clear_mode(_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # saves 30 % of an idle connection
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _judge)
    context.set_verify_depth(0)
    _set_group(context)
    der = key.mldsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    context.use_certificate(make_certificate(key))
    with _warnings_lock, warnings.catch_warnings():
        # pyOpenSSL asks for a cryptography key instead, but does not take an ML-DSA one yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_ASN1, der))
    return context


def _set_group(context: SSL.Context) -> None:
    """Offer and accept our group only. pyOpenSSL has no public setter; where the private one is gone, the check after the
    handshake still refuses, only later."""
    setter = getattr(_LIB, "SSL_CTX_set1_curves_list", None)
    if setter is not None:
        setter(context._context, GROUP.encode())


def _read_into(connection: SSL.Connection, room: memoryview) -> int:
    """Read one record's plaintext into `room`. pyOpenSSL's own `recv_into` copies it twice more, but is what judges whatever is not
    plaintext, and all there is where the inner function is gone. Errors: `SSL.Error`."""
    if _SSL_READ is not None:
        got: int = _SSL_READ(connection._ssl, _FFI.from_buffer(room), len(room))
        if got > 0:
            return got
    return connection.recv_into(room)


def _renew_buffers(connection: SSL.Connection) -> None:
    """Give OpenSSL new buffers in the place of its two, which must be empty. pyOpenSSL has no function for it; where the inner ones are
    gone, the old ones stay."""
    if not _CAN_RENEW:
        return
    into, out = _LIB.BIO_new(_LIB.BIO_s_mem()), _LIB.BIO_new(_LIB.BIO_s_mem())
    assert _FFI.NULL not in (into, out), "OpenSSL has no memory"
    connection._into_ssl, connection._from_ssl = into, out
    _LIB.SSL_set_bio(connection._ssl, into, out)  # which frees the old ones


class _RecordCounter:
    """How many TLS records have begun in a stream of bytes. What OpenSSL does not hand on, such as key updates, makes work too."""

    __slots__ = ("_body_left", "_header", "count")

    def __init__(self) -> None:
        self.count = 0
        self._header = bytearray()
        self._body_left = 0

    @property
    def whole(self) -> int:
        """How many of them are here to their last byte."""
        return self.count - (self._body_left > 0)

    @property
    def is_between(self) -> bool:
        """Whether nothing of another record is here."""
        return not self._body_left and not self._header

    def feed(self, data: memoryview) -> None:
        at = self._body_left
        end = len(data)
        while at < end:
            if self._header or end - at < RECORD_HEADER_BYTES:
                at = self._take_header(data, at)
            else:
                self.count += 1
                at += RECORD_HEADER_BYTES + (data[at + 3] << 8 | data[at + 4])
        self._body_left = at - end

    def _take_header(self, data: memoryview, at: int) -> int:
        """Take what is here of a header that comes in parts; returns where its record ends, or `data` if the header is not whole."""
        stop = min(at + RECORD_HEADER_BYTES - len(self._header), len(data))
        self._header += data[at:stop]
        if len(self._header) < RECORD_HEADER_BYTES:
            return stop
        body = int.from_bytes(self._header[3:], "big")
        self._header.clear()
        self.count += 1
        return stop + body


class TlsLayer:
    """One TLS connection without a socket. Raises `QuStreamError` when the peer breaks it; then only `pull` is of use."""

    def __init__(self, role: Literal["client", "server"], key: SigningKey) -> None:
        self._role = role
        self._connection = SSL.Connection(_context(key), None)
        self._connection.set_app_data(self)
        if role == "client":
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self.borrows = False
        self._handshake_bytes = 0
        self._owed: list[bytes | memoryview] = []
        self._broken = False
        self._stirred = False  # OpenSSL may have something to say that was not drained yet
        self._judged: QuStreamError | None = None
        self.ready = False
        self.ended = False
        self._small_turns = RENEW_AFTER_TURNS  # since OpenSSL's buffers grew; the handshake's growth is given back at once
        self._is_grown = True
        self._records = 0
        self._received = _RecordCounter()
        self._taken = 0  # records that OpenSSL is done with
        self.peer_key: PublicKey | None = None
        self.exporter = b""

    @property
    def worn(self) -> bool:
        """Whether our sending key has protected as many records as it should."""
        return self._records >= RECORDS_MAX

    @property
    def owes(self) -> bool:
        """Whether there are records to send."""
        return bool(self._owed)

    @property
    def received_records(self) -> int:
        """How many records have come."""
        return self._received.count

    def start(self) -> None:
        """The client speaks first."""
        self._shake_hands()

    def judge(self, certificate: crypto.X509) -> bool:
        """Whether the peer's certificate is one of ours; called from inside the handshake."""
        if self.peer_key is None and self._judged is None:
            try:
                self.peer_key = read_certificate(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
            except QuStreamError as error:
                self._judged = error
        return self._judged is None

    def receive(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        """Take bytes of the network; return the plaintext they hold.

        Errors: `E-TLS-*`, `E-WIRE-OVERSIZE` (a handshake too long), `E-PEER-LIMIT` (a peer that does not read).
        """
        if not len(data) or self.ended:
            return []
        if not self.ready:
            self._handshake_bytes += len(data)
            if self._handshake_bytes > HANDSHAKE_MAX_BYTES:
                raise fault("E-WIRE-OVERSIZE", f"a handshake above {HANDSHAKE_MAX_BYTES} bytes")
        self._received.feed(memoryview(data))
        self._connection.bio_write(data)
        if not self.ready:
            self._shake_hands()
        chunks = self._read(len(data)) if self.ready else []
        self._collect_owed()
        if self._is_grown and self.ready:
            self._shrink(len(data))
        elif len(data) > RENEW_ABOVE_BYTES:
            self._grow()
        return chunks

    def _grow(self) -> None:
        self._is_grown, self._small_turns = True, 0

    def _shrink(self, size: int) -> None:
        """A turn is over that read `size` bytes, or had nothing more to write. After enough small ones OpenSSL gets new buffers."""
        self._small_turns = 0 if size > RENEW_ABOVE_BYTES else self._small_turns + 1
        if self._small_turns >= RENEW_AFTER_TURNS and self._received.is_between and not (self.ended or self._broken):
            _renew_buffers(self._connection)
            self._is_grown = False

    def _shake_hands(self) -> None:
        self._stirred = True
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise self._handshake_fault(error) from None
        self._check_profile()
        self.exporter = self._connection.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES)
        self.ready = True

    def _check_profile(self) -> None:
        """What was asked for is what was agreed: nothing passes before this holds."""
        connection = self._connection
        group = connection.get_group_name()
        if group != GROUP:
            raise fault("E-TLS-GROUP", f"the key exchange is {group}, not {GROUP}")
        if connection.get_protocol_version() != SSL.TLS1_3_VERSION or connection.get_cipher_name() not in CIPHERS:
            raise fault("E-TLS-HANDSHAKE", "the connection is not TLS 1.3 with a cipher of 256 bits")
        # OpenSSL counts the peer's own certificate into the chain at the client and leaves it out at the server. They are counted, not
        # read: OpenSSL lets pass what another parser raises on.
        chain = connection.get_peer_cert_chain() or []
        if self.peer_key is None or len(chain) != (1 if self._role == "client" else 0):
            raise fault("E-TLS-CERTIFICATE", "the peer did not send exactly one certificate")

    def _handshake_fault(self, error: SSL.Error) -> QuStreamError:
        if self._judged is not None:
            return self._judged
        reason = _reason(error)
        if any(text in reason for text in _GROUP_REASONS):
            return fault("E-TLS-GROUP", f"{reason}: the peer does not offer {GROUP}")
        if any(text in reason for text in _CERTIFICATE_REASONS):
            return fault("E-TLS-CERTIFICATE", reason)
        return fault("E-TLS-HANDSHAKE", reason)

    def _read(self, expected_bytes: int) -> list[memoryview]:
        """All the plaintext there is: that of `expected_bytes` and of what was left of a record before. When every record has given its own
        and nothing of another is here, OpenSSL is not asked for more: its no costs as much as a record."""
        chunks: list[memoryview] = []
        room, at = memoryview(bytearray(expected_bytes + RECORD_BYTES)), 0
        try:
            while self._taken < self._received.whole or not self._received.is_between:
                at += _read_into(self._connection, room[at:])
                self._taken += 1
                if len(room) - at < RECORD_BYTES:
                    chunks.append(room[:at])
                    room, at = memoryview(bytearray(expected_bytes + RECORD_BYTES)), 0
        except SSL.WantReadError:  # some were TLS's own
            self._taken, self._stirred = self._received.whole, True
        except SSL.ZeroReturnError:
            self.ended = self._stirred = True
        except SSL.Error as error:
            self._broken = self._stirred = True
            reason = _reason(error)
            if any(text in reason for text in _CERTIFICATE_REASONS):
                raise fault("E-TLS-CERTIFICATE", f"the peer refused: {reason}") from None
            raise fault("E-TLS-RECORD", reason) from None
        return [*chunks, room[:at]] if at else chunks

    def write(self, *parts: bytes | memoryview) -> None:
        """Protect plaintext; `pull` gives the records. Where TLS itself broke there is nothing left to say it with."""
        if self._broken or not parts:
            return
        plaintext = parts[0] if len(parts) == 1 else b"".join(parts)
        self._records += len(plaintext) // RECORD_BYTES + 1
        if len(plaintext) > RENEW_ABOVE_BYTES:
            self._grow()
        view = memoryview(plaintext)
        for at in range(0, len(view), WRITE_BYTES):
            piece = view[at : at + WRITE_BYTES]
            self._stirred = True
            sent = self._connection.send(piece)
            assert sent == len(piece)  # a memory buffer takes all, since partial writes are off
            self._drain(len(piece) + len(piece) // RECORD_BYTES * RECORD_OVERHEAD_BYTES + OWED_READ_BYTES)

    def shutdown(self) -> None:
        """Say goodbye in TLS's own words, if TLS ever came about."""
        if self.ready and not self._broken:
            self._stirred = True
            self._connection.shutdown()

    def _collect_owed(self) -> None:
        """What TLS wants to say by itself (handshake, key updates) must not pile up behind a peer that does not read."""
        if self._stirred:
            self._drain(OWED_READ_BYTES)
        if sum(map(len, self._owed)) > TLS_OWED_MAX_BYTES:
            raise fault("E-PEER-LIMIT", "the peer makes us answer and does not read the answers")

    def pull(self) -> list[bytes | memoryview]:
        """What the network must be given, whole."""
        if self._stirred:
            self._drain(OWED_READ_BYTES)
        parts, self._owed = self._owed, []
        if self._is_grown and self.ready and not parts:
            self._shrink(0)
        return parts

    def _drain(self, expected_bytes: int) -> None:
        """Empty OpenSSL's buffer. It fills what it is given, so a short answer is the last, and a good guess one read."""
        self._stirred = False
        got = expected_bytes
        while got == expected_bytes:
            try:
                part = self._connection.bio_read(expected_bytes)
            except SSL.WantReadError:
                return
            self._owed.append(part)
            got = len(part)


def _reason(error: SSL.Error) -> str:
    """OpenSSL's words for what went wrong: fixed texts of the library, nothing of the peer's."""
    found = error.args[0] if error.args else None
    if isinstance(found, list) and found:
        return str(found[0][-1])
    return "the TLS connection broke"
