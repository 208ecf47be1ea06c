"""One request and its answer, with servers that are kind and servers that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.appliance import Authority
from support.receiver import Receiver

from qrngd.alerts.exchange import exchange
from qrngd.alerts.trust import trust_of
from qrngd.target import parse_target
from qustream.errors import QuStreamError

LIMIT = 100_000


async def ask(url: str, body: bytes | None = None, authority_file: Path | None = None, deadline_s: float = 10.0) -> tuple[int, bytes]:
    target = parse_target(url)
    return await exchange(
        target,
        trust=trust_of(target, authority_file),
        body=body,
        answer_max_bytes=LIMIT,
        deadline_s=deadline_s,
        headers=(("X-Mine", "yes"),),
    )


async def test_a_request_arrives_and_its_answer_comes_back() -> None:
    with Receiver().serving() as receiver:
        assert await ask(f"{receiver.address}/path?query=1", b"[1]") == (200, b"{}")
        assert await ask(receiver.address) == (200, b"{}")
    [post, get] = receiver.posted
    assert (post.path, post.body, post.headers["X-Mine"], post.headers["Content-Type"]) == (
        "/path?query=1", b"[1]", "yes", "application/json",
    )  # fmt: skip
    assert (get.path, get.body) == ("/", b"")


@pytest.mark.parametrize("mode", ["500", "404", "401", "redirect"])
async def test_a_refusal_and_a_redirect_are_answers_like_others(mode: str) -> None:
    with Receiver(mode).serving() as receiver:
        status, _ = await ask(receiver.address, b"{}")
    assert status == (302 if mode == "redirect" else int(mode))
    assert len(receiver.posted) == 1


@pytest.mark.parametrize(
    ("mode", "code"),
    [("hang", "E-DEADLINE"), ("drip", "E-DEADLINE"), ("close", "E-PEER-CLOSED"), ("huge", "E-PEER-CLOSED"), ("garbage", "E-PEER-CLOSED")],
)
async def test_no_whole_answer_is_one_coded_error_within_the_deadline(mode: str, code: str) -> None:
    with Receiver(mode).serving() as receiver, pytest.raises(QuStreamError) as failed:
        await ask(f"{receiver.address}/secret-path", b"secret body", deadline_s=1.0 if code == "E-DEADLINE" else 10.0)
    assert failed.value.code == code
    assert "secret" not in str(failed.value)


async def test_nobody_there() -> None:
    with Receiver().serving() as receiver:
        address = receiver.address
    with pytest.raises(QuStreamError, match="E-PEER-UNREACHABLE"):
        await ask(address)


async def test_certificates_are_checked(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    with Receiver().serving(authority.server()) as receiver:
        assert await ask(receiver.address, b"{}", authority.file) == (200, b"{}")
        for wrong in (other.file, None):
            with pytest.raises(QuStreamError, match=r"E-PEER-UNREACHABLE.*certificate"):
                await ask(receiver.address, b"{}", wrong)
    for certificate in (authority.server("example.org"), authority.server(days=(-9, -1))):
        with Receiver().serving(certificate) as receiver:
            with pytest.raises(QuStreamError, match=r"E-PEER-UNREACHABLE.*(mismatch|not valid|expired)"):
                await ask(receiver.address, b"{}", authority.file)
            assert receiver.posted == []


async def test_a_handshake_that_hangs_is_given_up() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def silent(stream: trio.SocketStream) -> None:
            async for _ in stream:
                pass

        await nursery.start(trio.serve_listeners, silent, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(QuStreamError, match="E-DEADLINE"):
            await ask(f"https://127.0.0.1:{port}", deadline_s=0.5)
        nursery.cancel_scope.cancel()
