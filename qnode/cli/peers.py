"""`qnode peers`: the links of a running node, by its own page."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from qnode.api.peers import PeersPage
from qnode.api.peers_text import peers_text
from qnode.cli.options import config_option, status_url, url_option
from qustream.aio.status_page import fetch
from qustream.errors import fault

__all__ = ["peers"]


@click.command()
@config_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="The page /v1/peers as it is.")
def peers(config_path: Path, url: str | None, as_json: bool) -> None:
    """The nodes this one is linked to, those it does not reach, and totals. Exit 75 when the node does not answer.

    On a narrow screen columns are left out; through a pipe all of them come.
    """
    code, body = fetch(status_url(url, config_path) + "/v1/peers")
    try:
        page = PeersPage.from_json(body)
    except ValueError:
        raise fault("E-PEER-VERSION", f"what answers there is not a node of this version (HTTP {code})") from None
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(body.decode() if as_json else peers_text(page, width))
