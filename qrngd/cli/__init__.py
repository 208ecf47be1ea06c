"""The command `qrngd`: init, id, run, status, devices, selftest, capture, assess, clear, retest, emulate, reader, alert."""

from __future__ import annotations

import sys

import click

from qrngd.cli.alert import alert
from qrngd.cli.assess import assess
from qrngd.cli.capture import capture
from qrngd.cli.control import clear, retest
from qrngd.cli.devices import devices
from qrngd.cli.emulate import emulate
from qrngd.cli.init import init
from qrngd.cli.reader import reader
from qrngd.cli.run import identity, run
from qrngd.cli.selftest import selftest
from qrngd.cli.status import status
from qustream.aio.journal import journal_prefix
from qustream.errors import QuStreamError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qustream", prog_name="qrngd")
def cli() -> None:
    """A QuStream QRNG server: reads hardware generators, tests each without pause, and feeds nodes with attested randomness."""


for command in (init, identity, run, status, devices, selftest, capture, assess, clear, retest, emulate, reader, alert):
    cli.add_command(command)


def main() -> None:
    """Run a command. A coded failure is one line on standard error; exit 78 when the operator must act, 75 when time may help."""
    try:
        cli()
    except QuStreamError as error:
        click.echo(f"{journal_prefix('error')}qrngd: {error}", err=True)
        sys.exit(error.exit_code)
