"""A small HTTP/1.1 server on trio and h11, for metrics and status pages, and for what a chain is asked.

Pages are read: GET and HEAD. A `Folder` may take bodies by POST, where it says so and up to as many bytes as it says, and may answer
with a `Stream` that goes on. The server knows nothing of whom it serves but an address, and every bound it keeps stands in `Limits`.
A client that sends its request slowly, sends too much, or does not read what it asked for is refused or cut off. When every place is
taken a newcomer gets the place of the client that has had its own longest, so that clients who hold connections open and say nothing
cannot keep an honest one out. Streams have places of their own, and one address has few of them. None of it is worth a log line.
Refusals are JSON: `{"error": "..."}`. No answer lets a page of another origin read it.
"""

from __future__ import annotations

import json
import socket
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import h11
import trio

from qustream.aio.admission import address_key

__all__ = ["BODY_TYPE", "Answer", "Asked", "FileRoute", "Folder", "Limits", "Route", "Stream", "serve_http"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    connections: int = 64  # a scraper, a dashboard and some people; one more displaces the oldest
    requests_per_connection: int = 1000  # then the client connects again
    request_timeout_s: float = 10.0  # for a whole request to arrive: a slow-loris gets no more
    send_timeout_s: float = 10.0  # for an answer, or a piece of a stream, to be read
    header_bytes: int = 8192  # request line and headers
    body_bytes: int = 4096  # of a body nobody asked for: it is read only to be thrown away
    linger_s: float = 1.0  # for a client to read why it was refused
    linger_bytes: int = 65_536  # what it may still send meanwhile
    streams: int = 64  # beside the other connections; one more is refused, so that those who follow are not cut off
    streams_per_address: int = 8  # a dashboard with some tabs
    stream_s: float = 3600.0  # then the client asks again, from where it was
    stream_buffer_bytes: int = 65_536  # what the system may hold of a stream for a slow reader


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route says. `retry_after_s`: when asking again makes sense, 0 if that is not to be said."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a folder is asked. `path`: behind the folder's prefix, `query`: behind the question mark, both as they came; `client`: the
    address the request counts for (an IPv6 /64 is one); `body`: of a POST."""

    method: str
    path: str
    query: str
    client: str
    body: bytes = b""
    last_event_id: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on. `run` is given what sends a piece, and ends when there is nothing more to come; it says something at
    least every so often, for that is how a client that has gone is noticed."""

    run: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]
    content_type: str = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Folder:
    """Everything below a prefix. `answer`: None if there is no such page; it may wait. `posts`: what can be posted to, by path behind
    the prefix, and how many bytes at most. A body has the type `BODY_TYPE`, which no form of another origin can send unasked."""

    answer: Callable[[Asked], Awaitable[Answer | Stream | None]]
    posts: Mapping[str, int] = field(default_factory=dict)


Route = Callable[[], Answer]
# Answers for the part of a path behind its prefix, or None if there is no such page. It may wait: for a thread that reads a file.
FileRoute = Callable[[str], Awaitable[Answer | None]]
BODY_TYPE = "application/octet-stream"
_READ_BYTES = 4096  # one read of a socket: requests are small
_READ_BODY_BYTES = 65_536  # where a body is wanted: a bundle of transactions in one read or two
_JSON = "application/json"


