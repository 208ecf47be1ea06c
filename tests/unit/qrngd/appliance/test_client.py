"""The reader's HTTPS against an appliance on loopback: honest, broken, hostile, and with every kind of wrong certificate."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.appliance import TOKEN, Appliance, Authority, Exchange, honest

from qrngd.appliance import client as client_module
from qrngd.appliance.client import ApplianceClient, Stopped, tls_context
from qrngd.appliance.shapes import answer_max_bytes, read_answer, request_for
from qrngd.target import Target, parse_target
from qustream.errors import QuStreamError

BLOCK, BLOCKS = 64, 16
SHAPE = {"block_bytes": BLOCK, "blocks": BLOCKS}


def client_of(url: str, authority: Authority, *, token: str = TOKEN, stopping: Callable[[], bool] = lambda: False) -> ApplianceClient:
    return ApplianceClient(parse_target(url), tls_context(authority.file), token=token.encode, stopping=stopping)


def fetched(client: ApplianceClient, url: str) -> list[bytes]:
    body = client.fetch(request_for("blocks", parse_target(url).path, **SHAPE), body_max_bytes=answer_max_bytes(**SHAPE))
    return read_answer("blocks", body, **SHAPE)


def refused(client: ApplianceClient, url: str) -> QuStreamError:
    with pytest.raises(QuStreamError) as caught:
        fetched(client, url)
    assert TOKEN not in str(caught.value)
    return caught.value


def test_an_honest_appliance_over_one_connection(appliance: Appliance, authority: Authority) -> None:
    client = client_of(appliance.url, authority)
    got = b"".join(b"".join(fetched(client, appliance.url)) for _ in range(5))
    client.close()
    assert got == bytes(appliance.delivered)
    assert len(got) == 5 * BLOCK * BLOCKS
    assert (client.connections, appliance.connections) == (1, 1)
    [request] = {(each.method, each.target, each.headers["accept"], each.headers["accept-encoding"]) for each in appliance.requests}
    assert request == ("POST", "/api/v1/get_entropy", "application/json", "identity")
    assert appliance.requests[0].headers["host"] == appliance.url.split("/")[2]


def test_the_other_documented_interface(appliance: Appliance, authority: Authority) -> None:
    client = client_of(appliance.url, authority)
    shape = {"block_bytes": 1024, "blocks": 3}
    body = client.fetch(request_for("kib", "/api/v1/quantum-entropy?site=a", **shape), body_max_bytes=answer_max_bytes(**shape))
    client.close()
    assert b"".join(read_answer("kib", body, **shape)) == bytes(appliance.delivered)
    assert (appliance.requests[0].method, appliance.requests[0].target) == ("GET", "/api/v1/quantum-entropy?site=a&size=3")


def test_a_chunked_answer_in_small_pieces(appliance: Appliance, authority: Authority) -> None:
    def chunked(exchange: Exchange) -> None:
        body = b'{"extensions": null, "entropy": ["' + b'", "'.join(base64.b64encode(block) for block in exchange.blocks()) + b'"]}'
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/JSON; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 100):
            piece = body[at : at + 100]
            exchange.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        exchange.send(b"0\r\n\r\n")

    appliance.behave = chunked
    client = client_of(appliance.url, authority)
    for _ in range(2):
        assert len(fetched(client, appliance.url)) == BLOCKS
    client.close()
    assert appliance.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_made_again(appliance: Appliance, authority: Authority) -> None:
    def once(exchange: Exchange) -> None:
        honest(exchange)
        exchange.hang_up()

    appliance.behave = once
    client = client_of(appliance.url, authority)
    for number in range(3):
        assert len(fetched(client, appliance.url)) == BLOCKS
        assert client.connections == number + 1
    client.close()


def test_a_server_that_says_close_is_asked_on_a_new_connection(appliance: Appliance, authority: Authority) -> None:
    appliance.behave = lambda exchange: exchange.answer(exchange.document(exchange.blocks()), Connection="close")
    client = client_of(appliance.url, authority)
    fetched(client, appliance.url)
    fetched(client, appliance.url)
    client.close()
    assert appliance.connections == 2


def test_a_connection_unused_for_long_is_not_used_again(
    appliance: Appliance, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(appliance.url, authority)
    fetched(client, appliance.url)
    monkeypatch.setattr(client_module, "IDLE_LIMIT_S", -1.0)
    fetched(client, appliance.url)
    client.close()
    assert appliance.connections == 2


def text(exchange: Exchange) -> None:
    exchange.answer(b"Randomness is temporarily unavailable, please try again later." * 20, Content_Type="text/plain")


def html(exchange: Exchange) -> None:
    exchange.answer(b"<!doctype html><title>Sign in</title>", Content_Type="text/html; charset=utf-8")


def entropy_that_says_text(exchange: Exchange) -> None:
    exchange.answer(exchange.document(exchange.blocks()), Content_Type="text/plain")


def text_that_says_json(exchange: Exchange) -> None:
    exchange.answer(b"Randomness is temporarily unavailable")


def truncated(exchange: Exchange) -> None:
    good = exchange.document(exchange.blocks())
    exchange.answer(str(good).replace("'", '"').encode()[:-40])


def half(exchange: Exchange) -> None:
    exchange.answer(exchange.document(exchange.blocks()[: BLOCKS // 2]))


def short_blocks(exchange: Exchange) -> None:
    exchange.answer(exchange.document([block[: BLOCK // 2] for block in exchange.blocks()]))


def bad_base64(exchange: Exchange) -> None:
    document = exchange.document(exchange.blocks())
    document["entropy"][3] = "!" + document["entropy"][3][1:]
    exchange.answer(document)


def zeros(exchange: Exchange) -> None:
    exchange.answer(exchange.document([bytes(BLOCK)] * BLOCKS))


def huge(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        exchange.send(b"10000\r\n" + b" " * 65536 + b"\r\n")


def endless_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        exchange.send(b"X-Padding: " + b"x" * 1000 + b"\r\n")


def endless_continue(exchange: Exchange) -> None:
    while True:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def compressed(exchange: Exchange) -> None:
    exchange.answer(exchange.document(exchange.blocks()), Content_Encoding="gzip")


def length_too_short(exchange: Exchange) -> None:
    exchange.answer(exchange.document(exchange.blocks()), Content_Length="100")


def bytes_after_the_end(exchange: Exchange) -> None:
    body = b'{"entropy": ["' + b'", "'.join(base64.b64encode(block) for block in exchange.blocks()) + b'"]}'
    exchange.answer(body + b"HTTP/1.1 200 OK\r\n\r\n", Content_Length=str(len(body)))


def two_lengths(exchange: Exchange) -> None:
    body = b"{}"
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n" + body)


def no_http(exchange: Exchange) -> None:
    exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def redirect(exchange: Exchange) -> None:
    exchange.answer(b"{}", 307, Location=exchange.appliance.url + "/elsewhere")


def no_content(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")


def switching(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")


NOT_ENTROPY = [
    text, html, entropy_that_says_text, text_that_says_json, truncated, half, short_blocks, bad_base64, zeros, huge, endless_headers,
    endless_continue, compressed, length_too_short, bytes_after_the_end, two_lengths, no_http, redirect, no_content, switching,
]  # fmt: skip


@pytest.mark.parametrize("lie", NOT_ENTROPY, ids=lambda lie: lie.__name__)
def test_what_is_not_entropy_is_named_and_costs_the_connection(
    appliance: Appliance, authority: Authority, lie: Callable[[Exchange], None]
) -> None:
    appliance.behave = lie
    client = client_of(appliance.url, authority)
    assert refused(client, appliance.url).code == "E-APPLIANCE-ANSWER"
    appliance.behave = honest
    assert len(fetched(client, appliance.url)) == BLOCKS, "it is asked again and believed again"
    client.close()
    assert not [each for each in appliance.requests if each.target.endswith("elsewhere")], "redirects are not followed"


@pytest.mark.parametrize(
    ("status", "headers", "code", "retry_ms"),
    [
        (429, {}, "E-APPLIANCE-QUOTA", None),
        (429, {"Retry_After": "7"}, "E-APPLIANCE-QUOTA", 7000),
        (503, {"Retry_After": "99999999999999999999"}, "E-APPLIANCE-UNREACHABLE", 3_600_000),
        (503, {"Retry_After": "soon"}, "E-APPLIANCE-UNREACHABLE", None),
        (503, {}, "E-APPLIANCE-UNREACHABLE", None),
        (500, {}, "E-APPLIANCE-UNREACHABLE", None),
        (408, {}, "E-APPLIANCE-UNREACHABLE", None),
        (401, {}, "E-APPLIANCE-TOKEN", None),
        (403, {}, "E-APPLIANCE-TOKEN", None),
        (404, {}, "E-APPLIANCE-ANSWER", None),
        (301, {"Location": "/"}, "E-APPLIANCE-ANSWER", None),
        (206, {}, "E-APPLIANCE-ANSWER", None),
    ],
)
def test_refusals_by_status(
    appliance: Appliance, authority: Authority, status: int, headers: dict[str, str], code: str, retry_ms: int | None
) -> None:
    appliance.behave = lambda exchange: exchange.answer(exchange.document(exchange.blocks()), status, **headers)
    client = client_of(appliance.url, authority)
    error = refused(client, appliance.url)
    client.close()
    assert (error.code, error.retry_after_ms) == (code, retry_ms)
    assert str(status) in error.detail
    assert ("redirect" in error.detail) == (status == 301)


def test_a_wrong_token_is_refused_and_the_next_one_read_anew(appliance: Appliance, authority: Authority) -> None:
    tokens = ["wrong", TOKEN]
    client = ApplianceClient(parse_target(appliance.url), tls_context(authority.file), token=lambda: tokens.pop(0).encode())
    assert refused(client, appliance.url).code == "E-APPLIANCE-TOKEN"
    assert len(fetched(client, appliance.url)) == BLOCKS
    client.close()


def closed_at_once(exchange: Exchange) -> None:
    exchange.hang_up()


def closed_in_the_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    exchange.hang_up()


def closed_in_the_body(exchange: Exchange) -> None:
    exchange.answer(exchange.document(exchange.blocks()[:4]), Content_Length="5000")
    exchange.hang_up()


def closed_in_a_chunk(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n{")
    exchange.hang_up()


@pytest.mark.parametrize("fall", [closed_at_once, closed_in_the_headers, closed_in_the_body, closed_in_a_chunk], ids=lambda f: f.__name__)
def test_a_connection_that_breaks(appliance: Appliance, authority: Authority, fall: Callable[[Exchange], None]) -> None:
    appliance.behave = fall
    client = client_of(appliance.url, authority)
    error = refused(client, appliance.url)
    client.close()
    assert error.code == "E-APPLIANCE-UNREACHABLE"
    assert "closed before" in error.detail


def dripping_head(exchange: Exchange) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: " + b"x" * 10_000:
        exchange.send(bytes([byte]))
        time.sleep(0.02)


def dripping_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        exchange.send(b" ")
        time.sleep(0.02)


def silent(exchange: Exchange) -> None:
    exchange.connection.settimeout(20)
    exchange.connection.recv(1)


@pytest.mark.parametrize("slow", [dripping_head, dripping_body, silent], ids=lambda slow: slow.__name__)
def test_a_slow_answer_has_an_end(
    appliance: Appliance, authority: Authority, slow: Callable[[Exchange], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "EXCHANGE_LIMIT_S", 0.3)
    appliance.behave = slow
    client = client_of(appliance.url, authority)
    error = refused(client, appliance.url)
    client.close()
    assert error.code == "E-APPLIANCE-UNREACHABLE"
    assert "no complete answer within" in error.detail


def test_a_stop_ends_the_waiting(appliance: Appliance, authority: Authority) -> None:
    appliance.behave = silent
    client = client_of(appliance.url, authority, stopping=lambda: bool(appliance.requests))
    with pytest.raises(Stopped):
        fetched(client, appliance.url)


def test_nobody_there(authority: Authority) -> None:
    with Appliance(authority.server()).running() as gone:
        url = gone.url
    assert refused(client_of(url, authority), url).code == "E-APPLIANCE-UNREACHABLE"


def test_a_port_that_takes_a_connection_and_says_nothing(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CONNECT_LIMIT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        error = refused(client_of(url, authority), url)
    assert error.code == "E-APPLIANCE-UNREACHABLE"
    assert "no TLS handshake" in error.detail


def test_a_port_that_speaks_no_tls(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=speak)
        thread.start()
        error = refused(client_of(url, authority), url)
        thread.join(60)
    assert error.code == "E-APPLIANCE-TLS"
    assert "WRONG_VERSION" in error.detail


def test_a_name_that_is_none(authority: Authority) -> None:
    target = Target("https", f"{'a' * 64}.invalid", 443, "/x")  # which no configuration lets through
    client = ApplianceClient(target, tls_context(authority.file), token=TOKEN.encode)
    assert refused(client, "https://a.invalid/x").code == "E-APPLIANCE-UNREACHABLE"


@pytest.mark.parametrize(
    ("host", "days", "word"),
    [
        ("appliance.example", (-1, 9), "mismatch"),
        ("127.0.0.2", (-1, 9), "mismatch"),
        ("127.0.0.1", (-9, -1), "expired"),
        ("127.0.0.1", (1, 9), "not yet valid"),
    ],
)
def test_wrong_certificates(authority: Authority, host: str, days: tuple[int, int], word: str) -> None:
    with Appliance(authority.server(host, days=days)).running() as appliance:
        error = refused(client_of(appliance.url, authority), appliance.url)
        assert not appliance.requests, "the token was not sent"
    assert error.code == "E-APPLIANCE-TLS"
    assert word in error.detail


def test_an_authority_nobody_named(authority: Authority, appliance: Appliance, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    error = refused(client_of(appliance.url, stranger), appliance.url)
    assert error.code == "E-APPLIANCE-TLS"
    system = ApplianceClient(parse_target(appliance.url), tls_context(None), token=TOKEN.encode)
    assert refused(system, appliance.url).code == "E-APPLIANCE-TLS"
    assert not appliance.requests


def test_the_usual_checks_are_on(authority: Authority) -> None:
    context = tls_context(authority.file)
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_of_authorities_that_holds_none(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(QuStreamError, match="authority_file") as caught:
        tls_context(file)
    assert caught.value.code == "E-APPLIANCE-TLS"
