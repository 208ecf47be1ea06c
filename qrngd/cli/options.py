"""Options that several commands share, and what they lead to."""

from __future__ import annotations

from pathlib import Path

import click

from qrngd.config import Config
from qrngd.datadir import IDENTITY_FILE
from qustream.identity import keystore
from qustream.identity.signing import SigningKey

__all__ = ["CREDENTIAL", "KEYSTORE_KIND", "config_option", "open_key"]

CREDENTIAL = "qrngd"
KEYSTORE_KIND = "qrng-server"

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), default="/etc/qustream/qrngd.toml", show_default=True,
    envvar="QRNGD_CONFIG", help="The configuration file.",
)  # fmt: skip


def open_key(config: Config, *, prompt: bool) -> SigningKey:
    """The server's signing key from its keystore. Raises `E-KEYSTORE-…`, `E-SECRET-MISSING`, `E-FILE`."""
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=prompt)
    return SigningKey(keystore.read(config.data_dir / IDENTITY_FILE, KEYSTORE_KIND, passphrase))
