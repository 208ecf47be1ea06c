"""Hostile peers on real sockets. Each gets its coded error, and meanwhile an honest connection is served without a break."""

from __future__ import annotations

import datetime
import random
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL, crypto

from qustream.aio.connection import Connection, connect, establish
from qustream.aio.listener import ListenerLimits, ListenerStats, serve
from qustream.aio.rpc import serve_requests
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.model.keys import PublicKey
from qustream.transport import blocking
from qustream.transport.certificate import make_certificate
from qustream.transport.engine import Channel, Engine, LocalHello
from qustream.transport.frames import frames_of
from qustream.wire.codec import encode
from qustream.wire.hello import Hello, Role
from qustream.wire.rpc import Request, Response

HONEST, BOB, MALLORY = SigningKey(b"h" * 32), SigningKey(b"b" * 32), SigningKey(b"m" * 32)
HELLO = LocalHello("test", (Role.NODE,))
LIMITS = ListenerLimits(handshake_ms=60_000, idle_ms=60_000, connections_per_address=8, handshakes_per_address=4, burst_per_address=1000)
# Loopback has sixteen million addresses: the hostile use another one than the honest.
ELSEWHERE = "127.0.0.66"


class House:
    """Bob's listener, its counts, and the honest peer's answers so far."""

    def __init__(self, port: int, stats: ListenerStats) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.stats = stats
        self.answered = 0

    async def failed(self, code: str, times: int = 1) -> None:
        """Wait until the handshake failures of `code` have been counted."""
        await self.until(lambda: self.stats.handshakes_failed[code] >= times)

    async def closed(self, code: str) -> None:
        await self.until(lambda: self.stats.closed[code] >= 1)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(60):
            while not condition():
                await trio.sleep(0.005)
            return
        raise AssertionError(f"it did not come about: {self.stats}")


async def answer(body: bytes, _deadline_ms: int) -> bytes:
    return body[::-1]


async def handler(connection: Connection) -> None:
    await serve_requests(connection, answer)


@asynccontextmanager
async def house(limits: ListenerLimits = LIMITS) -> AsyncIterator[House]:
    """Serve, with one honest connection that asks all the time: no answer may fail, and answers still come afterwards."""
    stats = ListenerStats()
    async with trio.open_nursery() as nursery:
        run = partial(serve, "127.0.0.1:0", key=BOB, hello=HELLO, handler=handler, limits=limits, stats=stats)
        bound = await nursery.start(run)
        made = House(int(bound[0].rsplit(":", 1)[1]), stats)
        stop = trio.CancelScope()
        nursery.start_soon(ask_all_the_time, made, stop)
        await made.until(lambda: made.answered > 0)
        yield made
        before = made.answered
        await made.until(lambda: made.answered > before)
        stop.cancel()
        await made.until(lambda: stats.open == 0)
        nursery.cancel_scope.cancel()


async def ask_all_the_time(made: House, stop: trio.CancelScope) -> None:
    async with await connect(made.address, key=HONEST, hello=HELLO, expect=BOB.id) as bob:
        with stop:
            while True:
                body = made.answered.to_bytes(4, "big")
                assert await bob.call(body, deadline_ms=60_000) == body[::-1]
                made.answered += 1
                await trio.sleep(0.002)


def open_tcp(made: House, source: str = ELSEWHERE) -> socket.socket:
    return socket.create_connection(("127.0.0.1", made.port), timeout=60, source_address=(source, 0))


