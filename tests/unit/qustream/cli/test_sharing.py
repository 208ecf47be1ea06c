"""`qustream grant share` and `adopt`: two devices of one user, a grant, and everybody it is not for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import pytest

from qustream.cli import cli, sharing
from qustream.client.settings import write_config
from qustream.errors import QuStreamError
from qustream.identity.signing import SigningKey
from qustream.identity.user import UserHome
from qustream.model.ids import IdKind, to_text
from qustream.model.network import Grant
from qustream.registry.writer import NetworkFileWriter

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
OTHERS = "letter advice cage absurd amount doctor acoustic avoid letter advice cage above"
PASSPHRASE = b"correct horse"
NOW_MS = 1_700_000_000_000
EPOCH_MS = 1000


@dataclass
class Device:
    """A directory, and the command in it."""

    folder: Path
    writer: NetworkFileWriter

    @property
    def home(self) -> UserHome:
        return UserHome.load(self.folder, PASSPHRASE)

    @property
    def name(self) -> str:
        return to_text(IdKind.DEVICE, self.home.device.id)

    def __call__(self, *arguments: object, code: str = "") -> str:
        words = ["--home", str(self.folder), "--passphrase-file", str(self.folder / "passphrase"), *map(str, arguments)]
        done = click.testing.CliRunner().invoke(cli, words)
        if not code:
            assert done.exit_code == 0, (done.exception, done.output)
            return done.stdout
        assert isinstance(done.exception, QuStreamError), done.exception
        assert done.exception.code == code
        return done.exception.detail

    def bought(self, count: int = 11, stripes: int = 2) -> Grant:
        home = self.home
        grant = self.writer.grant(home.new_grant_offer(count, NOW_MS, stripes=stripes), home.user, lifetime_max_ms=60_000, epoch=0)
        self.writer.write()
        return grant

    def indices(self, grant: Grant) -> list[int]:
        home = self.home
        return [home.next_index(grant.grant) for _ in range(home.grants.left(grant.grant))]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch."""
    at(monkeypatch, 0)


