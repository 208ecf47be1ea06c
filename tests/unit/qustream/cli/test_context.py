"""Where a passphrase comes from; typing one is in tests/integration/client/test_terminal.py."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

import qustream.cli.context as module
from qustream.cli.context import Here
from qustream.errors import QuStreamError


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path


def test_a_new_passphrase_from_a_file_or_credential_is_not_asked_for(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = credentials / "secret"
    secret.write_bytes(b"from a file\n")
    secret.chmod(0o600)
    assert Here(credentials, secret).new_passphrase() == b"from a file"
    (credentials / "qustream").write_bytes(b"a credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert Here(credentials, None).new_passphrase() == b"a credential"


def test_without_a_terminal_it_is_missing(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(QuStreamError) as caught:
        Here(credentials, None).new_passphrase()
    assert caught.value.code == "E-SECRET-MISSING"


def test_a_wrong_file_is_an_error_not_a_question(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(QuStreamError) as caught:
        Here(credentials, credentials / "none").new_passphrase()
    assert caught.value.code == "E-FILE"


class Chain:
    """As much of a chain by proofs as nobody asks."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_network_of_a_command_ends_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Chain()
    monkeypatch.setattr(module, "open_network", lambda *_: network)
    with click.Context(click.Command("any")):
        assert Here(tmp_path, None).network() is network
        assert network.closed == 0
    assert network.closed == 1
