"""One HTTP request and its answer, over trio and h11: whole or a coded failure within its deadline, whatever the other side does.

Not the standard library's client: its timeout is one of each read, so a server that sends a byte now and then holds it for ever, and it
follows redirects with the token in its hand. Here the deadline is one for name, connection, handshake, request and answer together, every
answer is bounded, a redirect is an answer like another, no proxy is taken from the environment, and a page or receiver that hangs costs a
task and no thread.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from qrngd.alerts.picture import printable
from qustream.errors import fault

__all__ = ["Target", "exchange", "parse_target"]

_READ_BYTES = 65_536  # one read of a socket
HEAD_MAX_BYTES = 16_384  # status line and headers of an answer
HOST_MAX_CHARS = 253  # of a name, RFC 1035 §2.3.4; each part of it has at most 63
_HOST = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,62})\.)*[a-z0-9_][a-z0-9_-]{0,62}\.?", re.ASCII)
DETAIL_MAX_CHARS = 200  # of what an error says in a log line


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `path` may hold a secret (chat services do that), so `str` shows the host alone."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.host in ("localhost", "::1") or (self.host.startswith("127.") and self.host.replace(".", "").isdigit())


def parse_target(url: str) -> Target:
    """Raises ValueError, saying what is wrong, if `url` is none that may be asked."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL is printable ASCII without spaces")
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL that begins with http:// or https:// and names a host is needed")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in a URL: a token has its own file or credential")
    if parts.fragment:
        raise ValueError("a URL without # is needed")
    if ":" not in parts.hostname and (len(parts.hostname) > HOST_MAX_CHARS or not _HOST.fullmatch(parts.hostname)):
        raise ValueError("a host is a name of letters, digits and dashes between dots, or an address")
    port = (443 if parts.scheme == "https" else 80) if parts.port is None else parts.port
    if port == 0:
        raise ValueError("nobody listens at port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port, path)


async def exchange(
    target: Target,
    *,
    trust: ssl.SSLContext | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    answer_max_bytes: int,
    deadline_s: float,
) -> tuple[int, bytes]:
    """Status and body of the answer: GET without `body`, POST with it. `trust`: for https, which certificates hold.

    Raises E-PEER-UNREACHABLE, E-DEADLINE, E-PEER-CLOSED for an answer that is none or too long. No error holds path, headers or body.
    """
    try:
        with trio.fail_after(deadline_s):
            stream = await _connect(target, trust)
            try:
                return await _talk(stream, target, headers, body, answer_max_bytes)
            finally:
                await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        raise fault("E-DEADLINE", f"{target}: no whole answer within {deadline_s:g} s") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
        raise fault("E-PEER-CLOSED", f"{target}: {_why(error)}") from None


async def _connect(target: Target, trust: ssl.SSLContext | None) -> trio.abc.Stream:
    try:
        stream = await trio.open_tcp_stream(target.host, target.port)
    except OSError as error:
        raise fault("E-PEER-UNREACHABLE", f"{target}: {_why(error)}") from None
    if target.scheme == "http":
        return stream
    assert trust is not None, "https needs to know whom to trust"
    secured = trio.SSLStream(stream, trust, server_hostname=target.host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if not isinstance(error, trio.BrokenResourceError):
            raise
        raise fault("E-PEER-UNREACHABLE", f"{target}: {_why(error.__cause__ or error)}") from None
    return secured


async def _talk(
    stream: trio.abc.Stream, target: Target, headers: tuple[tuple[str, str], ...], body: bytes | None, answer_max_bytes: int
) -> tuple[int, bytes]:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
    own = [("Host", target.authority), ("User-Agent", "qrngd"), ("Accept", "application/json"), ("Connection", "close")]
    if body is not None:
        own += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    request = h11.Request(method="GET" if body is None else "POST", target=target.path, headers=[*own, *headers])
    out = http.send(request) or b""
    if body is not None:
        out += http.send(h11.Data(body)) or b""
    await stream.send_all(out + (http.send(h11.EndOfMessage()) or b""))
    status, found = 0, bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            found += event.data
            if len(found) > answer_max_bytes:
                raise fault("E-PEER-CLOSED", f"{target}: an answer above {answer_max_bytes} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(found)
        elif isinstance(event, h11.ConnectionClosed):
            raise fault("E-PEER-CLOSED", f"{target}: it closed the connection without an answer")


def _why(error: BaseException) -> str:
    return printable(str(error) or type(error).__name__)[:DETAIL_MAX_CHARS]
