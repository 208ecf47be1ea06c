"""Options that several commands share, and what they lead to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from qnode.config import Config, load_config
from qustream.aio.status_page import page_address
from qustream.errors import fault
from qustream.identity import keystore
from qustream.identity.signing import SigningKey
from qustream.identity.voting import VoteSecrets
from qustream.identity.voting import read as read_votes

__all__ = ["CREDENTIAL", "KEYSTORE_KIND", "config_option", "new_passphrase", "open_key", "open_votes", "status_url", "url_option"]

CREDENTIAL = "qnode"
KEYSTORE_KIND = "node"

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), default="/etc/qustream/qnode.toml", show_default=True,
    envvar="QNODE_CONFIG", help="The configuration file.",
)  # fmt: skip
url_option = click.option("--url", help="The node's status address, such as http://127.0.0.1:7480; instead of --config.")


def open_key(config: Config) -> SigningKey:
    """The node's signing key from its keystore. Errors: `E-KEYSTORE-…`, `E-SECRET-MISSING`, `E-FILE`."""
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=sys.stdin.isatty())
    return SigningKey(keystore.read(config.keystore, KEYSTORE_KIND, passphrase))


def open_votes(config: Config) -> VoteSecrets | None:
    """What a validator votes with, under the same passphrase as the node's key; None for a node that does not vote. Errors: as
    `open_key`."""
    if config.validator is None:
        return None
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=sys.stdin.isatty())
    return read_votes(config.validator.vote_keystore, passphrase)


def new_passphrase(file: Path | None) -> bytes:
    """The passphrase for a new keystore; typed twice where it is typed. Errors: `E-SECRET-MISSING`, `E-KEYSTORE-MODE`, `E-FILE`."""
    typed = sys.stdin.isatty() and file is None and "CREDENTIALS_DIRECTORY" not in os.environ
    passphrase = keystore.find_passphrase(CREDENTIAL, file=file, prompt=typed)
    if typed and keystore.find_passphrase(CREDENTIAL, file=None, prompt=True) != passphrase:
        raise fault("E-SECRET-MISSING", "the two passphrases differ")
    return passphrase


def status_url(url: str | None, config_path: Path) -> str:
    """Where the node's pages are. Errors: `E-CONFIG` when the configuration names no status address."""
    if url:
        address = page_address(url)
        if address is None:
            raise click.UsageError(f"--url {url}: an http address is needed")
        return address
    config = load_config(config_path)
    if not config.status_listen:
        raise fault("E-CONFIG", f"{config_path}: status_listen is not set, so the node has no status pages")
    return f"http://{config.status_listen}"
