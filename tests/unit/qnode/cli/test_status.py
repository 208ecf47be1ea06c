"""`qnode status` and `qnode wait` against pages that are right, wrong, late or absent."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import click.testing
import pytest
from support.pages import Pages, pages
from support.snapshots import snapshot

from qnode.api.status import StatusSnapshot
from qnode.cli import cli
from qustream.errors import QuStreamError


def qnode(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, arguments)


def refusal(*arguments: str) -> str:
    error = qnode(*arguments).exception
    assert isinstance(error, QuStreamError)
    return error.code


@pytest.mark.parametrize(("stopped", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_is_the_readiness(stopped: bool, code: int) -> None:
    shown = snapshot(stopped=stopped)
    with pages({"/v1/status": (200, shown.to_json())}) as address:
        text, as_json = qnode("status", "--url", address), qnode("status", "--url", f"http://{address}/", "--json")
    assert (text.exit_code, as_json.exit_code) == (code, code)
    assert ("NOT READY" in text.output) is stopped
    assert StatusSnapshot.from_json(as_json.output.encode()) == shown


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"ready": true}', b"\xff\xfe", b"x" * 3_000_000])
def test_what_is_not_a_node_is_called_so(body: bytes) -> None:
    with pages({"/v1/status": (200, body)}) as address:
        assert refusal("status", "--url", address) == "E-PEER-VERSION"


def test_nobody_there() -> None:
    with pages({}) as address:
        pass
    assert refusal("status", "--url", address) == "E-PEER-UNREACHABLE"
    waited = qnode("wait", "--url", address, "--timeout", "0.2")
    assert (waited.exit_code, "not ready after 0.2 s: no daemon answers" in waited.output) == (1, True)


def test_an_address_that_is_none(tmp_path: Path) -> None:
    assert qnode("status", "--url", "ftp://127.0.0.1:1").exit_code == 2
    assert refusal("status", "--config", str(tmp_path / "none.toml")) == "E-FILE"


def test_waiting_ends_when_the_node_is_ready() -> None:
    reasons = {"reasons": [{"code": "E-ENTROPY-SHORT", "detail": "no attested randomness", "remedy": ""}]}
    shown: Pages = {"/readyz": (503, json.dumps(reasons).encode())}
    with pages(shown) as address:
        late = qnode("wait", "--url", address, "--timeout", "0.2")
        assert (late.exit_code, "E-ENTROPY-SHORT no attested randomness" in late.output) == (1, True)
        timer = threading.Timer(0.3, lambda: shown.update({"/readyz": (200, b"{}")}))
        timer.start()
        assert qnode("wait", "--url", address, "--timeout", "20").exit_code == 0
        timer.join()


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"reasons": 7}', b'{"reasons": [{"code": 1}]}'])
def test_waiting_bears_any_answer(body: bytes) -> None:
    with pages({"/readyz": (503, body)}) as address:
        waited = qnode("wait", "--url", address, "--timeout", "0")
    assert (waited.exit_code, "HTTP 503" in waited.output) == (1, True)
