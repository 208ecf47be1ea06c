"""The command `qnode`: init, run, status, peers, doctor, wait, id, restore; of the chain: db, genesis, licence, stake, validator."""

from __future__ import annotations

import sys

import click

from qnode.cli.db import db
from qnode.cli.doctor import doctor
from qnode.cli.genesis import genesis
from qnode.cli.init import init
from qnode.cli.licence import licence
from qnode.cli.peers import peers
from qnode.cli.run import identity, restore, run
from qnode.cli.stake import stake
from qnode.cli.status import status, wait
from qnode.cli.validator import validator
from qustream.aio.journal import journal_prefix
from qustream.errors import QuStreamError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qustream", prog_name="qnode")
def cli() -> None:
    """A QuStream node: takes attested randomness from QRNG servers and serves one-time keys made of it."""


for command in (init, run, status, peers, doctor, wait, identity, restore, genesis, db, licence, stake, validator):
    cli.add_command(command)


def main() -> None:
    """Run a command. A coded failure is one line on standard error; exit 78 when the operator must act, 75 when time may help."""
    try:
        cli()
    except QuStreamError as error:
        click.echo(f"{journal_prefix('error')}qnode: {error}", err=True)
        sys.exit(error.exit_code)
