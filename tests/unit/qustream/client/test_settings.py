"""A user's configuration file, written and read back; the passphrase; the newest network seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.village import PASSPHRASE, User

from qustream import settings
from qustream.client.settings import CONFIG_FILE, HEIGHT_FILE, HomeConfig, find_home_passphrase, open_home, write_config
from qustream.errors import QuStreamError


@pytest.mark.parametrize("name", ["network.toml", 'a "quoted" file', "back\\slash", "new\nline", "ünïcødé", "del\x7fete", "#hash = 1"])
def test_any_name_of_a_network_file_survives(tmp_path: Path, name: str) -> None:
    write_config(tmp_path, tmp_path / name, "qnet1key")
    assert settings.load(tmp_path / CONFIG_FILE, HomeConfig) == HomeConfig(tmp_path / name, "qnet1key")


def test_a_name_that_toml_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuStreamError) as caught:
        write_config(tmp_path, Path(str(tmp_path).encode().decode() + "/\udcff"), "qnet1key")
    assert caught.value.code == "E-CONFIG"
    assert list(tmp_path.iterdir()) == []


def test_a_home_opens_with_its_passphrase_file(alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    secret = tmp_path / "secret"
    secret.write_bytes(PASSPHRASE + b"\n")
    secret.chmod(0o600)
    config = alice.home / CONFIG_FILE
    before = config.read_text()
    try:
        config.write_text(f'{before}passphrase_file = "{secret}"\n')
        assert find_home_passphrase(alice.home, None) == PASSPHRASE
        home, registry = open_home(alice.home, None, alice.village.clock_ms)
        assert home.user == alice.device.user
        assert registry.chain == "village"
        other = tmp_path / "other"
        other.write_bytes(b"typed for now")
        other.chmod(0o600)
        assert find_home_passphrase(alice.home, other) == b"typed for now"
    finally:
        config.write_text(before)


def test_the_newest_network_seen_is_remembered(alice: User) -> None:
    _, registry = open_home(alice.home, PASSPHRASE, alice.village.clock_ms)
    height = alice.home / HEIGHT_FILE
    assert int(height.read_text()) == registry.height
    stamp = height.stat().st_mtime_ns
    open_home(alice.home, PASSPHRASE, alice.village.clock_ms)
    assert height.stat().st_mtime_ns == stamp  # written only when there is something new
    height.write_text("many\n")
    with pytest.raises(QuStreamError) as caught:
        open_home(alice.home, PASSPHRASE, alice.village.clock_ms)
    assert caught.value.code == "E-DATA-CORRUPT"
    height.unlink()


def test_a_typo_in_the_configuration_is_named(alice: User) -> None:
    config = alice.home / CONFIG_FILE
    before = config.read_text()
    try:
        config.write_text(before.replace("network_key", "network_kye"))
        with pytest.raises(QuStreamError, match=r"network_kye; did you mean network_key\?"):
            open_home(alice.home, PASSPHRASE, alice.village.clock_ms)
    finally:
        config.write_text(before)
