"""An appliance that says anything: what comes out is exactly the blocks that were asked for, or a coded refusal that quotes nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.appliance import TOKEN, Appliance, Authority, Exchange

from qrngd.appliance.client import ApplianceClient, tls_context
from qrngd.appliance.config import ReaderConfig
from qrngd.appliance.pace import RETRY_AFTER_MAX_S, retry_after_s
from qrngd.appliance.shapes import Request, answer_max_bytes, read_answer
from qrngd.target import parse_target
from qustream.errors import QuStreamError

SHAPE = {"block_bytes": 17, "blocks": 4}
GOOD = [bytes([number]) + bytes(range(16)) for number in range(4)]
TEXTS = [base64.b64encode(block).decode() for block in GOOD]
DOCUMENTS = {"blocks": json.dumps({"entropy": TEXTS, "extensions": []}), "kib": json.dumps({"random": TEXTS, "size": 4})}
CODES = {"E-APPLIANCE-ANSWER", "E-APPLIANCE-UNREACHABLE", "E-APPLIANCE-TOKEN", "E-APPLIANCE-QUOTA"}
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30) | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["entropy", "random", "size", "x"]), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def bent(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` with one to three bytes or stretches changed."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["set", "insert", "delete", "cut", "repeat"]))
        if change == "set" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif change == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        elif change == "delete":
            del data[at : at + draw(st.integers(1, 30))]
        elif change == "cut":
            del data[at:]
        else:
            data[at:at] = data[max(0, at - draw(st.integers(1, 60))) : at]
    return bytes(data)


def refusal_or_value(call: Callable[[], Any]) -> tuple[QuStreamError | None, Any]:
    """Any other exception fails the test."""
    try:
        return None, call()
    except QuStreamError as error:
        return error, None


def check(api: Any, body: bytes) -> None:
    refusal, blocks = refusal_or_value(lambda: read_answer(api, body, **SHAPE))
    if refusal is not None:
        assert refusal.code == "E-APPLIANCE-ANSWER"
        assert len(refusal.detail) < 200
        assert refusal.detail.isprintable()
        assert not any(text in refusal.detail for text in TEXTS)
        return
    assert [len(block) for block in blocks] == [17] * 4
    # Whatever else the answer holds, these very texts stand in it.
    text = body.decode().replace("\\/", "/")
    document = json.loads(text)
    assert document["entropy" if api == "blocks" else "random"] == [base64.b64encode(block).decode() for block in blocks]


@pytest.mark.parametrize("api", DOCUMENTS)
@FUZZ
@given(data=st.data())
def test_answers(api: str, data: st.DataObject) -> None:
    check(api, data.draw(bent(DOCUMENTS[api].encode())))
    check(api, data.draw(st.binary(max_size=100)))
    check(api, json.dumps(data.draw(JSON)).encode())


@pytest.mark.parametrize("api", DOCUMENTS)
def test_the_valid_answer_is_one(api: str) -> None:
    assert read_answer(api, DOCUMENTS[api].encode(), **SHAPE) == GOOD  # type: ignore[arg-type]


@FUZZ
@given(st.one_of(st.text(max_size=60), st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,12} \d\d:\d\d:\d\d( [A-Z+0-9-]{1,6})?")))
@example("Mon, 01 Jan 0000 00:00:00 GMT")
@example("Mon, 01 Jan 9999 23:59:59 -2359")
@example("\x00")
def test_retry_after(text: str) -> None:
    seconds = retry_after_s(text, 1_800_000_000.0)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_MAX_S


@FUZZ
@given(st.one_of(st.text(max_size=60), st.from_regex(r"https://[a-z0-9@:\[\].%_-]{0,20}(/[!-~]{0,10})?(\?[!-~]{0,10})?")))
def test_addresses(text: str) -> None:
    refusal, target = refusal_or_value(lambda: ReaderConfig(url=text, output=Path("fifo")).target)
    if refusal is not None:
        assert refusal.code == "E-CONFIG"
        return
    assert target.host
    assert 0 < target.port <= 65_535
    assert target.path.startswith("/")
    assert not any(char.isspace() for char in target.authority + target.path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Authority]]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    with Appliance(authority.server()).running() as appliance:
        yield appliance, authority


BODY = DOCUMENTS["blocks"].encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 7\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n" + BODY[:32] + b"\r\n%x\r\n" % (len(BODY) - 32) + BODY[32:] + b"\r\n0\r\n\r\n"


@settings(FUZZ, max_examples=60)
@given(data=st.one_of(bent(WHOLE), bent(CHUNKED), st.binary(max_size=200)))
@example(data=WHOLE)
@example(data=CHUNKED)
def test_responses(world: tuple[Appliance, Authority], data: bytes) -> None:
    appliance, authority = world

    def say(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.hang_up()

    appliance.behave = say
    client = ApplianceClient(parse_target(appliance.url), tls_context(authority.file), token=TOKEN.encode)
    request = Request("POST", "/", b"{}")
    refusal, body = refusal_or_value(lambda: client.fetch(request, body_max_bytes=answer_max_bytes(**SHAPE)))
    client.close()
    if refusal is None:
        assert len(body) <= answer_max_bytes(**SHAPE)
        check("blocks", bytes(body))
    else:
        assert data not in (WHOLE, CHUNKED)
        assert refusal.code in CODES
        assert TOKEN not in refusal.detail
