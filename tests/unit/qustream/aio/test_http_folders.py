"""Folders of the HTTP server: bodies that are posted, paths below a prefix, streams, and clients that mean harm."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from qustream.aio.http import Answer, Asked, Folder, Limits, Stream, serve_http

POST_BYTES = 9000  # more than one read, and more than is thrown away of a body nobody wants
EVENT = b"data: " + b"x" * 60_000 + b"\n\n"


async def beat(send: Callable[[bytes], Awaitable[None]]) -> None:
    for number in range(3):
        await send(f"id: {number}\n\n".encode())


async def flood(send: Callable[[bytes], Awaitable[None]]) -> None:
    while True:
        await send(EVENT)


WORDS: dict[str, trio.Event] = {}


async def quiet(send: Callable[[bytes], Awaitable[None]]) -> None:
    await send(b": here\n\n")
    await WORDS.setdefault("said", trio.Event()).wait()
    await send(b": still here\n\n")


async def below(asked: Asked) -> Answer | Stream | None:
    await trio.lowlevel.checkpoint()
    streams = {"beat": beat, "flood": flood, "quiet": quiet}
    if asked.path in streams:
        return Stream(streams[asked.path])
    if asked.path == "busy":
        return Answer(429, b"{}", "application/json", retry_after_s=7)
    if asked.path == "none":
        return None
    shown = [asked.method, asked.path, asked.query, asked.client, len(asked.body), asked.last_event_id]
    return Answer(200, json.dumps(shown).encode(), "application/json")


FOLDERS = {"/v1/x/": Folder(below, {"put": POST_BYTES, "deep/put": 5})}
OpenStream = Callable[[], Awaitable[trio.SocketStream]]


@asynccontextmanager
async def serving(limits: Limits | None = None) -> AsyncIterator[OpenStream]:
    """Yields a function that opens a connection."""
    routes = {"/a": lambda: Answer(200, b"alpha")}
    WORDS.clear()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        served = await nursery.start(partial(serve_http, listeners, routes, folders=FOLDERS, limits=limits))
        yield partial(trio.testing.open_stream_to_socket_listener, served[0])
        nursery.cancel_scope.cancel()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    with trio.fail_after(10):
        while more := await stream.receive_some(65536):
            data += more
    return data


async def ask(client: OpenStream, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    async with await client() as stream:
        await stream.send_all(sent)
        head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}, body


def get(target: str, method: str = "GET", extra: str = "Connection: close\r\n") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


def post(target: str, body: bytes, kind: str = "application/octet-stream", extra: str = "") -> bytes:
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


async def test_everything_below_the_prefix_is_the_folders_and_nothing_else() -> None:
    async with serving() as client:
        for path, expected in (("deep/er/path", "deep/er/path"), ("", ""), ("a%2fb", "a%2fb"), ("../a", "../a")):
            status, headers, body = await ask(client, get(f"/v1/x/{path}?q=1&r=?", extra="Last-Event-ID: 12\r\nConnection: close\r\n"))
            assert (status, json.loads(body)) == (200, ["GET", expected, "q=1&r=?", "127.0.0.1", 0, "12"])
            assert "access-control-allow-origin" not in headers
        assert (await ask(client, get("/a")))[2] == b"alpha"
        for none in ("/v1/x", "/v1/xy/", "/v1/x/none"):
            status, _, body = await ask(client, get(none))
            assert (status, json.loads(body)["error"]) == (404, "pages here: /a /v1/x/…")


async def test_head_of_a_folder_has_no_body() -> None:
    async with serving() as client:
        status, headers, body = await ask(client, get("/v1/x/b", "HEAD"))
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 10
        assert (await ask(client, get("/v1/x/beat", "HEAD")))[2] == b""


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, POST_BYTES])
async def test_a_body_comes_whole(size: int) -> None:
    async with serving() as client:
        status, _, body = await ask(client, post("/v1/x/put", bytes(size)))
    assert (status, json.loads(body)) == (200, ["POST", "put", "", "127.0.0.1", size, ""])


async def test_a_body_in_chunks_comes_whole() -> None:
    head = b"POST /v1/x/put HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
    async with serving() as client:
        status, _, body = await ask(client, head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (status, json.loads(body)[4]) == (200, 5)


async def test_a_client_that_asks_first_whether_it_may_send_is_told_so() -> None:
    head, body = post("/v1/x/put", bytes(50), extra="Expect: 100-continue\r\n").split(b"\r\n\r\n", 1)
    async with serving() as client, await client() as stream:
        await stream.send_all(head + b"\r\n\r\n")
        with trio.fail_after(5):
            assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(body)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post("/v1/x/put", bytes(POST_BYTES + 1)), 413),
        (post("/v1/x/deep/put", bytes(6)), 413),
        (post("/v1/x/other", bytes(5)), 405),
        (post("/v1/x/other", bytes(5000)), 413),
        (post("/a", b""), 405),
        (post("/v1/x/put", b"{}", "application/json"), 415),
        (post("/v1/x/put", b"a=b", "application/x-www-form-urlencoded"), 415),
        (post("/v1/x/put", b"ab", "text/plain"), 415),
        (get("/v1/x/put", "PUT"), 405),
        (get("/v1/x/put", "DELETE"), 405),
        (get("/v1/x/put", "OPTIONS", "Origin: http://elsewhere\r\nConnection: close\r\n"), 405),
        (b"POST /v1/x/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST /v1/x/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
async def test_what_may_not_be_posted_is_refused(sent: bytes, status: int) -> None:
    async with serving() as client:
        found, headers, body = await ask(client, sent)
        assert (found, headers["content-type"], bool(json.loads(body)["error"])) == (status, "application/json", True)
        assert "access-control-allow-methods" not in headers
        assert (await ask(client, get("/a")))[0] == 200


async def test_a_body_that_comes_slowly_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    head, body = post("/v1/x/put", bytes(100)).split(b"\r\n\r\n", 1)
    async with serving(Limits(request_timeout_s=10)) as client, await client() as stream:
        await stream.send_all(head + b"\r\n\r\n")

        async def drip() -> None:
            for at in range(100):
                await stream.send_all(body[at : at + 1])
                await trio.sleep(3)

        with pytest.raises(trio.BrokenResourceError):
            await drip()
        assert trio.current_time() < 20


async def test_an_answer_may_say_when_to_come_back() -> None:
    async with serving() as client:
        status, headers, _ = await ask(client, get("/v1/x/busy"))
    assert (status, headers["retry-after"]) == (429, "7")


async def test_a_stream_comes_in_pieces_and_ends() -> None:
    async with serving() as client:
        status, headers, body = await ask(client, get("/v1/x/beat"))
    assert (status, headers["content-type"], headers["transfer-encoding"]) == (200, "text/event-stream", "chunked")
    assert [body.count(f"id: {number}\n\n".encode()) for number in range(3)] == [1, 1, 1]
    assert body.endswith(b"0\r\n\r\n")


async def started(client: OpenStream, path: str) -> tuple[trio.SocketStream, bytes]:
    """A stream that was asked for, and the first that came of it."""
    stream = await client()
    await stream.send_all(get(f"/v1/x/{path}", extra=""))
    with trio.fail_after(10):
        return stream, await stream.receive_some(1000)


async def test_a_slow_reader_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(Limits(send_timeout_s=10)) as client:
        stream, _ = await started(client, "flood")
        await trio.sleep(60)
        got = 0
        async with stream:
            with trio.fail_after(60):
                try:
                    while more := len(await stream.receive_some(1 << 20)):
                        got += more
                except trio.BrokenResourceError:
                    pass
        assert 0 < got < 1 << 24  # what the two sockets held, and no more
        assert (await ask(client, get("/a")))[0] == 200


async def test_a_stream_is_not_served_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(Limits(stream_s=100)) as client:
        stream, _ = await started(client, "quiet")
        async with stream:
            with trio.fail_after(200):
                while not (await stream.receive_some(1000)).endswith(b"0\r\n\r\n"):
                    pass
        assert trio.current_time() == pytest.approx(100)


async def test_streams_take_no_place_from_others_and_are_bounded() -> None:
    limits = Limits(connections=4, streams=20, streams_per_address=6)
    async with serving(limits) as client:
        answers = [await started(client, "quiet") for _ in range(6)]
        assert all(first.startswith(b"HTTP/1.1 200 ") for _, first in answers)
        status, headers, body = await ask(client, get("/v1/x/quiet"))
        assert (status, headers["retry-after"], json.loads(body)["error"]) == (503, "60", "too many streams are open")
        idle = [await client() for _ in range(8)]  # newcomers displace each other, and no stream
        assert (await ask(client, get("/a")))[0] == 200
        WORDS["said"].set()
        for stream, _ in answers:
            assert (await read_all(stream)).endswith(b": still here\n\n\r\n0\r\n\r\n")
        for stream in (*idle, *(stream for stream, _ in answers)):
            await stream.aclose()


async def test_a_thousand_readers_leave_the_server_as_it_was() -> None:
    limits = Limits(streams=40, streams_per_address=40)
    counts: dict[bytes, int] = {}
    async with serving(limits) as client:
        kept = []
        for _ in range(1000):
            stream, first = await started(client, "quiet")
            status = first[9:12]
            counts[status] = counts.get(status, 0) + 1
            if status == b"200":
                kept.append(stream)
            else:
                await stream.aclose()
        assert counts == {b"200": 40, b"503": 960}
        assert (await ask(client, post("/v1/x/put", b"abc")))[0] == 200
        for stream in kept:
            await stream.aclose()


async def test_the_place_of_a_stream_is_free_again_when_its_reader_has_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(Limits(streams=1)) as client:
        stream, first = await started(client, "flood")
        assert b" 200 " in first
        await stream.aclose()
        answered = b""
        with trio.fail_after(30):
            while not answered.startswith(b"HTTP/1.1 200 "):
                await trio.sleep(1)
                stream, answered = await started(client, "quiet")
                await stream.aclose()
