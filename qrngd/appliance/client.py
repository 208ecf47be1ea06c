"""HTTPS to the appliance: one connection kept open, one request at a time, a bound on every size and on the whole time of an exchange.

h11 over the standard library's ssl, and not http.client: there each read has a time limit of its own, so that a server that sends a byte
a second holds its caller for hours, and how much of a header is read is not ours to say. Here every read of the socket is in this file.

Certificates are verified as usual, against `authority_file` alone if there is one; the host name is checked; TLS 1.2 is the oldest version.
Redirects are not followed, compressed answers neither asked for nor taken, proxies of the environment not used.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import h11
import msgspec

from qrngd.appliance.pace import retry_after_s
from qrngd.appliance.shapes import Request
from qrngd.target import Target
from qustream.errors import fault

__all__ = ["ApplianceClient", "Stopped", "tls_context"]

# TCP, for each address of the name, and then TLS. (The resolver has limits of its own, in resolv.conf, and cannot be interrupted.)
CONNECT_LIMIT_S = 10.0
# From the request's first byte to the answer's last: half a megabyte over a slow line.
EXCHANGE_LIMIT_S = 30.0
# A connection unused for longer is not trusted to be there: servers close after a minute or so, routers forget without a word.
IDLE_LIMIT_S = 30.0
# How often a wait looks whether the process is to end.
LOOK_INTERVAL_S = 0.5
# All headers of an answer; the usual ones have 500 bytes.
HEADERS_MAX_BYTES = 16_384
READ_BYTES = 65_536  # one read of the socket
STATUS_OK = 200
_AGENT = b"qustream-qrngd-reader"


class Stopped(Exception):
    """The process is to end; nothing is wrong."""


class Answer(msgspec.Struct, frozen=True):
    """The head of a response. Header names in small letters; of several with one name the first."""

    status: int
    headers: dict[bytes, bytes]


class _ClosedEarly(Exception):
    """The connection ended; `unused`: before any byte of an answer."""

    def __init__(self, *, unused: bool) -> None:
        super().__init__()
        self.unused = unused


def tls_context(authority_file: Path | None) -> ssl.SSLContext:
    """Raises E-APPLIANCE-TLS if the file holds no certificates."""
    try:
        context = ssl.create_default_context(cafile=str(authority_file) if authority_file else None)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = getattr(error, "strerror", None) or "no certificates in it"
        raise fault("E-APPLIANCE-TLS", f"authority_file {authority_file}: {why}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class ApplianceClient:
    """One appliance. Not for two threads at once."""

    def __init__(
        self, target: Target, context: ssl.SSLContext, *, token: Callable[[], bytes], stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """`token`: read anew for every connection. `stopping`: asked while waiting; when it says so, `Stopped` is raised."""
        self.connections = 0
        self._target, self._context, self._token, self._stopping = target, context, token, stopping
        self._socket: ssl.SSLSocket | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._authorization = b""
        self._used_s = 0.0
        self._closed = False  # whether the appliance has ended the connection

    def fetch(self, request: Request, *, body_max_bytes: int) -> bytearray:
        """The JSON body of a good answer; the caller wipes it.

        Raises E-APPLIANCE-UNREACHABLE, E-APPLIANCE-TLS, E-APPLIANCE-TOKEN, E-APPLIANCE-QUOTA, E-APPLIANCE-ANSWER, with `retry_after_ms`
        if the appliance said when to come back; `Stopped`. After an error the connection is closed.
        """
        if time.monotonic() - self._used_s > IDLE_LIMIT_S:
            self.close()
        reused = self._socket is not None
        try:
            try:
                return self._exchange(request, body_max_bytes)
            except _ClosedEarly as closed:
                if not (reused and closed.unused):
                    raise
            # A kept connection may have been closed while nobody looked; that is no failure of the appliance.
            self.close()
            return self._exchange(request, body_max_bytes)
        except _ClosedEarly:
            self.close()
            raise fault("E-APPLIANCE-UNREACHABLE", "the connection was closed before the answer was complete") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._authorization = b""

    # -- one exchange

    def _exchange(self, request: Request, body_max_bytes: int) -> bytearray:
        if self._socket is None:
            self._connect()
        ends_s = time.monotonic() + EXCHANGE_LIMIT_S
        self._send(request, ends_s)
        answer = self._head(ends_s)
        _judge(answer)
        body = self._body(ends_s, body_max_bytes)
        if self._http.trailing_data[0]:
            raise fault("E-APPLIANCE-ANSWER", "bytes after the end of the answer")
        self._used_s = time.monotonic()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        return body

    def _connect(self) -> None:
        token = self._token()  # first: without one there is nothing to connect for
        where = f"{self._target.host} port {self._target.port}"
        try:
            plain = socket.create_connection((self._target.host, self._target.port), timeout=CONNECT_LIMIT_S)
        except (OSError, UnicodeError) as error:  # a name that is no name is a UnicodeError
            why = getattr(error, "strerror", None) or str(error)
            raise fault("E-APPLIANCE-UNREACHABLE", f"{where}: {why}") from None
        try:
            self._socket = self._context.wrap_socket(plain, server_hostname=self._target.host)
        except TimeoutError:
            raise fault("E-APPLIANCE-UNREACHABLE", f"{where}: no TLS handshake within {CONNECT_LIMIT_S:.0f} s") from None
        except ssl.SSLCertVerificationError as error:
            raise fault("E-APPLIANCE-TLS", f"{where}: {error.verify_message.rstrip('.')}") from None
        except ssl.SSLError as error:
            raise fault("E-APPLIANCE-TLS", f"{where}: {error.reason or 'the handshake failed'}") from None
        except OSError as error:
            raise fault("E-APPLIANCE-UNREACHABLE", f"{where}: {error.strerror or 'closed in the handshake'}") from None
        finally:
            if self._socket is None:
                plain.close()
        self.connections += 1
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADERS_MAX_BYTES)
        self._authorization = b"Bearer " + token

    def _send(self, request: Request, ends_s: float) -> None:
        headers = [
            (b"Host", self._target.host_header.encode()),
            (b"User-Agent", _AGENT),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"Authorization", self._authorization),
        ]
        if request.body:
            headers += [(b"Content-Type", b"application/json"), (b"Content-Length", str(len(request.body)).encode())]
        data = self._http.send(h11.Request(method=request.method, target=request.target, headers=headers)) or b""
        if request.body:
            data += self._http.send(h11.Data(data=request.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        assert self._socket is not None
        try:
            self._socket.settimeout(max(0.1, ends_s - time.monotonic()))
            self._socket.sendall(data)
        except TimeoutError:
            raise fault("E-APPLIANCE-UNREACHABLE", "it does not take the request") from None
        except OSError:
            raise _ClosedEarly(unused=True) from None

    def _head(self, ends_s: float) -> Answer:
        size = 0
        first = True
        while True:
            event = self._event()
            if event is h11.NEED_DATA:
                size += self._receive(ends_s, unused=first)
                first = False
            elif isinstance(event, h11.Response):
                headers: dict[bytes, bytes] = {}
                for name, value in event.headers:
                    headers.setdefault(bytes(name), bytes(value))
                return Answer(event.status_code, headers)
            elif not isinstance(event, h11.InformationalResponse):
                raise fault("E-APPLIANCE-ANSWER", "it does not answer in HTTP/1.1")
            # Before the body at most one read more than the headers may have: not a thousand times "100 Continue".
            if size > HEADERS_MAX_BYTES + READ_BYTES:
                raise fault("E-APPLIANCE-ANSWER", f"more than {HEADERS_MAX_BYTES} bytes of headers")

    def _body(self, ends_s: float, max_bytes: int) -> bytearray:
        body = bytearray()
        while True:
            event = self._event()
            if event is h11.NEED_DATA:
                self._receive(ends_s, unused=False)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > max_bytes:
                    body[:] = bytes(len(body))
                    raise fault("E-APPLIANCE-ANSWER", f"a body of more than {max_bytes} bytes, the most that what was asked for can take")
            else:
                return body

    def _event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError:
            if self._closed:
                raise _ClosedEarly(unused=False) from None
            raise fault("E-APPLIANCE-ANSWER", "it does not answer in well-formed HTTP/1.1 with headers of reasonable size") from None

    def _receive(self, ends_s: float, *, unused: bool) -> int:
        """One read of the socket into h11; the bytes read."""
        assert self._socket is not None
        self._closed = False
        while True:
            if self._stopping():
                raise Stopped
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                raise fault("E-APPLIANCE-UNREACHABLE", f"no complete answer within {EXCHANGE_LIMIT_S:.0f} s")
            self._socket.settimeout(min(left_s, LOOK_INTERVAL_S))
            try:
                data = self._socket.recv(READ_BYTES)
                break
            except TimeoutError:
                continue
            except ssl.SSLError as error:
                raise fault("E-APPLIANCE-TLS", f"{error.reason or 'the connection failed'} while reading the answer") from None
            except OSError:
                data = b""
                break
        if not data and unused:
            raise _ClosedEarly(unused=True)
        self._closed = not data
        self._http.receive_data(data)
        return len(data)


def _judge(answer: Answer) -> None:
    """Raise unless this is the head of an answer that may hold entropy."""
    status = answer.status
    retry = retry_after_s(answer.headers.get(b"retry-after", b"").decode("latin-1"), time.time())
    retry_ms = retry * 1000 if retry else None
    if status in (401, 403):
        raise fault("E-APPLIANCE-TOKEN", f"it answers {status}", retry_after_ms=retry_ms)
    if status == 429:
        raise fault("E-APPLIANCE-QUOTA", "it answers 429, too many requests or bytes for this token", retry_after_ms=retry_ms)
    if status == 408 or status >= 500:
        raise fault("E-APPLIANCE-UNREACHABLE", f"it answers {status}", retry_after_ms=retry_ms)
    if 300 <= status < 400:
        raise fault("E-APPLIANCE-ANSWER", f"it answers {status}, a redirect, and the token goes nowhere but to the configured address")
    if status != STATUS_OK:
        raise fault("E-APPLIANCE-ANSWER", f"it answers {status}", retry_after_ms=retry_ms)
    if answer.headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise fault("E-APPLIANCE-ANSWER", "a compressed body, which was not asked for")
    kind = answer.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise fault("E-APPLIANCE-ANSWER", "200 with a body that is not application/json: text is not entropy")
