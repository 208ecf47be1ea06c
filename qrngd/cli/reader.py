"""`qrngd reader`: reads an entropy appliance over HTTPS for a qrngd that has no network."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from qrngd.cli.options import config_file

__all__ = ["reader"]


@click.command()
@config_file("qrngd-reader")
@click.option("--check", is_flag=True, help="Ask for one answer, say whether it is entropy, throw it away. Needs no FIFO; uses quota.")
def reader(config_path: Path, check: bool) -> None:
    """Read an entropy appliance over HTTPS, into a FIFO that `qrngd run` reads as kind "appliance", until SIGTERM or SIGINT."""
    # h11, ssl and the metrics are loaded for this command alone: the others answer faster without.
    from qrngd.appliance.client import ApplianceClient, tls_context
    from qrngd.appliance.config import load_reader_config
    from qrngd.appliance.reader import ApplianceReader, fetch_once, find_token
    from qustream.aio.logs import configure_logs

    config = load_reader_config(config_path)
    configure_logs(config.log_level)
    if check:
        client = ApplianceClient(config.target, tls_context(config.authority_file), token=lambda: find_token(config.token_file))
        blocks = fetch_once(config, client)
        client.close()
        click.echo(f"good: {len(blocks)} blocks of {config.block_bytes} bytes from {config.target.authority}")
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ApplianceReader(config, stopping=stop.is_set).run()