def at(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    monkeypatch.setattr(sharing, "now_ms", lambda: NOW_MS + epoch * EPOCH_MS + 1)


@pytest.fixture
def writer(tmp_path: Path) -> NetworkFileWriter:
    key = SigningKey(bytes(range(32)))
    return NetworkFileWriter.create(tmp_path / "network.toml", "test", key, genesis_ms=NOW_MS, epoch_length_ms=EPOCH_MS, seed=bytes(32))


def device(writer: NetworkFileWriter, name: str, words: str = WORDS, *, enrolled: bool = True, **options: Any) -> Device:
    folder = writer.path.parent / name
    home = UserHome.create(folder, words, name, PASSPHRASE, now_ms=NOW_MS, **options)
    write_config(folder, writer.path, writer.network_key_text)
    (folder / "passphrase").write_bytes(PASSPHRASE)
    (folder / "passphrase").chmod(0o600)
    if enrolled:
        writer.enrol(home.enrolment())
        writer.write()
    return Device(folder, writer)


@pytest.fixture
def laptop(writer: NetworkFileWriter) -> Device:
    return device(writer, "laptop")


@pytest.fixture
def phone(writer: NetworkFileWriter, laptop: Device) -> Device:
    return device(writer, "phone", stripe=1)


def shared(source: Device, to: Device, grant: Grant, name: str = "share") -> Path:
    file = source.folder.parent / name
    source("grant", "share", to_text(IdKind.GRANT, grant.grant), "--to", to.name, "-o", file)
    return file


def test_what_one_device_bought_serves_on_another_and_no_index_twice(laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    file = shared(laptop, phone, grant)
    assert "5 requests for this device" in phone("grant", "adopt", file)
    assert phone.home.ruid(grant.grant, 3) == laptop.home.ruid(grant.grant, 3)
    own, theirs = laptop.indices(grant), phone.indices(grant)
    assert (len(own), len(theirs)) == (6, 5)
    assert sorted(own + theirs) == list(range(11))


def test_it_holds_no_secret(laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    said = json.loads(shared(laptop, phone, grant).read_bytes())
    assert set(said) == {"qustream", "user", "device", "grant", "stripe", "generation", "nonce"}
    data = json.dumps(said)
    home = laptop.home
    for secret in (home.ruid_key, home.hpke.seed, home.device.seed):
        assert secret.hex() not in data
        assert base64.b64encode(secret).decode() not in data
    assert (said["device"], said["stripe"], said["generation"]) == (phone.name, 0, 0)


def test_a_second_time_changes_nothing(laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    file = shared(laptop, phone, grant)
    phone("grant", "adopt", file)
    assert phone.home.next_index(grant.grant) == 1
    assert "4 requests left" in phone("grant", "adopt", file, code="E-GRANT-SHARE")
    assert phone.home.next_index(grant.grant) == 3
    assert "already" in laptop("grant", "adopt", shared(phone, laptop, grant, "back"), code="E-GRANT-SHARE")


def test_a_cut_between_the_nonce_and_the_grant_is_made_good(laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    file = shared(laptop, phone, grant)
    home = phone.home
    home.grants.add(home._record_of_another(grant, laptop.home.grant_nonce(grant.grant), 0))
    phone("grant", "adopt", file)
    assert phone.indices(grant) == [1, 3, 5, 7, 9]


def test_a_file_serves_one_device_of_one_user(writer: NetworkFileWriter, laptop: Device, phone: Device) -> None:
    file = shared(laptop, phone, laptop.bought(stripes=3))
    third, bob = device(writer, "third", stripe=2), device(writer, "bob", OTHERS, stripe=1)
    assert third.name in third("grant", "adopt", file, code="E-GRANT-SHARE")
    assert "another user" in bob("grant", "adopt", file, code="E-GRANT-SHARE")
    said = json.loads(file.read_bytes())
    file.write_text(json.dumps(said | {"user": to_text(IdKind.USER, bob.home.user), "device": bob.name}))
    bob("grant", "adopt", file, code="E-GRANT-UNKNOWN")  # the network says whose it is
    assert third.home.grants.records() == bob.home.grants.records() == []


def test_nothing_is_written_for_a_stranger_or_a_lost_device(writer: NetworkFileWriter, laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    name, file = to_text(IdKind.GRANT, grant.grant), laptop.folder.parent / "share"
    bob, unlisted = device(writer, "bob", OTHERS), device(writer, "unlisted", stripe=2, enrolled=False)
    for stranger in (bob, unlisted):
        laptop("grant", "share", name, "--to", stranger.name, "-o", file, code="E-DEVICE-UNKNOWN")
    laptop("grant", "share", name, "--to", laptop.name, "-o", file, code="E-GRANT-SHARE")
    bob("grant", "share", name, "--to", bob.name, "-o", file, code="E-GRANT-SHARE")
    phone("grant", "share", name, "--to", laptop.name, "-o", file, code="E-GRANT-UNKNOWN")  # it does not have it
    writer.revoke_device(laptop.home.user, phone.home.device.id)
    writer.write()
    laptop("grant", "share", name, "--to", phone.name, "-o", file, code="E-DEVICE-REVOKED")
    assert not file.exists()


def test_a_grant_of_another_user_is_not_shared(writer: NetworkFileWriter, laptop: Device, phone: Device) -> None:
    grant = device(writer, "bob", OTHERS).bought()
    file = laptop.folder / "share"
    laptop("grant", "share", to_text(IdKind.GRANT, grant.grant), "--to", phone.name, "-o", file, code="E-GRANT-UNKNOWN")
    assert not file.exists()


def test_one_that_has_ended_is_neither_shared_nor_adopted(monkeypatch: pytest.MonkeyPatch, laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    file = shared(laptop, phone, grant)
    at(monkeypatch, 2)
    assert "end of epoch 1, and this is epoch 2" in phone("grant", "adopt", file, code="E-GRANT-EXPIRED")
    arguments = ("grant", "share", to_text(IdKind.GRANT, grant.grant), "--to", phone.name, "-o", laptop.folder / "x")
    laptop(*arguments, code="E-GRANT-EXPIRED")
    assert phone.home.grants.records() == []
    at(monkeypatch, 1)
    phone("grant", "adopt", file)


def test_a_grant_for_one_device_stays_there(laptop: Device, phone: Device) -> None:
    name = to_text(IdKind.GRANT, laptop.bought(stripes=1).grant)
    assert "--stripes" in laptop("grant", "share", name, "--to", phone.name, "-o", laptop.folder / "x", code="E-GRANT-SHARE")


def test_numbers_that_do_not_fit_are_refused(writer: NetworkFileWriter, laptop: Device) -> None:
    grant = laptop.bought()
    same, beyond = device(writer, "same"), device(writer, "beyond", stripe=2)
    assert "same indices" in same("grant", "adopt", shared(laptop, same, grant, "1"), code="E-GRANT-SHARE")
    assert "devices 0 to 1" in beyond("grant", "adopt", shared(laptop, beyond, grant, "2"), code="E-GRANT-EXHAUSTED")
    assert same.home.grants.records() == beyond.home.grants.records() == []


def test_a_device_without_the_key_is_told_to_rotate(laptop: Device, phone: Device) -> None:
    laptop.home.rotate_ruid_key(WORDS, PASSPHRASE)
    grant = laptop.bought()
    file = shared(laptop, phone, grant)
    assert "rotate" in phone("grant", "adopt", file, code="E-GRANT-RUID")
    phone.home.rotate_ruid_key(WORDS, PASSPHRASE)
    phone("grant", "adopt", file)
    assert phone.indices(grant) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("change", [{"nonce": "AAAA"}, {"nonce": "A" * 43 + "="}, {"generation": -1}])
def test_a_changed_nonce_leads_nowhere(laptop: Device, phone: Device, change: dict[str, Any]) -> None:
    file = shared(laptop, phone, laptop.bought())
    file.write_text(json.dumps(json.loads(file.read_bytes()) | change))
    if "nonce" in change:
        phone("grant", "adopt", file, code="E-GRANT-UNKNOWN")
        assert phone.home.grants.records() == []
    else:
        phone("grant", "adopt", file)  # what the key's number is, the root decides; the file's helps to say what is missing


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"qustream": "signed"}'])
def test_another_file_is_said_to_be_one(laptop: Device, text: str) -> None:
    (laptop.folder / "file").write_text(text)
    laptop("grant", "adopt", laptop.folder / "file", code="E-GRANT-SHARE")
    laptop("grant", "adopt", laptop.folder / "none", code="E-FILE")


def test_a_file_that_is_there_is_kept(laptop: Device, phone: Device) -> None:
    grant = laptop.bought()
    file = shared(laptop, phone, grant)
    before = file.read_bytes()
    laptop("grant", "share", to_text(IdKind.GRANT, grant.grant), "--to", phone.name, "-o", file, code="E-FILE-EXISTS")
    assert file.read_bytes() == before
