"""The control socket: who is heard, what is understood, and that nonsense costs nothing."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from qrngd.control import REQUEST_MAX_BYTES, ControlRequest, ask, serve_control
from qustream.errors import QuStreamError, fault


class Desk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[tuple[ControlRequest, int]] = []
        self.trouble: QuStreamError | None = None

    def perform(self, request: ControlRequest, uid: int) -> str:
        if self.trouble is not None:
            raise self.trouble
        self.asked.append((request, uid))
        return "done"

    async def says(self, data: bytes, *, end: bool = True) -> dict[str, object]:
        stream = await trio.open_unix_socket(str(self.path))
        async with stream:
            await stream.send_all(data)
            if end:
                await stream.send_eof()
            answer = b"".join([part async for part in stream])
        found: dict[str, object] = json.loads(answer)
        return found


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    made = Desk(folder / "control.sock")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, made.path, made.perform)
        yield made
        nursery.cancel_scope.cancel()


CLEAR = ControlRequest("clear", "card1", "fan replaced")


async def test_what_is_asked_is_done_and_answered(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        assert await trio.to_thread.run_sync(ask, it.path, CLEAR) == "done"
        assert it.asked == [(CLEAR, os.geteuid())]
        assert stat.S_IMODE(it.path.stat().st_mode) == 0o600
    assert not it.path.exists()


async def test_a_refusal_is_the_error_of_the_one_who_asked(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        it.trouble = fault("E-DEV-UNKNOWN", "no device 'card1'")
        with pytest.raises(QuStreamError, match="no device") as caught:
            await trio.to_thread.run_sync(ask, it.path, CLEAR)
        assert caught.value.code == "E-DEV-UNKNOWN"


async def test_a_folder_too_deep_for_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    async with desk(folder) as it:
        assert await trio.to_thread.run_sync(ask, it.path, CLEAR) == "done"


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{}\n",
        b"[" * 4000 + b"\n",
        b'{"do": "stop", "device": "card1", "reason": "abc"}\n',
        b'{"do": "clear", "device": "card1", "reason": "ab"}\n',
        b'{"do": "clear", "device": "card1", "reason": "abc", "more": 1}\n',
        b'{"do": "clear", "device": "card1", "reason": "abc\\u001b[2J"}\n',
        b'{"do": "clear", "device": "card1", "reason": "' + b"x" * 300 + b'"}\n',
        b"\xff\xfe\n",
        b"x" * (REQUEST_MAX_BYTES + 100),
    ],
)
async def test_nonsense_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    async with desk(tmp_path) as it:
        answer = await it.says(data)
        assert answer["ok"] is False
        assert str(answer["code"]).startswith("E-WIRE-")
        assert not it.asked
        assert await trio.to_thread.run_sync(ask, it.path, CLEAR) == "done"


async def test_who_says_nothing_holds_nobody_up(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        silent = [await trio.open_unix_socket(str(it.path)) for _ in range(5)]
        assert await trio.to_thread.run_sync(ask, it.path, CLEAR) == "done"
        for stream in silent:
            await trio.aclose_forcefully(stream)


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    async with desk(tmp_path) as it:
        assert await trio.to_thread.run_sync(ask, it.path, CLEAR) == "done"


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(QuStreamError, match="E-PEER-UNREACHABLE"):
        ask(tmp_path / "control.sock", CLEAR)
    with pytest.raises(QuStreamError, match="E-PEER-UNREACHABLE"):
        ask(tmp_path / "none" / "control.sock", CLEAR)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b'{"ok": true, "detail": "\xff"}\n', b'{"ok": true, "x": ' + b"[" * 4000 + b"\n"])
def test_something_else_there(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        pid = os.fork()
        if not pid:
            other, _ = listening.accept()
            other.recv(65_536)  # or it is gone before it was asked
            other.sendall(said)
            os._exit(0)
        with pytest.raises(QuStreamError, match="E-ANSWER-INVALID"):
            ask(path, CLEAR)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("what", ["file", "folder", "link", "live"])
async def test_only_an_old_socket_is_replaced(tmp_path: Path, what: str) -> None:
    path = tmp_path / "control.sock"
    (tmp_path / "identity").write_text("a key")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if what == "file":
        path.write_text("a key")
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(tmp_path / "identity")
    else:
        listening.bind(str(path))
        listening.listen()
    with listening, pytest.raises(QuStreamError, match="E-ADDRESS-IN-USE" if what == "live" else "E-CONFIG"):
        with trio.fail_after(60):
            await serve_control(path, lambda _request, _uid: "")
    assert os.path.lexists(path)
    assert (tmp_path / "identity").read_text() == "a key"


async def test_the_socket_of_a_server_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as old:
        old.bind(str(tmp_path / "control.sock"))
    async with desk(tmp_path) as it:
        assert await trio.to_thread.run_sync(ask, it.path, CLEAR) == "done"
