"""Options that several commands share, and what they lead to."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import click

from qnode.config import Config, load_config
from qustream.errors import fault
from qustream.identity import keystore
from qustream.identity.signing import SigningKey

__all__ = ["CREDENTIAL", "KEYSTORE_KIND", "config_option", "fetch", "open_key", "status_url", "url_option"]

CREDENTIAL = "qnode"
KEYSTORE_KIND = "node"
PAGE_MAX_BYTES = 1 << 20  # a status of a few KB; more is not a node
PAGE_TIMEOUT_S = 5.0  # a local daemon answers in milliseconds

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), default="/etc/qustream/qnode.toml", show_default=True,
    envvar="QNODE_CONFIG", help="The configuration file.",
)  # fmt: skip
url_option = click.option("--url", help="The node's status address, such as http://127.0.0.1:7480; instead of --config.")


def open_key(config: Config, *, prompt: bool) -> SigningKey:
    """The node's signing key from its keystore. Errors: `E-KEYSTORE-…`, `E-SECRET-MISSING`, `E-FILE`."""
    passphrase = keystore.find_passphrase(CREDENTIAL, file=config.passphrase_file, prompt=prompt)
    return SigningKey(keystore.read(config.keystore, KEYSTORE_KIND, passphrase))


def status_url(url: str | None, config_path: Path) -> str:
    """Where the node's pages are. Errors: `E-CONFIG` when the configuration names no status address."""
    if url:
        return url.rstrip("/") if "://" in url else f"http://{url}"
    config = load_config(config_path)
    if not config.status_listen:
        raise fault("E-CONFIG", f"{config_path}: status_listen is not set, so the node has no status pages")
    return f"http://{config.status_listen}"


def fetch(url: str) -> tuple[int, bytes]:
    """Status and body of a page. Errors: `E-PEER-UNREACHABLE`."""
    if not url.startswith(("http://", "https://")):
        raise fault("E-CONFIG", f"{url} is not an http address")
    try:
        with urllib.request.urlopen(url, timeout=PAGE_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            return answer.status, answer.read(PAGE_MAX_BYTES)
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(PAGE_MAX_BYTES)
    except OSError as error:
        raise fault("E-PEER-UNREACHABLE", f"no node answers at {url}: {getattr(error, 'reason', error)}") from None
