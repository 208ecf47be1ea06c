"""Options that several commands share, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from qrngd.config import Config
from qrngd.datadir import IDENTITY_FILE
from qustream.identity import keystore
from qustream.identity.signing import SigningKey

__all__ = ["CREDENTIAL", "KEYSTORE_KIND", "config_file", "config_option", "open_key"]

CREDENTIAL = "qrngd"
KEYSTORE_KIND = "qrng-server"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_file(name: str) -> Callable[[_Command], _Command]:
    """The option that names the configuration of the process `name`."""
    return click.option(
        "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), default=f"/etc/qustream/{name}.toml", show_default=True,
        envvar=f"{name.upper().replace('-', '_')}_CONFIG", help="The configuration file.",
    )  # fmt: skip


config_option = config_file("qrngd")


def open_key(config: Config, *, prompt: bool) -> SigningKey:
    """The server's signing key from its keystore. Raises `E-KEYSTORE-…`, `E-SECRET-MISSING`, `E-FILE`."""
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=prompt)
    return SigningKey(keystore.read(config.data_dir / IDENTITY_FILE, KEYSTORE_KIND, passphrase))
