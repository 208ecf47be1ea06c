"""`qrngd run`: the daemon. `qrngd id`: whose it is."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import click

from qrngd.cli.options import config_option, open_key
from qrngd.config import load_config
from qustream.model.ids import IdKind, to_text
from qustream.wire.codec import encode

__all__ = ["identity", "run"]


@click.command()
@config_option
def run(config_path: Path) -> None:
    """Run the server until SIGTERM or SIGINT."""
    # The event loop is loaded for this command alone: the others answer faster without.
    from qrngd import daemon
    from qustream.aio.logs import configure_logs

    config = load_config(config_path)
    configure_logs(config.log_level)
    daemon.run(config, open_key(config, prompt=sys.stdin.isatty()))


@click.command(name="id")
@config_option
@click.option("--public", is_flag=True, help="The whole public key in base64, as the network file wants it.")
def identity(config_path: Path, public: bool) -> None:
    """Print the server's id (qr1…)."""
    key = open_key(load_config(config_path), prompt=sys.stdin.isatty())
    click.echo(base64.b64encode(encode(key.public)).decode() if public else to_text(IdKind.QRNG, key.id))
