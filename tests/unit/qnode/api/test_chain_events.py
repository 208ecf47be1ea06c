"""Blocks as they are executed, from any height on, to readers who come, go, sleep, and come in crowds."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from support.chain_pages import Site, shown
from support.stored_chain import StoredChain

from qnode.api.chain_events import BEAT_S
from qustream.aio.http import Limits
from qustream.errors import fault


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[StoredChain]:
    made = StoredChain(tmp_path / "chain")
    yield made
    made.store.close()


class Reader:
    """Reads a stream of events."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""
        self.comments = 0

    async def read(self) -> bytes:
        """One line of what the server sent, without the frames of chunks."""
        while b"\n\n" not in self._data:
            with trio.fail_after(1000):
                more = await self._stream.receive_some(1 << 16)
            if not more:
                raise EOFError
            # Chunks end in CR LF, and nothing in the stream itself does.
            self._data += b"".join(part for part in more.split(b"\r\n") if not _is_frame(part))
        event, _, self._data = self._data.partition(b"\n\n")
        return event

    async def block(self) -> tuple[str, dict[str, Any]]:
        """The next block: its event id and the page."""
        while True:
            event = await self.read()
            if not event.startswith(b"id: "):
                self.comments += 1
                continue
            fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
            assert fields["event"] == "block"
            return fields["id"], json.loads(fields["data"])


def _is_frame(part: bytes) -> bool:
    return not part or (len(part) < 8 and all(c in b"0123456789abcdef" for c in part))


@contextlib.asynccontextmanager
async def following(site: Site, query: str = "", last: str = "") -> AsyncIterator[Reader]:
    header = f"Last-Event-ID: {last}\r\n" if last else ""
    stream = await site.connect()
    async with stream:
        await stream.send_all(f"GET /v1/chain/events{query} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            with trio.fail_after(20):
                head += await stream.receive_some(1)
        assert b" 200 " in head
        assert b"text/event-stream" in head
        yield Reader(stream)


async def test_blocks_come_as_they_are_executed(chain: StoredChain) -> None:
    chain.block()
    async with shown(chain) as site, following(site) as reader:
        assert await reader.read() == b"retry: 1000"
        site.block(chain.transfer(0, 1, 5))
        name, page = await reader.block()
        assert (name, page["height"], page["count"]) == ("2", 2, 1)
        assert page["receipts"][0]["events"][0]["name"] == "transferred"
        assert page == (await site.get("blocks/2"))[1]


@pytest.mark.parametrize(("query", "last", "first"), [("?after=0", "", 1), ("?after=2", "", 3), ("", "3", 4), ("?after=0", "2", 3)])
async def test_whoever_was_cut_off_goes_on_where_he_was(chain: StoredChain, query: str, last: str, first: int) -> None:
    for _ in range(4):
        chain.block()
    async with shown(chain) as site, following(site, query, last) as reader:
        heights = [(await reader.block())[1]["height"] for _ in range(first, 5)]
        site.block()
        heights.append((await reader.block())[1]["height"])
    assert heights == list(range(first, 6))


async def test_who_is_ahead_of_us_hears_nothing_until_we_are_there(chain: StoredChain) -> None:
    async with shown(chain) as site, following(site, "?after=2") as reader:
        for _ in range(3):
            site.block()
        assert (await reader.block())[0] == "3"


async def test_a_store_without_a_state_ends_the_stream_and_nothing_else(chain: StoredChain, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_self: object) -> None:
        raise fault("E-NOT-HELD", "a snapshot of the state is being taken in")

    chain.block()
    async with shown(chain) as site:
        with monkeypatch.context() as patched:
            patched.setattr(type(chain.store), "state", gone)
            async with following(site, "?after=0") as reader:
                assert [await reader.read() for _ in range(2)] == [b"retry: 1000", b": E-NOT-HELD"]
                with pytest.raises(EOFError):
                    await reader.read()
            assert (await site.get("status"))[0] == 503
        assert (await site.get("status"))[0] == 200


async def test_a_silent_chain_is_heard_to_be_alive(chain: StoredChain, autojump_clock: trio.testing.MockClock) -> None:
    # By a clock that jumps to the next deadline whenever all wait: where there is none, it would stand for ever.
    with trio.fail_after(10 * BEAT_S):
        async with shown(chain) as site, following(site) as reader:
            assert await reader.read() == b"retry: 1000"
            assert await reader.read() == b": nothing new"
            assert trio.current_time() == pytest.approx(BEAT_S)


async def test_readers_who_sleep_are_cut_off_and_others_go_on(chain: StoredChain, mock_clock: trio.testing.MockClock) -> None:
    """What was sent and not read is bounded by what two sockets hold."""
    for _ in range(3):
        chain.block(*(chain.transfer(number, (number + 1) % 6, 1) for number in range(6)))
    limits = Limits(streams=4, streams_per_address=4, stream_buffer_bytes=4096)
    async with shown(chain, limits=limits) as site, following(site, "?after=0") as awake, await site.connect() as sleepy:
        sleepy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await sleepy.send_all(b"GET /v1/chain/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(40):
            site.block(*(chain.transfer(number, (number + 1) % 6, 1) for number in range(6)))
        assert [(await awake.block())[0] for _ in range(43)] == [str(number) for number in range(1, 44)]
        mock_clock.jump(limits.send_timeout_s + 1)  # time stands still but for this
        data = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while more := await sleepy.receive_some(1 << 16):
                data += more
        assert b"id: 1\n" in data
        assert b"id: 43\n" not in data
        site.block()
        assert (await awake.block())[0] == "44"


async def test_a_crowd_of_a_thousand(chain: StoredChain) -> None:
    chain.block()
    statuses: dict[bytes, int] = {}
    kept = []
    async with shown(chain, limits=Limits(streams=50, streams_per_address=50)) as site:
        for _ in range(1000):
            stream = await site.connect()
            await stream.send_all(b"GET /v1/chain/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.fail_after(20):
                status = (await stream.receive_some(200))[9:12]
            statuses[status] = statuses.get(status, 0) + 1
            if status == b"200":
                kept.append(stream)
            else:
                await stream.aclose()
        assert statuses == {b"200": 50, b"503": 950}
        assert (await site.get("status"))[0] == 200
        for stream in kept:
            await stream.aclose()
