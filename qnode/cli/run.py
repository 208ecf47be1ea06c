"""`qnode run`: the daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from qnode.cli.options import config_option, open_key
from qnode.config import load_config

__all__ = ["run"]


@click.command()
@config_option
def run(config_path: Path) -> None:
    """Run the node until SIGTERM or SIGINT."""
    # The event loop and the database are loaded for this command alone: `qnode status` answers faster without.
    from qnode import daemon
    from qustream.aio.logs import configure_logs

    config = load_config(config_path)
    configure_logs(config.log_level)
    daemon.run(config, open_key(config, prompt=sys.stdin.isatty()))
