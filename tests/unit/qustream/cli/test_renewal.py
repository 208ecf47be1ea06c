"""`qustream renew` and `qustream rotate`, and the warning of `qustream whoami`."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import pytest

from qustream.cli import cli, identity, renewal
from qustream.cli.renewal import renewal_warning
from qustream.client.settings import now_ms, write_config
from qustream.errors import QuStreamError
from qustream.identity.enrolment import CERTIFICATE_LIFETIME_MS
from qustream.identity.signing import SigningKey
from qustream.identity.user import UserHome
from qustream.registry.writer import NetworkFileWriter

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
OTHERS = "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"
PASSPHRASE = b"correct horse"
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "alice"
    user = UserHome.create(folder, WORDS, "laptop", PASSPHRASE, now_ms=NOW_MS)
    writer = NetworkFileWriter.create(
        tmp_path / "network.toml", "test", SigningKey(bytes(32)), genesis_ms=NOW_MS, epoch_length_ms=1000, seed=bytes(32)
    )
    writer.enrol(user.enrolment())
    writer.write()
    write_config(folder, writer.path, writer.network_key_text)
    (folder / "passphrase").write_bytes(PASSPHRASE)
    (folder / "passphrase").chmod(0o600)
    return folder


def qustream(home: Path, *arguments: object, words: str = "") -> click.testing.Result:
    line = ["--home", str(home), "--passphrase-file", str(home / "passphrase"), *map(str, arguments)]
    return click.testing.CliRunner().invoke(cli, line, input=words)


def refusal(home: Path, *arguments: object, words: str = "") -> QuStreamError:
    error = qustream(home, *arguments, words=words).exception
    assert isinstance(error, QuStreamError), error
    assert not set(WORDS.split()) & set(str(error).split())
    return error


def test_an_expired_certificate_is_renewed_for_90_days(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = NOW_MS + CERTIFICATE_LIFETIME_MS + 1
    monkeypatch.setattr(renewal, "now_ms", lambda: later)
    with pytest.raises(QuStreamError, match="E-DEVICE-EXPIRED"):
        UserHome.load(home, PASSPHRASE, now_ms=later)
    done = qustream(home, "renew", words=WORDS)
    assert done.exit_code == 0, done.exception
    assert UserHome.load(home, PASSPHRASE, now_ms=later).expires_ms == later + CERTIFICATE_LIFETIME_MS
    assert done.stdout.startswith("certificate until 20")
    assert "Next:" in done.stderr
    assert "sausage" not in done.output


def test_words_of_another_renew_and_rotate_nothing(home: Path) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    for command in ("renew", "rotate"):
        assert refusal(home, command, words=OTHERS).code == "E-PASSPHRASE-WORDS"
        assert refusal(home, command, words="nonsense").code == "E-PASSPHRASE-WORDS"
        assert refusal(home, command).code == "E-SECRET-MISSING"
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() if path.name in before} == before


def test_words_come_from_a_file_that_nobody_else_reads(home: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "words"
    sheet.write_text(WORDS)
    sheet.chmod(0o644)
    assert refusal(home, "rotate", "--words-file", sheet).code == "E-KEYSTORE-MODE"
    sheet.chmod(0o600)
    assert qustream(home, "rotate", "--words-file", sheet).stdout == "rUID key number 1\n"


def test_the_next_key_is_taken_and_the_other_devices_follow(home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        done = qustream(home, "rotate", words=WORDS)
        assert done.stdout == f"rUID key number {number}\n"
        assert f"qustream rotate --to {number} " in done.stderr
    phone = UserHome.create(tmp_path / "phone", WORDS, "phone", PASSPHRASE, stripe=1, now_ms=NOW_MS)
    (tmp_path / "phone/passphrase").write_bytes(PASSPHRASE)
    (tmp_path / "phone/passphrase").chmod(0o600)
    assert qustream(tmp_path / "phone", "rotate", "--to", "2", words=WORDS).stdout == "rUID key number 2\n"
    user, phone = UserHome.load(home, PASSPHRASE), UserHome.load(tmp_path / "phone", PASSPHRASE)
    assert (user.generation, user.ruid_key) == (phone.generation, phone.ruid_key) == (2, phone.ruid_key)
    assert "has rUID key 2 already" in str(refusal(tmp_path / "phone", "rotate", "--to", "2", words=WORDS))
    assert UserHome.load(tmp_path / "phone", PASSPHRASE).generation == 2


def test_rotations_end(home: Path) -> None:
    assert qustream(home, "rotate", "--to", "63", words=WORDS).exit_code == 0
    assert refusal(home, "rotate", words=WORDS).code == "E-CONFIG"
    assert qustream(home, "rotate", "--to", "64", words=WORDS).exit_code == 2


@pytest.mark.parametrize(
    ("left_ms", "said"),
    [
        (14 * DAY_MS, ""),
        (14 * DAY_MS - 1, "in 13 days"),
        (2 * DAY_MS - 1, "in 1 day;"),
        (DAY_MS - 1, "within a day"),
        (0, "has expired"),
        (-DAY_MS, "has expired"),
    ],
)
def test_a_warning_in_time(left_ms: int, said: str) -> None:
    warning = renewal_warning(NOW_MS + left_ms, NOW_MS)
    assert said in warning
    assert bool(warning) == bool(said)
    assert not warning or "qustream renew" in warning


def test_whoami_warns_and_names_the_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "now_ms", lambda: NOW_MS)
    assert "WARNING" not in qustream(home, "whoami").output
    monkeypatch.setattr(identity, "now_ms", lambda: NOW_MS + CERTIFICATE_LIFETIME_MS - 3 * DAY_MS)
    done = qustream(home, "whoami", "--json")
    assert "in 3 days; qustream renew" in done.stderr
    assert json.loads(done.stdout)["ruid_key"] == 0  # what programs read stays JSON
    monkeypatch.setattr(renewal, "now_ms", now_ms)
    assert qustream(home, "renew", words=WORDS).exit_code == 0
    monkeypatch.setattr(identity, "now_ms", now_ms)
    assert "WARNING" not in qustream(home, "whoami").output
