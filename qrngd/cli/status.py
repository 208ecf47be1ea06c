"""`qrngd status`: a running server seen from outside, by its own page."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from pathlib import Path

import click

from qrngd.cli.options import config_option
from qrngd.config import load_config
from qrngd.status import StatusSnapshot, status_text
from qustream.errors import fault

__all__ = ["status"]

PAGE_MAX_BYTES = 4 << 20  # 512 nodes are 150 KB; more is not a QRNG server
PAGE_TIMEOUT_S = 5.0  # a local daemon answers in milliseconds


@click.command()
@config_option
@click.option("--url", help="The server's status address, such as http://127.0.0.1:7390; instead of --config.")
@click.option("--json", "as_json", is_flag=True, help="The status as JSON, as the page /v1/status gives it.")
def status(config_path: Path, url: str | None, as_json: bool) -> None:
    """One screen about the running server. Exit 0 when it is ready, 1 when it is not, 75 when it does not answer."""
    body = _fetch(_base(url, config_path) + "/v1/status")
    try:
        snapshot = StatusSnapshot.from_json(body)
    except ValueError:
        raise fault("E-PEER-VERSION", "what answers there is not a qrngd of this version") from None
    click.echo(body.decode() if as_json else status_text(snapshot))
    sys.exit(0 if snapshot.ready else 1)


def _base(url: str | None, config_path: Path) -> str:
    if url:
        return url.rstrip("/") if "://" in url else f"http://{url}"
    config = load_config(config_path)
    if not config.metrics_listen:
        raise fault("E-CONFIG", f"{config_path}: metrics_listen is not set, so the server has no status page")
    return f"http://{config.metrics_listen}"


def _fetch(url: str) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise fault("E-CONFIG", f"{url} is not an http address")
    try:
        with urllib.request.urlopen(url, timeout=PAGE_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
            body: bytes = answer.read(PAGE_MAX_BYTES)
            return body
    except urllib.error.HTTPError as refusal:
        raise fault("E-PEER-VERSION", f"{url} answers HTTP {refusal.code}") from None
    except OSError as error:
        raise fault("E-PEER-UNREACHABLE", f"no qrngd answers at {url}: {getattr(error, 'reason', error)}") from None
