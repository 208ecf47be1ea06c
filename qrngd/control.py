"""What an operator asks of a running server: a Unix socket beside its data, one JSON line in, one JSON line out.

    {"do": "clear", "device": "card1", "reason": "fan replaced"}     →  {"ok": true, "code": "", "detail": "…"}
    {"do": "retest", "device": "card1", "reason": "monthly"}            {"ok": false, "code": "E-DEV-UNKNOWN", "detail": "…"}

The file system decides who may connect (mode 0600), and the kernel says who did: only the server's own user and root are heard. A request
is read within a deadline and a bound, and answered; then the connection ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import trio
from msgspec import Meta, Struct

from qustream.errors import CODES, QuStreamError, fault
from qustream.wire.json_text import decode_json

__all__ = ["ControlAnswer", "ControlRequest", "ask", "serve_control"]

# A request names a device (32 characters) and a reason (200), an answer has a sentence of 256.
REQUEST_MAX_BYTES = 4096
REASON_MAX_CHARS = 200
ANSWER_MAX_BYTES = 4096
# A command on the same machine sends one line.
TIMEOUT_S = 5.0
# Who connects is the operator; more at once is a mistake.
CONNECTIONS_MAX = 8
ACCEPT_PAUSE_S = 0.1
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


class ControlRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked. `reason`: what the operator says about it, for the log."""

    do: Literal["clear", "retest"]
    device: Annotated[str, Meta(max_length=32)]
    reason: Annotated[str, Meta(min_length=3, max_length=REASON_MAX_CHARS)]


class ControlAnswer(Struct, frozen=True):
    """What came of it. `code`: of the error table, '' if it was done."""

    ok: bool
    code: str = ""
    detail: str = ""


Perform = Callable[[ControlRequest, int], str]


async def serve_control(path: Path, perform: Perform, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled. `perform(request, uid)` does what is asked and returns a sentence, or raises a coded error.

    Raises E-ADDRESS-IN-USE, E-CONFIG, E-FILE when there can be no socket at `path`.
    """
    with _bound(path) as sock:
        limit = trio.Semaphore(CONNECTIONS_MAX)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    nursery.start_soon(partial(_serve_one, sock.accept()[0], perform, limit))
                except OSError:  # whoever knocked is gone again, or no descriptor is left for a moment
                    await trio.sleep(ACCEPT_PAUSE_S)


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """The listening socket; its file is there as long as this is open. Only an old socket that nobody listens on is replaced."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        umask = os.umask(0o177)
        try:
            with _short(path) as address:
                _remove_old(path, address)
                sock.bind(address)
        except OSError as error:
            raise fault("E-FILE", f"{path}: {error.strerror or error}") from None
        finally:
            os.umask(umask)
        try:
            sock.listen(CONNECTIONS_MAX)
            sock.setblocking(False)
            yield sock
        finally:
            path.unlink(missing_ok=True)


def _remove_old(path: Path, address: str) -> None:
    """Raises E-ADDRESS-IN-USE, E-CONFIG, OSError."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise fault("E-CONFIG", f"control: {path} is there and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise fault("E-ADDRESS-IN-USE", f"{path}: another program listens there")


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of `path` that a socket address can hold, which has room for 107 characters: by its folder's descriptor."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


async def _serve_one(raw: socket.socket, perform: Perform, limit: trio.Semaphore) -> None:
    raw.setblocking(False)
    uid = _UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1]
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
    with trio.move_on_after(TIMEOUT_S), contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with stream, limit:
            line = await _line(stream)
            answer = _answer(line, uid, perform)
            await stream.send_all(msgspec.json.encode(answer) + b"\n")


async def _line(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    while b"\n" not in data and len(data) <= REQUEST_MAX_BYTES:
        part = await stream.receive_some(REQUEST_MAX_BYTES)
        if not part:
            break
        data += part
    return bytes(data)


def _answer(line: bytes, uid: int, perform: Perform) -> ControlAnswer:
    try:
        if uid not in (0, os.geteuid()):
            raise fault("E-FEED-REFUSED", "this user may not control the server")
        if len(line) > REQUEST_MAX_BYTES:
            raise fault("E-WIRE-OVERSIZE", f"a request above {REQUEST_MAX_BYTES} bytes")
        request = decode_json(line, ControlRequest)
        if not request.reason.isprintable():
            raise fault("E-WIRE-MALFORMED", "a reason that is not one line of text")
        return ControlAnswer(True, detail=perform(request, uid))
    except ValueError as error:
        return ControlAnswer(False, "E-WIRE-MALFORMED", f"not a request: {error}"[:256])
    except QuStreamError as error:
        return ControlAnswer(False, error.code, error.detail[:256])


def ask(path: Path, request: ControlRequest) -> str:
    """Ask the server whose socket is at `path`; the sentence it answers with. Blocking.

    Raises E-PEER-UNREACHABLE when none runs there, the server's own refusal, E-DEADLINE, E-ANSWER-INVALID.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT_S)
        try:
            with _short(path) as address:
                sock.connect(address)
            sock.sendall(msgspec.json.encode(request) + b"\n")
            data = b""
            while not data.endswith(b"\n") and len(data) < ANSWER_MAX_BYTES and (part := sock.recv(ANSWER_MAX_BYTES)):
                data += part
        except TimeoutError:
            raise fault("E-DEADLINE", "the server does not answer on its control socket") from None
        except OSError as error:
            raise fault("E-PEER-UNREACHABLE", f"{path}: {error.strerror or error}") from None
    try:
        answer = decode_json(data, ControlAnswer)
    except ValueError:
        raise fault("E-ANSWER-INVALID", "what answers on the control socket is no qrngd") from None
    if not answer.ok:
        raise fault(answer.code if answer.code in CODES else "E-ANSWER-INVALID", answer.detail)
    return answer.detail