class _Places:
    """The connections that are open, oldest first, and the streams."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scopes: OrderedDict[int, trio.CancelScope] = OrderedDict()
        self._streams: dict[int, str] = {}
        self._taken = 0

    def take(self, scope: trio.CancelScope) -> int:
        """Make room if there is none; returns the number of the place."""
        while len(self._scopes) >= self._limits.connections:
            _, oldest = self._scopes.popitem(last=False)
            oldest.cancel()
        self._taken += 1
        self._scopes[self._taken] = scope
        return self._taken

    def stream(self, number: int, client: str) -> bool:
        """Exchange a place for one of a stream; False if there is none left, for this address or at all."""
        held = Counter(self._streams.values())
        if len(self._streams) >= self._limits.streams or held[client] >= self._limits.streams_per_address:
            return False
        self._scopes.pop(number, None)
        self._streams[number] = client
        return True

    def leave(self, number: int) -> None:
        self._scopes.pop(number, None)
        self._streams.pop(number, None)


async def serve_http(
    listeners: list[trio.SocketListener],
    routes: Mapping[str, Route],
    *,
    files: Mapping[str, FileRoute] | None = None,
    folders: Mapping[str, Folder] | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `routes` (path without query → what to answer), `files` (prefix that ends in a slash → likewise, of one name behind it) and
    `folders` (prefix that ends in a slash → everything below) until cancelled."""
    bounds = limits or Limits()
    site = _Site(routes, files or {}, folders or {})
    await trio.serve_listeners(partial(_serve_client, site, bounds, _Places(bounds)), listeners, task_status=task_status)


async def _serve_client(site: _Site, limits: Limits, places: _Places, stream: trio.SocketStream) -> None:
    scope = trio.CancelScope()
    place = places.take(scope)
    try:
        with scope:
            await _Client(stream, limits, scope, partial(places.stream, place)).serve(site)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
        pass  # the client left or does not speak HTTP
    finally:
        places.leave(place)
        await trio.aclose_forcefully(stream)


