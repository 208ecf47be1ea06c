"""A small read-only HTTP/1.1 server on trio and h11, for metrics and status pages.

It knows GET and HEAD, nothing of whom it serves, and every bound it keeps stands in `Limits`. A client that sends its request slowly
or sends too much is refused or cut off. When every place is taken a newcomer gets the place of the client that has had its own
longest, so that clients who hold connections open and say nothing cannot keep an honest one out. None of it is worth a log line.
Refusals are JSON: `{"error": "..."}`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

import h11
import trio

__all__ = ["Answer", "FileRoute", "Limits", "Route", "serve_http"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    connections: int = 64  # a scraper, a dashboard and some people; one more displaces the oldest
    requests_per_connection: int = 1000  # then the client connects again
    request_timeout_s: float = 10.0  # for a whole request to arrive: a slow-loris gets no more
    send_timeout_s: float = 10.0  # for an answer to be read
    header_bytes: int = 8192  # request line and headers
    body_bytes: int = 4096  # a body is read only to be thrown away
    linger_s: float = 1.0  # for a client to read why it was refused
    linger_bytes: int = 65_536  # what it may still send meanwhile


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route says."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Answer]
# Answers for the part of a path behind its prefix, or None if there is no such page. It may wait: for a thread that reads a file.
FileRoute = Callable[[str], Awaitable[Answer | None]]
_READ_BYTES = 4096  # one read of a socket: requests are small


class _Places:
    """The connections that are open, oldest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._scopes: OrderedDict[int, trio.CancelScope] = OrderedDict()
        self._taken = 0

    def take(self, scope: trio.CancelScope) -> int:
        """Make room if there is none; returns the number of the place."""
        while len(self._scopes) >= self._limits.connections:
            _, oldest = self._scopes.popitem(last=False)
            oldest.cancel()
        self._taken += 1
        self._scopes[self._taken] = scope
        return self._taken

    def leave(self, number: int) -> None:
        self._scopes.pop(number, None)


async def serve_http(
    listeners: list[trio.SocketListener],
    routes: Mapping[str, Route],
    *,
    files: Mapping[str, FileRoute] | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `routes` (path without query → what to answer) and `files` (prefix that ends in a slash → likewise) until cancelled."""
    bounds = limits or Limits()
    site = _Site(routes, files or {})
    await trio.serve_listeners(partial(_serve_client, site, bounds, _Places(bounds)), listeners, task_status=task_status)


async def _serve_client(site: _Site, limits: Limits, places: _Places, stream: trio.SocketStream) -> None:
    scope = trio.CancelScope()
    place = places.take(scope)
    try:
        with scope:
            await _Client(stream, limits, scope).serve(site)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
        pass  # the client left or does not speak HTTP
    finally:
        places.leave(place)
        await trio.aclose_forcefully(stream)


class _Client:
    def __init__(self, stream: trio.SocketStream, limits: Limits, scope: trio.CancelScope) -> None:
        self._stream = stream
        self._limits = limits
        self._scope = scope
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)

    async def serve(self, site: _Site) -> None:
        for _ in range(self._limits.requests_per_connection):
            self._scope.deadline = trio.current_time() + self._limits.request_timeout_s
            try:
                request = await self._request()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint, "not an HTTP request this server understands")
                return
            if request is None:
                return
            self._scope.deadline = trio.current_time() + self._limits.send_timeout_s
            await self._answer(await site.answer(request), head=request.method == b"HEAD")
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> h11.Request | None:
        """The next whole request, or None when the client is done or sends a body larger than allowed."""
        request: h11.Request | None = None
        body_bytes = 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some(_READ_BYTES))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body_bytes += len(event.data)
                if body_bytes > self._limits.body_bytes:
                    await self._refuse(413, "no page here takes a body")
                    return None
            elif isinstance(event, h11.EndOfMessage):
                return request
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

    async def _answer(self, answer: Answer, *, head: bool, close: bool = False) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if answer.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        if close:
            headers.append(("Connection", "close"))
        out = self._http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if not head:
            out += self._http.send(h11.Data(answer.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(out)


@dataclass(frozen=True, slots=True)
class _Site:
    """What is served."""

    routes: Mapping[str, Route]
    files: Mapping[str, FileRoute]

    async def answer(self, request: h11.Request) -> Answer:
        if request.method not in (b"GET", b"HEAD"):
            return _error(405, "this page can only be read")
        path = request.target.split(b"?", 1)[0].decode("ascii", "replace")
        if path in self.routes:
            return self.routes[path]()
        folder, slash, name = path.rpartition("/")
        file = self.files.get(folder + slash)
        found = await file(name) if file is not None else None
        return found or _error(404, "pages here: " + " ".join(sorted([*self.routes, *(f"{prefix}…" for prefix in self.files)])))


def _error(status: int, why: str) -> Answer:
    return Answer(status, json.dumps({"error": why}).encode() + b"\n", "application/json")
