"""`qnode peers` against pages that are right, wrong or absent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios

import click.testing
import pytest
from support.pages import pages
from support.snapshots import snapshot

from qnode.api.peers import PeersPage
from qnode.api.peers_text import peers_text
from qnode.cli import cli
from qustream.errors import QuStreamError


def peers(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["peers", *arguments])


def test_the_table_and_the_page() -> None:
    page = snapshot().peers_page()
    with pages({"/v1/peers": (200, page.to_json())}) as address:
        text, as_json = peers("--url", address), peers("--url", f"http://{address}/", "--json")
    assert (text.exit_code, as_json.exit_code) == (0, 0)
    assert text.output == peers_text(page) + "\n"
    assert PeersPage.from_json(as_json.output.encode()) == page


def all_of(terminal: int) -> bytes:
    """What was written to a terminal that nobody has open any more: one read may give a part of it."""
    found = b""
    with contextlib.suppress(OSError):  # how it ends
        while part := os.read(terminal, 1 << 16):
            found += part
    return found


def test_a_narrow_terminal_gets_what_fits() -> None:
    # It would stand before what the terminal says, and a library may have set it where os.environ does not show it.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    page = snapshot().peers_page()
    ours, theirs = os.openpty()
    try:
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
            with pages({"/v1/peers": (200, page.to_json())}) as address:
                command = [sys.executable, "-c", "from qnode.cli import main; main()", "peers", "--url", address]
                subprocess.run(command, stdin=theirs, stdout=theirs, env=environment, check=True, timeout=60)
        finally:
            os.close(theirs)
        text = all_of(ours).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
    assert text == peers_text(page, 60) + "\n"
    assert text != peers_text(page) + "\n"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"error": "not found"}', b"\xff\xfe"])
def test_what_is_not_a_node_is_called_so(body: bytes) -> None:
    with pages({"/v1/peers": (404, body)}) as address:
        error = peers("--url", address).exception
    assert isinstance(error, QuStreamError)
    assert error.code == "E-PEER-VERSION"


def test_nobody_there() -> None:
    with pages({}) as address:
        pass
    error = peers("--url", address).exception
    assert isinstance(error, QuStreamError)
    assert (error.code, error.exit_code) == ("E-PEER-UNREACHABLE", 75)
