"""The command `qustream`: init, whoami, renew, rotate, encrypt, open, verify, inspect, revoke, log; on a chain: wallet, user, grant."""

from __future__ import annotations

import os
import signal
import sys
from collections import UserDict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from qustream.cli.context import Here
from qustream.cli.screen import harmless
from qustream.errors import QuStreamError
from qustream.identity.files import file_fault

__all__ = ["main"]

# What shells report of a program that ended by a signal: 128 and the signal's number.
INTERRUPTED = 130
TERMINATED = 143

# Where each command is: loaded when it is named, for some load twice as much as others.
COMMANDS = {
    "init": "identity", "whoami": "identity", "renew": "renewal", "rotate": "renewal", "encrypt": "files", "open": "files",
    "verify": "examine", "inspect": "examine", "revoke": "examine", "log": "leaf_log", "wallet": "wallet", "user": "user", "grant": "grant",
}  # fmt: skip
NAMES = {"open": "open_file", "log": "leaf_log"}  # in their modules, where that differs


class _Commands(UserDict[str, Any]):
    """The commands by name. All of them are loaded for the list alone."""

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"qustream.cli.{self.data[name]}")
        command: click.Command = getattr(module, NAMES.get(name, name))
        return command


@click.group(commands=_Commands(COMMANDS), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qustream", prog_name="qustream")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), default="~/.qustream", show_default=True, envvar="QUSTREAM_HOME",
    help="The user's directory on this device.",
)  # fmt: skip
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Else $CREDENTIALS_DIRECTORY/qustream (systemd), else asked for.",
)
@click.pass_context
def cli(context: click.Context, home: Path, passphrase_file: Path | None) -> None:
    """Encrypt files with one-time keys made of quantum randomness.

    \b
    Exit codes: 0 done; 1 refused or wrong; 2 usage; 75 try again later;
    78 change something here first; 130 interrupted.
    """
    context.obj = Here(home.expanduser(), passphrase_file)


def main() -> None:
    """Run a command. Exit 0: done; 1: refused or wrong; 2: usage; 75: try later; 78: change something here first."""
    # As Ctrl-C does: what was begun is tidied up on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        code = cli(standalone_mode=False)
    except QuStreamError as error:
        code = _failed(error)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("qustream: interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; writing the rest would only fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _failed(file_fault(Path(error.filename or "standard input or output"), error))
    sys.exit(code)


def _failed(error: QuStreamError) -> int:
    click.echo(harmless(f"qustream: {error}"), err=True)
    return error.exit_code
