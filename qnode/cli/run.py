"""`qnode run`: the daemon. `qnode id`: whose it is. `qnode restore`: after a backup has been put back."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from qnode.cli.options import config_option, open_key, open_votes
from qnode.config import load_config
from qustream.errors import fault
from qustream.model.genesis import Genesis
from qustream.model.ids import IdKind, to_text
from qustream.wire.codec import encode

__all__ = ["identity", "restore", "run"]


@click.command()
@config_option
def run(config_path: Path) -> None:
    """Run the node until SIGTERM or SIGINT."""
    config = load_config(config_path)
    key, votes = open_key(config), open_votes(config)
    # The event loop and the database are loaded for this command alone: `qnode status` answers faster without.
    from qnode import daemon
    from qustream.aio.logs import configure_logs

    configure_logs(config.log_level)
    daemon.run(config, key, votes)


@click.command(name="id")
@config_option
@click.option("--public", is_flag=True, help="The whole public key in base64, as the network file wants it.")
def identity(config_path: Path, public: bool) -> None:
    """Print the node's id (qn1…)."""
    key = open_key(load_config(config_path))
    click.echo(base64.b64encode(encode(key.public)).decode() if public else to_text(IdKind.NODE, key.id))


@click.command()
@config_option
def restore(config_path: Path) -> None:
    """Take over a data directory that was put back from a backup. The blocks it held are gone, for a backup does not hold their
    keys; and as it does not know what was spent after it was made, the node serves only grants of epochs still to come."""
    config = load_config(config_path)
    key = open_key(config)
    from qnode import daemon

    if config.genesis_file is not None:
        from qnode.service.chain_node import read_genesis

        epoch = _epoch_by_clock(read_genesis(config.genesis_file, config.chain), daemon.now_ms())
    else:
        epoch = daemon.open_registry(config).epoch(daemon.now_ms()).number
    with daemon.open_store(config, key, restored_in_epoch=epoch) as store:
        click.echo(f"restored; {store.marks} spent indices are remembered, grants are served from epoch {store.floor_epoch} on")


def _epoch_by_clock(genesis: Genesis, now_ms: int) -> int:
    """Not by the chain that is here: it is in no backup, and one that is missing or old knows of no epoch that this node has served since.
    Errors: `E-CLOCK`."""
    if now_ms < genesis.time_ms:
        raise fault("E-CLOCK", f"this clock is {genesis.time_ms - now_ms} ms before the network's genesis")
    return (now_ms - genesis.time_ms) // genesis.parameters.epoch_ms
