"""The command `qnode`: init, run, status, peers, doctor, wait, id, restore; of the chain: db, genesis, licence, stake, validator."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from qustream.aio.journal import journal_prefix
from qustream.errors import QuStreamError

__all__ = ["main"]

# Where each command is: loaded when it is named, for most of what a node's commands need is needed by one of them.
COMMANDS = {
    "init": "init", "run": "run", "status": "status", "peers": "peers", "doctor": "doctor", "wait": "status", "id": "run", "restore": "run",
    "genesis": "genesis", "db": "db", "licence": "licence", "stake": "stake", "validator": "validator",
}  # fmt: skip
NAMES = {"id": "identity"}  # in their modules, where that differs


class _Commands(click.Group):
    """The commands by name; all of them are loaded for the list alone."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"qnode.cli.{COMMANDS[name]}"), NAMES.get(name, name))
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qustream", prog_name="qnode")
def cli() -> None:
    """A QuStream node: takes attested randomness from QRNG servers and serves one-time keys made of it."""


def main() -> None:
    """Run a command. A coded failure is one line on standard error; exit 78 when the operator must act, 75 when time may help."""
    try:
        cli()
    except QuStreamError as error:
        click.echo(f"{journal_prefix('error')}qnode: {error}", err=True)
        sys.exit(error.exit_code)
