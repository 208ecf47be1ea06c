"""An entropy appliance played by a test, over real HTTPS on loopback: as honest or as hostile as the test wants it."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["TOKEN", "Appliance", "Authority", "Exchange", "honest"]

TOKEN = "eyJ0b2tlbiI6dHJ1ZX0.not-a-real-token_0123456789"


class Authority:
    """A certificate authority of this test; `file` is its certificate."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.file = folder / f"{name}.pem"
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._count = 0
        certificate = self._certificate(
            self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None), [], days=(-1, 9)
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, host: str = "127.0.0.1", *, days: tuple[int, int] = (-1, 9)) -> Path:
        """Key and certificate of a server called `host`, valid from and to so many days from now, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._certificate(subject, key.public_key(), x509.BasicConstraints(ca=False, path_length=None), [name], days=days)
        self._count += 1
        file = self._folder / f"{self.file.stem}-server-{self._count}.pem"
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, kind: x509.BasicConstraints, names: list[x509.GeneralName],
        *, days: tuple[int, int],
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(kind, critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class Exchange:
    """One request, and the connection on which to answer it."""

    appliance: Appliance
    connection: ssl.SSLSocket
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Block size and number of blocks that were asked for."""
        if self.method == "POST":
            wanted = json.loads(self.body)
            return wanted["block_size"], wanted["block_count"]
        return 1024, int(parse_qs(urlsplit(self.target).query)["size"][0])

    def blocks(self) -> list[bytes]:
        """As many new ones as were asked for."""
        size, count = self.shape
        return [os.urandom(size) for _ in range(count)]

    def document(self, blocks: list[bytes]) -> dict[str, Any]:
        """The JSON that holds them."""
        texts = [base64.b64encode(block).decode() for block in blocks]
        return {"entropy": texts, "extensions": []} if self.method == "POST" else {"random": texts, "size": len(texts)}

    def answer(self, body: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
        """A whole response; `headers` by their names with _ for -, over those that belong there."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        self.send(head.encode() + data)

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.connection.sendall(data)

    def hang_up(self) -> None:
        """No further request on this connection."""
        self.keep = False


def honest(exchange: Exchange) -> None:
    """What an appliance should do; what it gave stands in `delivered`."""
    if exchange.headers.get("authorization") != f"Bearer {TOKEN}":
        exchange.answer({"message": "who are you?"}, 401)
        return
    blocks = exchange.blocks()
    exchange.appliance.delivered += b"".join(blocks)
    exchange.answer(exchange.document(blocks))


@dataclass
class Appliance:
    """Listens while `running`. `behave` answers every request; change it at any time."""

    certificate: Path
    behave: Callable[[Exchange], None] = honest
    url: str = ""
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    delivered: bytearray = field(default_factory=bytearray)
    _open: set[socket.socket] = field(default_factory=set)

    @contextmanager
    def running(self, path: str = "/api/v1/get_entropy") -> Iterator[Appliance]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"https://127.0.0.1:{listener.getsockname()[1]}{path}"
            threads: list[threading.Thread] = []
            acceptor = threading.Thread(target=self._accept, args=(listener, context, threads))
            acceptor.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                acceptor.join(60)
                for connection in list(self._open):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                for thread in threads:
                    thread.join(60)
                    assert not thread.is_alive()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext, threads: list[threading.Thread]) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(plain, context))
            thread.start()
            threads.append(thread)

    def _serve(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._open.add(plain)
        try:
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                self._open.add(connection)
                self.connections += 1
                while (exchange := self._request(connection)) is not None:
                    self.requests.append(exchange)
                    self.behave(exchange)
                    if not exchange.keep:
                        return
        except OSError:
            return  # the other side has left, as it should when it is lied to

    def _request(self, connection: ssl.SSLSocket) -> Exchange | None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += (piece := connection.recv(65536))
            if not piece:
                return None
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body += connection.recv(65536)
        method, target, _ = first.split(" ")
        return Exchange(self, connection, method, target, headers, body)
