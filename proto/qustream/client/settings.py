"""The user's `config.toml` and opening a user directory with it (`proto/spec/client.md`, "Home")."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from qustream import settings
from qustream.errors import fault
from qustream.identity import files, keystore
from qustream.identity.user import UserHome
from qustream.registry import NetworkFileRegistry

__all__ = [
    "CONFIG_FILE",
    "CREDENTIAL",
    "HEIGHT_FILE",
    "HomeConfig",
    "find_home_passphrase",
    "load_config",
    "open_home",
    "open_network",
    "write_config",
]

CONFIG_FILE = "config.toml"
# The newest version of the network file this device has seen: an older one, with its revocations undone, is refused in a later run too.
HEIGHT_FILE = "network.height"
HEIGHT_MAX_BYTES = 32  # a number of 63 bits
CREDENTIAL = "qustream"
TEMPLATE = """\
# A QuStream user on this device. Paths are relative to this file.
network_file = {network_file}    # who belongs to the network, signed
network_key = {network_key}      # the key that signs it (qnet1...)
"""


class HomeConfig(settings.Section, frozen=True):
    """The whole file."""

    network_file: Path
    network_key: Annotated[str, Meta(min_length=1, max_length=128)]
    passphrase_file: Path | None = None


def write_config(directory: Path, network_file: Path, network_key: str) -> None:
    """Write a new user's configuration. Errors: `E-FILE`, `E-DISK-FULL`; `E-CONFIG` for a path that is not UTF-8, as TOML is."""
    text = TEMPLATE.format(network_file=_quoted(str(network_file)), network_key=_quoted(network_key))
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise fault("E-CONFIG", f"the path {str(network_file)!a} is not UTF-8; give the network file another name or place") from None
    files.replace(directory / CONFIG_FILE, data, mode=0o644)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's is one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def find_home_passphrase(directory: Path, file: Path | None) -> bytes:
    """The passphrase of a user directory's keystore: the credential `qustream`, `file`, the configuration's `passphrase_file`, or the
    terminal. Errors: those of `keystore.find_passphrase`, `E-CONFIG`."""
    file = file or load_config(directory).passphrase_file
    return keystore.find_passphrase(CREDENTIAL, file=file, prompt=sys.stdin.isatty())


def load_config(directory: Path) -> HomeConfig:
    """The configuration of a user directory. Errors: `E-HOME` if there is none, `E-CONFIG`, `E-FILE`."""
    if not (directory / CONFIG_FILE).exists():
        raise fault("E-HOME", f"there is no QuStream user in {directory}")
    return settings.load(directory / CONFIG_FILE, HomeConfig)


def open_home(directory: Path, passphrase: bytes | None, now_ms: int) -> tuple[UserHome, NetworkFileRegistry]:
    """The user and the registry of a directory that `qustream init` made (`~` is home). Errors: those of `Client.from_home`."""
    directory = directory.expanduser()
    load_config(directory)  # a directory without a user is said to be that, before anything is asked
    home = UserHome.load(directory, find_home_passphrase(directory, None) if passphrase is None else passphrase)
    return home, open_network(directory, now_ms)


def open_network(directory: Path, now_ms: int) -> NetworkFileRegistry:
    """The network of a user directory, no older than one seen there before. Errors: `E-HOME`, `E-CONFIG`, `E-REGISTRY-…`, `E-FILE`."""
    config = load_config(directory)
    seen = _height(directory / HEIGHT_FILE)
    registry = NetworkFileRegistry(config.network_file, config.network_key, height_min=seen)
    registry.load(now_ms)
    if registry.height > seen:
        files.replace(directory / HEIGHT_FILE, f"{registry.height}\n".encode())
    return registry


def _height(path: Path) -> int:
    if not path.exists():
        return 0
    text = files.read(path, HEIGHT_MAX_BYTES, private=False).strip()
    if not text.isdigit():
        raise fault("E-DATA-CORRUPT", f"{path} does not hold a number")
    return int(text)
