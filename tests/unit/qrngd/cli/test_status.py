"""`qrngd status` where something else than a QRNG server answers, or nobody."""

from __future__ import annotations

from pathlib import Path

import click.testing
import pytest
from support.pages import garbled, pages

from qrngd.cli import cli
from qustream.errors import QuStreamError


def qrngd(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, arguments)


def refusal(*arguments: str) -> str:
    error = qrngd(*arguments).exception
    assert isinstance(error, QuStreamError)
    return error.code


@pytest.mark.parametrize(("code", "body"), [(200, b""), (200, b"[]"), (200, b'{"ready": true}'), (200, b"\xff\xfe"), (404, b"{}")])
def test_what_is_not_a_qrng_server_is_called_so(code: int, body: bytes) -> None:
    with pages({"/v1/status": (code, body)}) as address:
        assert refusal("status", "--url", address) == "E-PEER-VERSION"


def test_something_that_speaks_no_http() -> None:
    with garbled(b"SSH-2.0-OpenSSH_9.2\r\n") as address:
        assert refusal("status", "--url", address) == "E-PEER-UNREACHABLE"


def test_addresses_that_are_none(tmp_path: Path) -> None:
    assert refusal("status", "--url", "127.0.0.1:none") == "E-PEER-UNREACHABLE"
    assert qrngd("status", "--url", "ftp://127.0.0.1:1").exit_code == 2
    assert refusal("status", "--config", str(tmp_path / "none.toml")) == "E-FILE"


def test_who_may_not_read_the_configuration_is_told_of_the_page(tmp_path: Path) -> None:
    error = qrngd("status", "--config", str(tmp_path / "none.toml")).exception
    assert isinstance(error, QuStreamError)
    assert error.detail.endswith("none.toml: No such file or directory; without it: --url http://127.0.0.1:7390")
    file = tmp_path / "bad.toml"
    file.write_text("chain = 7")
    error = qrngd("status", "--config", str(file)).exception
    assert isinstance(error, QuStreamError)
    assert (error.code, "--url" in error.detail) == ("E-CONFIG", False)
