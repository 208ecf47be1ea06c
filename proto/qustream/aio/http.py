"""A small read-only HTTP/1.1 server on trio and h11, for metrics and status pages.

It knows GET and HEAD, nothing of whom it serves, and every bound it keeps stands in `Limits`. A client that sends its request
slowly, sends too much, or opens too many connections is cut off; none of it is worth a log line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import h11
import trio

__all__ = ["Answer", "Limits", "Route", "serve_http"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    connections: int = 64  # a scraper, a dashboard and some people; the rest are closed at once
    requests_per_connection: int = 1000  # then the client connects again
    request_timeout_s: float = 10.0  # for a whole request to arrive: a slow-loris gets no more
    send_timeout_s: float = 10.0  # for an answer to be read
    header_bytes: int = 8192  # request line and headers
    body_bytes: int = 4096  # a body is read only to be thrown away


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route says."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Answer]
_READ_BYTES = 4096  # one read of a socket: requests are small


async def serve_http(
    listeners: list[trio.SocketListener],
    routes: Mapping[str, Route],
    *,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `routes` (path without query → what to answer) until cancelled."""
    bounds = limits or Limits()
    places = trio.CapacityLimiter(bounds.connections)
    await trio.serve_listeners(partial(_serve_client, routes, bounds, places), listeners, task_status=task_status)


async def _serve_client(routes: Mapping[str, Route], limits: Limits, places: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    try:
        places.acquire_nowait()
    except trio.WouldBlock:
        await trio.aclose_forcefully(stream)
        return
    try:
        with trio.CancelScope() as scope:
            await _Client(stream, limits, scope).serve(routes)
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
        pass  # the client left or does not speak HTTP
    finally:
        places.release()
        await trio.aclose_forcefully(stream)


class _Client:
    def __init__(self, stream: trio.SocketStream, limits: Limits, scope: trio.CancelScope) -> None:
        self._stream = stream
        self._limits = limits
        self._scope = scope
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)

    async def serve(self, routes: Mapping[str, Route]) -> None:
        for _ in range(self._limits.requests_per_connection):
            self._scope.deadline = trio.current_time() + self._limits.request_timeout_s
            try:
                request = await self._request()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            if request is None:
                return
            self._scope.deadline = trio.current_time() + self._limits.send_timeout_s
            await self._answer(_route(routes, request), head=request.method == b"HEAD")
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
                    await self._refuse(413)
                    return None
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:
                return None

    async def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._answer(Answer(status, b"refused\n"), head=False, close=True)

    async def _answer(self, answer: Answer, *, head: bool, close: bool = False) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if close:
            headers.append(("Connection", "close"))
        out = self._http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if not head:
            out += self._http.send(h11.Data(answer.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(out)


def _route(routes: Mapping[str, Route], request: h11.Request) -> Answer:
    if request.method not in (b"GET", b"HEAD"):
        return Answer(405, b"this page can only be read\n")
    path = request.target.split(b"?", 1)[0].decode("ascii", "replace")
    route = routes.get(path)
    if route is None:
        return Answer(404, ("pages here: " + " ".join(sorted(routes)) + "\n").encode())
    return route()
