"""`qrngd status`: a running server seen from outside, by its own page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from qrngd.cli.options import config_option
from qrngd.config import load_config
from qrngd.status import StatusSnapshot, status_text
from qustream.aio.status_page import fetch, page_address
from qustream.errors import QuStreamError, fault

__all__ = ["status"]

USUAL_URL = "http://127.0.0.1:7390"  # what `qrngd init` and qrngd-pages.socket set


@click.command()
@config_option
@click.option("--url", help=f"The server's status address, such as {USUAL_URL}; instead of --config.")
@click.option("--json", "as_json", is_flag=True, help="The status as JSON, as the page /v1/status gives it.")
def status(config_path: Path, url: str | None, as_json: bool) -> None:
    """One screen about the running server. Exit 0 when it is ready, 1 when it is not, 75 when it does not answer."""
    code, body = fetch(_base(url, config_path) + "/v1/status")
    try:
        snapshot = StatusSnapshot.from_json(body)
    except ValueError:
        raise fault("E-PEER-VERSION", f"what answers there is not a qrngd of this version (HTTP {code})") from None
    click.echo(body.decode() if as_json else status_text(snapshot))
    sys.exit(0 if snapshot.ready else 1)


def _base(url: str | None, config_path: Path) -> str:
    if url:
        address = page_address(url)
        if address is None:
            raise click.UsageError(f"--url {url}: an http address is needed")
        return address
    try:
        config = load_config(config_path)
    except QuStreamError as error:
        if error.code != "E-FILE":
            raise
        # Who may not read the server's files may still ask its page.
        raise fault("E-FILE", f"{error.detail}; without it: --url {USUAL_URL}") from None
    if not config.status_listen:
        raise fault("E-CONFIG", f"{config_path}: status_listen is not set, so the server has no status page")
    return f"http://{config.status_listen}"
