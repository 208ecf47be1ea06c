"""Options that several commands share, and what they lead to."""

from __future__ import annotations

import http.client
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import click

from qnode.config import Config, load_config
from qustream.errors import fault
from qustream.identity import keystore
from qustream.identity.signing import SigningKey

__all__ = ["CREDENTIAL", "KEYSTORE_KIND", "config_option", "fetch", "new_passphrase", "open_key", "status_url", "url_option"]

CREDENTIAL = "qnode"
KEYSTORE_KIND = "node"
PAGE_MAX_BYTES = 1 << 20  # a status of a few KB; more is not a node
PAGE_TIMEOUT_S = 5.0  # a local daemon answers in milliseconds

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), default="/etc/qustream/qnode.toml", show_default=True,
    envvar="QNODE_CONFIG", help="The configuration file.",
)  # fmt: skip
url_option = click.option("--url", help="The node's status address, such as http://127.0.0.1:7480; instead of --config.")


def open_key(config: Config) -> SigningKey:
    """The node's signing key from its keystore. Errors: `E-KEYSTORE-…`, `E-SECRET-MISSING`, `E-FILE`."""
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=sys.stdin.isatty())
    return SigningKey(keystore.read(config.keystore, KEYSTORE_KIND, passphrase))


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
        url = url.rstrip("/") if "://" in url else f"http://{url}"
        if not url.startswith(("http://", "https://")):
            raise click.UsageError(f"--url {url}: an http address is needed")
        return url
    config = load_config(config_path)
    if not config.status_listen:
        raise fault("E-CONFIG", f"{config_path}: status_listen is not set, so the node has no status pages")
    return f"http://{config.status_listen}"


def fetch(url: str) -> tuple[int, bytes]:
    """Status and body of a page; `url` as `status_url` makes it. Errors: `E-PEER-UNREACHABLE`."""
    try:
        with urllib.request.urlopen(url, timeout=PAGE_TIMEOUT_S) as answer:  # noqa: S310 - `status_url` checked the scheme
            return answer.status, answer.read(PAGE_MAX_BYTES)
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(PAGE_MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise fault("E-PEER-UNREACHABLE", f"no node answers at {url}: {getattr(error, 'reason', error)}") from None
