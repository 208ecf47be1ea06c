"""`qnode validator sign-state`: what a validator has signed, looked at, and taken to another machine (`proto/spec/state.md`, §4)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from qnode.cli.options import config_option, open_votes
from qnode.config import Config, load_config
from qnode.store.sign_state import SignStateFile
from qustream.errors import fault
from qustream.identity.voting import VoteKey

__all__ = ["MOVED", "sign_state"]

# What an export leaves here in place of the file: the node does not vote without, and whoever looks for it sees what became of it.
MOVED = ".moved"
_T = TypeVar("_T")
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group("sign-state")
def sign_state() -> None:
    """What this validator has signed. It can be moved, never copied: two machines with one vote key are slashed."""


def _memory(config_path: Path) -> tuple[Config, SignStateFile]:
    config = load_config(config_path)
    votes = open_votes(config)
    if votes is None or config.validator is None:
        raise fault("E-CONFIG", "the configuration has no [validator]; make its keys with qnode validator keys")
    return config, SignStateFile(config.validator.sign_state_path, VoteKey(votes.seed).id)


def _stopped(config: Config, act: Callable[[], _T]) -> _T:
    """Do something while no node can run. Errors: `E-DATA-LOCKED` if one does."""
    try:
        handle = os.open(config.data_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # it has never run here
        return act()
    except OSError as error:
        raise fault("E-FILE", f"{config.data_dir}: {os.strerror(error.errno or 0)}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return act()
    except BlockingIOError:
        raise fault("E-DATA-LOCKED", f"a node works in {config.data_dir}; stop it first, for it goes on signing") from None
    finally:
        os.close(handle)


@sign_state.command("show")
@config_option
def show_state(config_path: Path) -> None:
    """What is remembered, and whether it is this vote key's. The node may be running."""
    _, memory = _memory(config_path)
    state = memory.load()
    votes = f"signed in {len(state.votes)} views above it" if state.votes else "nothing signed above it"
    click.echo(f"{memory.path}\nrotation {state.rotation}, last final view {state.final_view}, {votes}")


@sign_state.command("export")
@_file
@config_option
def export_state(file: Path, config_path: Path) -> None:
    """Take what was signed out of this machine, into FILE. The node must be stopped, and votes here no more until it is imported again."""
    config, memory = _memory(config_path)

    def move() -> None:
        memory.export_to(file)
        os.replace(memory.path, memory.path.with_name(memory.path.name + MOVED))

    _stopped(config, move)
    click.echo(
        f"{file}: take it, and the vote keystore, to the other machine; qnode validator sign-state import {file.name} there", err=True
    )
    click.echo("this machine does not vote any more; never import the same file twice", err=True)


@sign_state.command("import")
@_file
@config_option
def import_state(file: Path, config_path: Path) -> None:
    """Take over FILE, as exported on the machine that voted before. What is here already must be older, or it is refused."""
    config, memory = _memory(config_path)
    state = _stopped(config, lambda: memory.import_from(file))
    click.echo(f"rotation {state.rotation}, last final view {state.final_view}; the other machine must never vote again", err=True)
