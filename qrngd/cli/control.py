"""`qrngd clear` and `qrngd retest`: what the operator says to a running server, or does to its data when none runs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from qrngd.cli.options import config_option
from qrngd.config import Config, load_config
from qrngd.datadir import DataDirectory
from qrngd.latches import Latches
from qustream.errors import QuStreamError, fault

__all__ = ["clear", "retest"]

REASON_MIN_CHARS = 3  # a word that somebody reads later


def _reason(_context: click.Context, _option: click.Parameter, value: str) -> str:
    from qrngd.control import REASON_MAX_CHARS

    text = " ".join(value.split())
    if not REASON_MIN_CHARS <= len(text) <= REASON_MAX_CHARS or not text.isprintable():
        raise click.BadParameter(f"say in {REASON_MIN_CHARS} to {REASON_MAX_CHARS} characters, on one line, why")
    return text


@click.command()
@click.argument("device")
@click.option("--reason", required=True, callback=_reason, help="What was found and done; it is kept with the incident.")
@config_option
def clear(device: str, reason: str, config_path: Path) -> None:
    """Clear the latched failure of DEVICE after it was examined. The full start-up test runs before anything is delivered.

    Works on a running server, and on a stopped one.
    """
    # The event loop, which the server's half of this needs, is loaded for these commands alone.
    from qrngd.control import ControlRequest, ask

    config = load_config(config_path)
    _check_name(config, device)
    try:
        said = ask(config.control_path, ControlRequest("clear", device, reason))
    except QuStreamError as error:
        if error.code != "E-PEER-UNREACHABLE":
            raise
        said = _clear_stopped(config, device, reason)
    click.echo(said)


@click.command()
@click.argument("device")
@click.option("--reason", default="no reason given", show_default=True, callback=_reason, help="Kept in the journal and the history.")
@config_option
def retest(device: str, reason: str, config_path: Path) -> None:
    """Run the start-up test on DEVICE of a running server now (SP 800-90B §4.3). It delivers nothing until the test has passed."""
    from qrngd.control import ControlRequest, ask

    config = load_config(config_path)
    _check_name(config, device)
    click.echo(ask(config.control_path, ControlRequest("retest", device, reason)))


def _check_name(config: Config, device: str) -> None:
    names = [each.name for each in config.device]
    if device not in names:
        raise fault("E-DEV-UNKNOWN", f"no device {device!r} in this configuration; there are {', '.join(names)}")


def _clear_stopped(config: Config, device: str, reason: str) -> str:
    with DataDirectory(config.data_dir):  # E-DATA-LOCKED: a server runs, and its control socket is somewhere else
        latches = Latches(config.data_dir)
        if latches.read(device) is None:
            raise fault("E-DEV-STATE", f"no failure of {device} is latched")
        latches.clear(device, reason, time.time_ns() // 1_000_000)
    return f"{device}: cleared; the start-up test runs when the server is started"