async def in_thread(function: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(function)


async def mallory(made: House, key: SigningKey = MALLORY, expect: bytes | None = BOB.id) -> Connection:
    """A peer that has shaken hands and is free to misbehave; not entered, so nothing is sent but by hand."""
    return await establish(open_tcp(made), Engine("client", key=key, hello=HELLO, expect=expect))


async def say(connection: Connection, plaintext: bytes) -> None:
    """Send bytes as they are, under TLS."""
    if plaintext:
        connection._engine._layer.write(plaintext)
        await connection._link.flush()


async def code_told(connection: Connection) -> str:
    """The code with which the other end closes."""
    with pytest.raises(QuStreamError) as caught:
        async with connection:
            raise await connection.wait_closed()
    return caught.value.code


# -- before TLS -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n", id="http"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="ssh"),
        pytest.param(bytes(4096), id="zeros"),
        pytest.param(random.Random(1).randbytes(100_000), id="noise"),
        pytest.param(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", id="empty hello"),
        pytest.param(b"\x17\x03\x03\x00\x01\x00", id="application data"),
        pytest.param(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", id="sslv2"),
    ],
)
async def test_what_is_not_tls_is_closed_at_once(words: bytes) -> None:
    async with house() as made:

        def speak() -> None:
            with open_tcp(made) as sock:
                try:
                    sock.sendall(words)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(4096):
                        pass
                except ConnectionError:
                    pass  # a reset is a close

        await in_thread(speak)
        await made.until(lambda: sum(made.stats.handshakes_failed.values()) == 1)
        # Not E-DEADLINE: it did not wait for more.
        assert set(made.stats.handshakes_failed) <= {"E-TLS-HANDSHAKE", "E-PEER-CLOSED", "E-WIRE-OVERSIZE"}


async def test_silence_and_dripping_end_at_the_handshake_deadline() -> None:
    """Half-open connections and the slow loris."""
    engine = Engine("client", key=MALLORY, hello=HELLO)
    engine.start()
    client_hello = engine.data_to_send()

    def drip(made: House) -> None:
        with open_tcp(made) as sock:
            try:
                for byte in client_hello:
                    sock.sendall(bytes([byte]))
                    time.sleep(0.01)
            except OSError:
                return
        raise AssertionError("nobody stopped the drip")

    async with house(replace(LIMITS, handshake_ms=5_000)) as made:
        with open_tcp(made), open_tcp(made) as half:
            half.sendall(client_hello[: len(client_hello) // 2])
            await in_thread(partial(drip, made))
            await made.failed("E-DEADLINE", 3)


async def test_a_flood_of_connections_is_refused_and_others_still_come_in() -> None:
    async with house() as made:
        flood = [open_tcp(made) for _ in range(100)]
        await made.until(lambda: made.stats.refused["handshakes_per_address"] >= 96)
        async with await connect(made.address, key=MALLORY, hello=HELLO, expect=BOB.id) as bob:
            assert await bob.call(b"ab", deadline_ms=60_000) == b"ba"
        for sock in flood:
            sock.close()
        await made.until(lambda: made.stats.open == 1)


async def test_a_flood_of_identities_is_limited_by_address() -> None:
    async with house() as made:
        guests = [await mallory(made, SigningKey(bytes([number]) * 32)) for number in range(LIMITS.connections_per_address)]
        with pytest.raises(QuStreamError) as caught:
            await mallory(made)
        assert caught.value.code == "E-PEER-CLOSED"
        assert made.stats.refused == {"connections_per_address": 1}
        for guest in guests:
            await guest.aclose()


async def test_resets_at_any_moment_harm_nobody() -> None:
    async with house() as made:
        engine = Engine("client", key=MALLORY, hello=HELLO)
        engine.start()
        client_hello = engine.data_to_send()
        for words in (b"", client_hello[:100], client_hello):
            with open_tcp(made) as sock:
                sock.sendall(words)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for plaintext in (b"", b"\0\0\x40", frames_of(Channel.REQUEST, encode(Request(1, 5000, b"x")))):
            peer = await mallory(made)
            await say(peer, plaintext)
            peer._link._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer._link.close()
        await made.failed("E-PEER-CLOSED", 3)
        await made.until(lambda: made.stats.closed["E-PEER-CLOSED"] == 3)


# -- another TLS ------------------------------------------------------------------------------------------------------


async def test_python_s_own_ssl_on_a_classical_group_is_refused() -> None:
    async with house() as made:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ecdh_curve("prime256v1")

        def speak() -> None:
            with open_tcp(made) as sock, pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                context.wrap_socket(sock)

        await in_thread(speak)
        await made.failed("E-TLS-GROUP")


def foreign_context(group: str, key: object, certificate: x509.Certificate | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    SSL._lib.SSL_CTX_set1_curves_list(context._context, group.encode())
    if certificate is not None:
        assert isinstance(key, MLDSA65PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.use_certificate(certificate)
            context.use_privatekey(crypto.load_privatekey(crypto.FILETYPE_ASN1, der))
    return context


def certificate_of(key: MLDSA65PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Self-signed, without our extension."""
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(9999, 12, 31))
    return builder.sign(key, None if isinstance(key, MLDSA65PrivateKey) else SHA256())


RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
OURS = "X25519MLKEM768"
FOREIGN = [
    pytest.param("X25519", MALLORY.mldsa, make_certificate(MALLORY), "E-TLS-GROUP", id="group X25519"),
    pytest.param("P-256", MALLORY.mldsa, make_certificate(MALLORY), "E-TLS-GROUP", id="group P-256"),
    pytest.param(OURS, RSA, certificate_of(RSA), "E-TLS-CERTIFICATE", id="RSA certificate"),
    pytest.param(OURS, EC, certificate_of(EC), "E-TLS-CERTIFICATE", id="ECDSA certificate"),
    pytest.param(OURS, MALLORY.mldsa, certificate_of(MALLORY.mldsa), "E-TLS-CERTIFICATE", id="no extension"),
]


def shake_and_read(connection: SSL.Connection) -> None:
    """TLS 1.3 tells a client what the server thinks of its certificate only after the handshake."""
    connection.do_handshake()
    connection.recv(1)


@pytest.mark.parametrize(("group", "key", "certificate", "code"), [*FOREIGN, (OURS, None, None, "E-TLS-CERTIFICATE")])
async def test_a_client_of_another_kind_is_refused(group: str, key: object, certificate: x509.Certificate | None, code: str) -> None:
    context = foreign_context(group, key, certificate)
    async with house() as made:

        def speak() -> None:
            with open_tcp(made) as sock:
                sock.setblocking(True)
                connection = SSL.Connection(context, sock)
                connection.set_connect_state()
                with pytest.raises(SSL.Error):
                    shake_and_read(connection)

        await in_thread(speak)
        await made.failed(code)


@contextmanager
def hostile_server(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listener of one connection, in a thread; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(60)
                try:
                    speak(sock)
                except (OSError, SSL.Error):
                    return  # the client hung up, as it should

        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.mark.parametrize(("group", "key", "certificate", "code"), FOREIGN)
def test_a_server_of_another_kind_is_refused(group: str, key: object, certificate: x509.Certificate, code: str) -> None:
    context = foreign_context(group, key, certificate)

    def speak(sock: socket.socket) -> None:
        sock.setblocking(True)
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        shake_and_read(connection)

    with hostile_server(speak) as address, pytest.raises(QuStreamError) as caught:
        blocking.connect(address, key=HONEST, hello=HELLO, timeout_ms=60_000)
    # A server without our group breaks off by itself, and the alert does not say why.
    assert caught.value.code == ("E-TLS-HANDSHAKE" if code == "E-TLS-GROUP" else code)


@pytest.mark.parametrize("words", [b"", b"\x16\x03\x03", b"\x16\x03\x03\x40\x00" + bytes(100)])
def test_a_server_that_stops_in_the_middle_meets_the_deadline(words: bytes) -> None:
    def speak(sock: socket.socket) -> None:
        sock.sendall(words)
        while sock.recv(4096):
            pass

    with hostile_server(speak) as address, pytest.raises(QuStreamError) as caught:
        blocking.connect(address, key=HONEST, hello=HELLO, timeout_ms=200)
    assert caught.value.code in ("E-DEADLINE", "E-TLS-HANDSHAKE")


# -- another identity -------------------------------------------------------------------------------------------------


def liar() -> SigningKey:
    """Mallory's ML-DSA key in a certificate that carries the honest peer's Ed25519 key."""
    key = SigningKey(b"m" * 32)
    key.public = PublicKey(HONEST.public.ed25519, key.public.mldsa)
    return key


async def test_a_certificate_that_lies_about_the_ed25519_key_is_found_out_by_the_hello() -> None:
    async with house() as made:
        peer = await mallory(made, liar(), expect=None)
        assert await code_told(peer) == "E-SIGNATURE"
        await made.failed("E-SIGNATURE")


async def test_a_client_that_expects_somebody_else_leaves_before_its_hello() -> None:
    async with house() as made:
        with pytest.raises(QuStreamError) as caught:
            await mallory(made, expect=HONEST.id)
        assert caught.value.code == "E-PEER-IDENTITY"
        await made.failed("E-PEER-IDENTITY")


async def test_another_network_is_refused() -> None:
    async with house() as made:
        with pytest.raises(QuStreamError) as caught:
            await establish(open_tcp(made), Engine("client", key=MALLORY, hello=LocalHello("other", ())))
        assert caught.value.code == "E-PEER-CHAIN"
        await made.failed("E-PEER-CHAIN")


# -- frames -----------------------------------------------------------------------------------------------------------

ASK = frames_of(Channel.REQUEST, encode(Request(1, 60_000, b"x")))
BAD_FRAMES = [
    pytest.param(b"\xff\xff\xff\xff\x02", "E-WIRE-OVERSIZE", id="oversized"),
    pytest.param(b"\x00\x01\x00\x00\x82" + bytes(65536) + b"\x00\x00\x00\x01\x02x", "E-WIRE-OVERSIZE", id="a stranger's long request"),
    pytest.param(b"\0\0\0\0\x02", "E-WIRE-MALFORMED", id="zero length"),
    pytest.param(b"\0\0\0\1\x7fx", "E-WIRE-MALFORMED", id="unknown channel"),
    pytest.param(b"\0\0\0\7\x82" + bytes(7), "E-WIRE-MALFORMED", id="cut elsewhere"),
    pytest.param(frames_of(Channel.REQUEST, b"\x94\x0a\xcc\x01\x64\xc4\x00"), "E-WIRE-NONCANONICAL", id="non-canonical"),
    pytest.param(frames_of(Channel.REQUEST, b"\xdd\xff\xff\xff\xff"), "E-WIRE-MALFORMED", id="endless array"),
    pytest.param(frames_of(Channel.REQUEST, b"\x91" * 60_000), "E-WIRE-MALFORMED", id="deep"),
    pytest.param(frames_of(Channel.REQUEST, encode(Response(1, b""))), "E-FRAME-ORDER", id="answer first"),
    pytest.param(frames_of(Channel.CONTROL, encode(Hello(1, 1, "test", (), (), 0, bytes(64)))), "E-FRAME-ORDER", id="second hello"),
    pytest.param(frames_of(Channel.CONSENSUS, b"vote"), "E-PEER-UNLICENSED", id="consensus"),
    pytest.param(frames_of(Channel.GOSSIP, b"news"), "E-PEER-UNLICENSED", id="gossip"),
    pytest.param(frames_of(Channel.BULK, b"block"), "E-PEER-UNLICENSED", id="bulk"),
]


@pytest.mark.parametrize(("frames", "code"), BAD_FRAMES)
async def test_a_bad_frame_gets_its_code(frames: bytes, code: str) -> None:
    async with house() as made:
        peer = await mallory(made)
        await say(peer, frames)
        assert await code_told(peer) == code
        await made.closed(code)


async def test_a_truncated_frame_is_only_a_lost_connection() -> None:
    async with house() as made:
        peer = await mallory(made)
        await say(peer, ASK[:-1])
        peer._link._socket.shutdown(socket.SHUT_WR)
        assert await code_told(peer) == "E-PEER-CLOSED"
        await made.closed("E-PEER-CLOSED")


async def test_noise_under_tls_closes_the_connection() -> None:
    noise = random.Random(7)
    async with house() as made:
        for _ in range(20):
            peer = await mallory(made)
            await say(peer, noise.randbytes(3000))
            assert await code_told(peer) in ("E-WIRE-OVERSIZE", "E-WIRE-MALFORMED", "E-PEER-UNLICENSED")


async def test_requests_as_fast_as_they_fit_are_refused_or_read_slowly() -> None:
    async with house() as made:
        peer = await mallory(made)
        flood = b"".join(frames_of(Channel.REQUEST, encode(Request(number, 60_000, b"x"))) for number in range(3000))
        with trio.move_on_after(1.0):
            await say(peer, flood)
            while True:
                await peer._link.read()
        peer._link.close()
        await made.until(lambda: made.stats.open == 1)


# -- somebody in the middle -------------------------------------------------------------------------------------------

Mangle = Callable[[list[bytes]], list[bytes]]
MANGLES: list[tuple[str, Mangle]] = [
    ("replayed", lambda records: [records[0], *records]),
    ("reordered", lambda records: records[::-1]),
    ("dropped", lambda records: records[1:]),
    ("flipped", lambda records: [records[0][:-1] + bytes([records[0][-1] ^ 1]), *records[1:]]),
    ("injected", lambda records: [b"\x17\x03\x03\x00\x20" + bytes(32), *records]),
]


def cut_records(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[:size])
        data = data[size:]
    return found


@pytest.mark.parametrize("mangle", [pytest.param(mangle, id=name) for name, mangle in MANGLES])
async def test_altered_records_are_refused(mangle: Mangle) -> None:
    """Somebody on the path cannot replay, reorder, drop, change or inject anything."""
    async with house() as made:
        peer = await mallory(made)
        records = []
        for number in (1, 2):
            peer._engine._layer.write(frames_of(Channel.REQUEST, encode(Request(number, 60_000, b"x"))))
            records += cut_records(peer._engine.data_to_send())
        assert len(records) == 2
        await send_all(peer, b"".join(mangle(records)))
        await made.closed("E-TLS-RECORD")
        await peer.aclose()


async def send_all(peer: Connection, data: bytes) -> None:
    """Put bytes on the wire below TLS."""
    peer._link._out = [data]
    await peer._link.flush()
