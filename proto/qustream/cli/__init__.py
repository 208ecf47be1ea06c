"""The command `qustream`: init, whoami, encrypt, open, verify, inspect, revoke."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from qustream.cli.files import encrypt, inspect, open_file, revoke, verify
from qustream.cli.identity import init, whoami
from qustream.errors import Family, QuStreamError

__all__ = ["main"]

# sysexits.h: EX_TEMPFAIL says that trying later may help, EX_CONFIG that something here must be changed first.
EX_TEMPFAIL = 75
EX_CONFIG = 78
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qustream", prog_name="qustream")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), default="~/.qustream", show_default=True, envvar="QUSTREAM_HOME",
    help="The user's directory on this device.",
)  # fmt: skip
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path, dir_okay=False), help="Else the credential `qustream`, else the terminal."
)
@click.pass_context
def cli(context: click.Context, home: Path, passphrase_file: Path | None) -> None:
    """Encrypt files with one-time keys made of quantum randomness."""
    context.obj = (home.expanduser(), passphrase_file)


for command in (init, whoami, encrypt, open_file, verify, inspect, revoke):
    cli.add_command(command)


def main() -> None:
    """Run a command. Exit 0: done; 1: refused or wrong; 2: usage; 75: try later; 78: change something here first."""
    try:
        cli()
    except QuStreamError as error:
        click.echo(f"qustream: {error}", err=True)
        sys.exit({Family.OPERATOR: EX_CONFIG, Family.UNAVAILABLE: EX_TEMPFAIL}.get(error.row.family, 1))
    except BrokenPipeError:
        # Whoever read our output has gone; writing the rest would only fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
