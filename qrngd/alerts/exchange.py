"""One HTTP request and its answer, over trio and h11: whole or a coded failure within its deadline, whatever the other side does.

Not the standard library's client: its timeout is one of each read, so a server that sends a byte now and then holds it for ever, and it
follows redirects with the token in its hand. Here the deadline is one for name, connection, handshake, request and answer together, every
answer is bounded, a redirect is an answer like another, no proxy is taken from the environment, and a page or receiver that hangs costs a
task and no thread.
"""

from __future__ import annotations

import ssl

import h11
import trio

from qrngd.alerts.picture import printable
from qrngd.target import Target
from qustream.errors import fault

__all__ = ["exchange"]

_READ_BYTES = 65_536  # one read of a socket
HEAD_MAX_BYTES = 16_384  # status line and headers of an answer
DETAIL_MAX_CHARS = 200  # of what an error says in a log line


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
    own = [("Host", target.host_header), ("User-Agent", "qrngd"), ("Accept", "application/json"), ("Connection", "close")]
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
