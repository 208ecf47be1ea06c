"""The status server over real sockets: answers, refusals, bounds, and clients that mean harm."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qustream.aio.http import Answer, Limits, serve_http

ROUTES = {"/a": lambda: Answer(200, b"alpha"), "/down": lambda: Answer(503, b"{}", "application/json")}


async def number(name: str) -> Answer | None:
    await trio.sleep(0)
    return Answer(200, f"page {int(name)}".encode()) if name.isdigit() else None


@asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[trio.testing.open_stream_to_socket_listener]:
    """Yields a function that opens a connection."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        served = await nursery.start(partial(serve_http, listeners, ROUTES, files={"/n/": number}, limits=limits))
        yield partial(trio.testing.open_stream_to_socket_listener, served[0])
        nursery.cancel_scope.cancel()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    with trio.fail_after(60):
        while more := await stream.receive_some(65536):
            data += more
    return data


async def ask(open_stream: object, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers in lower case, body."""
    stream = await open_stream()  # type: ignore[operator]
    async with stream:
        await stream.send_all(request)
        head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}, body


def request(target: str, method: str = "GET", extra: str = "Connection: close\r\n") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


async def test_a_page_is_served_with_its_type_and_never_cached() -> None:
    async with serving() as client:
        status, headers, body = await ask(client, request("/a?x=1"))
    assert (status, body) == (200, b"alpha")
    assert headers["content-length"] == "5"
    assert headers["cache-control"] == "no-store"


async def test_a_page_may_say_that_it_is_not_well() -> None:
    async with serving() as client:
        assert (await ask(client, request("/down")))[0] == 503


async def test_pages_under_a_prefix_are_asked_by_name() -> None:
    async with serving() as client:
        assert await ask(client, request("/n/12?a=/b")) == await ask(client, request("/n/12"))
        status, headers, body = await ask(client, request("/n/12"))
        assert (status, headers["content-length"], body) == (200, "7", b"page 12")
        assert (await ask(client, request("/n/12", "HEAD")))[2] == b""
        assert (await ask(client, request("/n/12", "POST")))[0] == 405
        for none in ("/n/", "/n", "/n/x", "/n/1/2", "/m/12", "/n//12", "//n/12"):
            status, _, body = await ask(client, request(none))
            assert status == 404, none
            assert json.loads(body)["error"] == "pages here: /a /down /n/…"


async def test_head_has_the_headers_and_no_body() -> None:
    async with serving() as client:
        status, headers, body = await ask(client, request("/a", "HEAD"))
    assert (status, headers["content-length"], body) == (200, "5", b"")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/nothing"), 404),
        (request("/a", "POST"), 405),
        (request("/a", "DELETE"), 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (request("/a", extra="X: " + "y" * 20_000 + "\r\n"), 431),
        (request("/a", extra="Content-Length: 5000\r\n") + b"z" * 5000, 413),
        (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(200), 400),
    ],
)
async def test_refusals_are_json_and_say_why(sent: bytes, status: int) -> None:
    async with serving() as client:
        found, headers, body = await ask(client, sent)
    assert (found, headers["content-type"]) == (status, "application/json")
    assert json.loads(body)["error"]
    assert (found == 405) == (headers.get("allow") == "GET, HEAD")


async def test_a_connection_serves_several_requests_sent_at_once() -> None:
    async with serving() as client, await client() as stream:
        await stream.send_all(request("/a", extra="") + request("/nothing", extra="") + request("/a"))
        data = await read_all(stream)
    assert [data.count(b"HTTP/1.1 200"), data.count(b"HTTP/1.1 404")] == [2, 1]


async def test_a_connection_is_not_served_for_ever() -> None:
    async with serving(Limits(requests_per_connection=3)) as client, await client() as stream:
        await stream.send_all(request("/a", extra="") * 5)
        assert (await read_all(stream)).count(b"HTTP/1.1 200") == 3


async def test_a_slow_client_is_cut_off_and_others_are_served_meanwhile(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(Limits(request_timeout_s=10)) as client:
        async with await client() as slow, trio.open_nursery() as nursery:

            async def drip() -> None:
                while True:
                    await slow.send_all(b"x")
                    await trio.sleep(3)

            async def until_cut_off() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await drip()

            nursery.start_soon(until_cut_off)
            await trio.sleep(6)
            started = trio.current_time()
            assert (await ask(client, request("/a")))[0] == 200
            assert trio.current_time() - started < 4
        assert trio.current_time() < 20


async def test_a_newcomer_displaces_the_client_that_holds_its_place_longest() -> None:
    async with serving(Limits(connections=3)) as client:
        idle = [await client() for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(client, request("/a")))[0] == 200
        assert await read_all(idle[0]) == b""
        for stream in idle[1:]:  # whoever came later keeps its place
            await stream.send_all(request("/a"))
            assert b" 200 " in await read_all(stream)
        for stream in idle:
            await stream.aclose()


async def count_until_end(stream: trio.abc.ReceiveStream) -> int:
    count = 0
    with trio.fail_after(60):
        try:
            while got := len(await stream.receive_some(1 << 20)):
                count += got
        except trio.BrokenResourceError:
            pass
    return count


async def test_a_client_that_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    big = {"/big": lambda: Answer(200, bytes(1 << 25))}
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        served = await nursery.start(serve_http, listeners, big)
        async with await trio.testing.open_stream_to_socket_listener(served[0]) as stream:
            await stream.send_all(request("/big"))
            await trio.sleep(60)
            assert await count_until_end(stream) < 1 << 25
        nursery.cancel_scope.cancel()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=600), st.binary(max_size=40).map(lambda b: b"GET /a" + b + b" HTTP/1.1\r\nHost: x\r\n\r\n")))
def test_no_bytes_disturb_the_server(data: bytes) -> None:
    async def run() -> None:
        async with serving() as client:
            stream = await client()
            async with stream:
                await stream.send_all(data)
                await stream.send_eof()  # so nobody waits for the rest of a request
                answer = await read_all(stream)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            assert (await ask(client, request("/a")))[0] == 200

    trio.run(run)
