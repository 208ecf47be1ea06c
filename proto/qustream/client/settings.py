"""The user's `config.toml` and opening a user directory with it (`proto/spec/client.md`, "Home")."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from qustream import settings
from qustream.identity import files, keystore
from qustream.identity.user import UserHome
from qustream.registry import NetworkFileRegistry

__all__ = ["CONFIG_FILE", "CREDENTIAL", "HomeConfig", "open_home", "write_config"]

CONFIG_FILE = "config.toml"
CREDENTIAL = "qustream"
TEMPLATE = """\
# A QuStream user on this device. Paths are relative to this file.
network_file = "{network_file}"    # who belongs to the network, signed
network_key = "{network_key}"      # the key that signs it (qnet1...)
"""


class HomeConfig(settings.Section, frozen=True):
    """The whole file."""

    network_file: Path
    network_key: Annotated[str, Meta(min_length=1, max_length=128)]
    passphrase_file: Path | None = None


def write_config(directory: Path, network_file: Path, network_key: str) -> None:
    """Write a new user's configuration. Errors: `E-FILE`, `E-DISK-FULL`."""
    text = TEMPLATE.format(network_file=network_file, network_key=network_key)
    files.replace(directory / CONFIG_FILE, text.encode(), mode=0o644)


def open_home(directory: Path, passphrase: bytes | None, now_ms: int) -> tuple[UserHome, NetworkFileRegistry]:
    """The user and the registry of a directory that `qustream init` made. Errors: those of `Client.from_home`."""
    config = settings.load(directory / CONFIG_FILE, HomeConfig)
    if passphrase is None:
        passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=sys.stdin.isatty())
    home = UserHome.load(directory, passphrase)
    registry = NetworkFileRegistry(config.network_file, config.network_key)
    registry.load(now_ms)
    return home, registry