class _Client:
    def __init__(
        self, stream: trio.SocketStream, limits: Limits, scope: trio.CancelScope, may_stream: Callable[[str], bool]
    ) -> None:  # fmt: skip
        self._stream = stream
        self._limits = limits
        self._scope = scope
        self._may_stream = may_stream
        self._address = _address(stream)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)

    async def serve(self, site: _Site) -> None:
        for _ in range(self._limits.requests_per_connection):
            self._scope.deadline = trio.current_time() + self._limits.request_timeout_s
            try:
                asked = await self._request(site)
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint, "not an HTTP request this server understands")
                return
            if asked is None:
                return
            request, body = asked
            self._scope.deadline = trio.current_time() + self._limits.send_timeout_s
            answer, head = await site.answer(request, body, self._address), request.method == b"HEAD"
            if isinstance(answer, Stream) and not head and not self._may_stream(self._address):
                answer = _error(503, "too many streams are open", retry_after_s=60)
            if isinstance(answer, Stream):
                await self._go_on(answer, head=head)
                return
            await self._answer(answer, head=head, posts=site.body_bytes(request) is not None)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self, site: _Site) -> tuple[h11.Request, bytes] | None:
        """The next whole request and its body, where one is wanted; None when the client is done or sends a larger body than allowed."""
        request: h11.Request | None = None
        wanted: int | None = None
        body, seen_bytes = bytearray(), 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if wanted is not None and self._http.they_are_waiting_for_100_continue:
                    await self._stream.send_all(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                self._http.receive_data(await self._stream.receive_some(_READ_BYTES if wanted is None else _READ_BODY_BYTES))
            elif isinstance(event, h11.Request):
                request, wanted = event, site.body_bytes(event)
            elif isinstance(event, h11.Data):
                seen_bytes += len(event.data)
                if seen_bytes > (self._limits.body_bytes if wanted is None else wanted):
                    await self._refuse(413, "no page here takes a body" if wanted is None else f"a body here has at most {wanted} bytes")
                    return None
                if wanted is not None:
                    body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return None if request is None else (request, bytes(body))
            else:
                return None

    async def _refuse(self, status: int, why: str) -> None:
        """Answer, and wait a moment for the client to read it: closing on what it still sends would destroy the answer."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        self._scope.deadline = trio.current_time() + self._limits.linger_s
        await self._answer(_error(status, why), head=False, close=True)
        await self._stream.send_eof()
        left = self._limits.linger_bytes
        while left > 0 and (got := len(await self._stream.receive_some(_READ_BYTES))):
            left -= got

    async def _answer(self, answer: Answer, *, head: bool, close: bool = False, posts: bool = False) -> None:
        headers = [*_headers(answer.content_type), ("Content-Length", str(len(answer.body)))]
        if answer.status == 405:
            headers.append(("Allow", "POST" if posts else "GET, HEAD"))
        if answer.retry_after_s:
            headers.append(("Retry-After", str(answer.retry_after_s)))
        if close:
            headers.append(("Connection", "close"))
        out = self._http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if not head:
            out += self._http.send(h11.Data(answer.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(out)

    async def _go_on(self, answer: Stream, *, head: bool) -> None:
        """Send an answer piece by piece. Who does not take one in time is cut off; so is, by the way, who has gone."""
        response = h11.Response(status_code=200, headers=[*_headers(answer.content_type), ("Connection", "close")])
        await self._stream.send_all(self._http.send(response) or b"")
        if head:
            return
        if isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.stream_buffer_bytes)

        is_whole = True

        async def send(piece: bytes) -> None:
            nonlocal is_whole
            self._scope.deadline, is_whole = trio.current_time() + self._limits.send_timeout_s, False
            await self._stream.send_all(self._http.send(h11.Data(piece)) or b"")
            self._scope.deadline, is_whole = float("inf"), True

        self._scope.deadline = float("inf")
        with trio.move_on_after(self._limits.stream_s):
            await answer.run(send)
        if is_whole:  # else its end would follow half a piece
            self._scope.deadline = trio.current_time() + self._limits.send_timeout_s
            await self._stream.send_all(self._http.send(h11.EndOfMessage()) or b"")


@dataclass(frozen=True, slots=True)
class _Site:
    """What is served."""

    routes: Mapping[str, Route]
    files: Mapping[str, FileRoute]
    folders: Mapping[str, Folder] = field(default_factory=dict)

    def body_bytes(self, request: h11.Request) -> int | None:
        """How long the body of this request may be; None if none is wanted."""
        folder, name, _ = self._below(request)
        return folder.posts.get(name) if folder is not None and request.method == b"POST" else None

    async def answer(self, request: h11.Request, body: bytes, client: str) -> Answer | Stream:
        folder, path, query = self._below(request)
        posts = request.method == b"POST" and self.body_bytes(request) is not None
        if request.method not in (b"GET", b"HEAD") and not posts:
            return _error(405, "this page can only be read")
        found: Answer | Stream | None = None
        if folder is not None:
            sent = {name: value for name, value in request.headers if name in (b"content-type", b"last-event-id")}
            if posts and sent.get(b"content-type", b"").lower() != BODY_TYPE.encode():
                return _error(415, f"a body here has the Content-Type {BODY_TYPE}")
            last = sent.get(b"last-event-id", b"").decode("ascii", "replace")
            found = await folder.answer(Asked("POST" if posts else "GET", path, query, client, body, last))
        elif path in self.routes:
            return self.routes[path]()
        else:
            prefix, slash, name = path.rpartition("/")
            file = self.files.get(prefix + slash)
            found = await file(name) if file is not None else None
        shown = sorted([*self.routes, *(f"{prefix}…" for prefix in (*self.files, *self.folders))])
        return found or _error(404, "pages here: " + " ".join(shown))

    def _below(self, request: h11.Request) -> tuple[Folder | None, str, str]:
        """The folder a request goes to, the path behind its prefix (without a folder: all of it), and the query."""
        path, _, query = request.target.decode("ascii", "replace").partition("?")
        for prefix, folder in self.folders.items():
            if path.startswith(prefix):
                return folder, path.removeprefix(prefix), query
        return None, path, query


def _address(stream: object) -> str:
    """What a client counts as; "" where it has no address (a Unix socket)."""
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return ""
    return address_key(str(name[0])) if isinstance(name, tuple) else ""


def _headers(content_type: str) -> list[tuple[str, str]]:
    return [("Content-Type", content_type), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


def _error(status: int, why: str, *, retry_after_s: int = 0) -> Answer:
    return Answer(status, json.dumps({"error": why}).encode() + b"\n", _JSON, retry_after_s)
