"""`qnode init`: a directory with a keystore and a commented configuration."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

import click

from qnode.cli.options import KEYSTORE_KIND, new_passphrase
from qnode.store.history import allow_first_start
from qustream.errors import fault
from qustream.identity import files, keystore
from qustream.identity.signing import SEED_BYTES, SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.wire.codec import encode

__all__ = ["init"]

CONFIG = """\
# A QuStream node. Paths are relative to this file. `qnode doctor --config THIS` checks all of it.

{chain:<34} # the network this node belongs to
{network_file:<34} # who belongs to it, signed
{network_key:<34} # the key that signs the network file (qnet1...)

data_dir = "data"                  # held blocks and spent marks; back it up without the file `slots`
keystore = "node.keystore"         # opened by the systemd credential `qnode`, passphrase_file, or at the terminal
# passphrase_file = "passphrase"   # only where there are no credentials; mode 0600

{listen:<34} # where devices connect; the network must list an address that leads here
{status_listen:<34} # /livez /readyz /v1/status /v1/peers /metrics; keep it on a private address

# pool_units = 8                   # units kept in memory
# held_blocks = 4096               # blocks kept for recipients; 279 KB each
# connections = 512
# connections_per_address = 64
# addresses = ["node.example:7400"]  # where other nodes find this one, if the network file does not say it right
# peers = true                     # links to other nodes
# log_level = "info"

{qrngd}"""

QRNGD = """\
[[qrngd]]                          # a QRNG server; several may be listed
address = {address}
id = {id}
"""


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="Made if it is not there.")
@click.option("--chain", default="qustream", show_default=True, help="The network's chain id.")
@click.option("--network-file", type=click.Path(path_type=Path, dir_okay=False), help="Default: network.toml in the directory.")
@click.option("--network-key", default="", help="The id of the key that signs the network file (qnet1…).")
@click.option("--listen", default="0.0.0.0:7400", show_default=True)
@click.option("--status-listen", default="127.0.0.1:7480", show_default=True)
@click.option("--qrngd", "servers", multiple=True, metavar="ADDRESS=ID", help="Such as 10.0.0.5:7300=qr1…; may be repeated.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Else $CREDENTIALS_DIRECTORY/qnode (systemd), else asked for.",
)
def init(
    directory: Path, *, network_file: Path | None, servers: tuple[str, ...], passphrase_file: Path | None, **settings: str
) -> None:  # fmt: skip
    """Make a node's keys and configuration. Prints the node id; gives `node.pub` to whoever keeps the network file.

    Nothing that is there is overwritten: not a keystore, which is an error, nor a configuration, which is kept.
    """
    text = _config_text(network_file, servers, settings)
    if os.path.lexists(directory / "node.keystore"):
        raise fault("E-KEYSTORE-EXISTS", f"{directory / 'node.keystore'} exists")
    passphrase = new_passphrase(passphrase_file)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "data").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise fault("E-FILE", f"{directory}: {error.strerror}") from None
    allow_first_start(directory / "data")
    key = SigningKey(secrets.token_bytes(SEED_BYTES))
    config = directory / "qnode.toml"
    if not config.exists():
        files.create(config, text.encode(), mode=0o644)
    files.replace(directory / "node.pub", base64.b64encode(encode(key.public)) + b"\n", mode=0o644)
    # Last, so that whatever is interrupted before can be done again.
    keystore.write(directory / "node.keystore", KEYSTORE_KIND, key.seed, passphrase)
    click.echo(to_text(IdKind.NODE, key.id))
    click.echo(f"configuration: {config}; for the network file: {directory / 'node.pub'}; next: qnode doctor --config {config}", err=True)


def _config_text(network_file: Path | None, servers: tuple[str, ...], settings: dict[str, str]) -> str:
    """JSON strings are TOML strings."""
    # What somebody types is relative to where he is, what a file says to where it lies.
    path = "network.toml" if network_file is None else str(network_file.absolute())
    values = settings | {"network_file": path}
    quoted = {name: f"{name} = {json.dumps(value)}" for name, value in values.items()}
    quoted["listen"] = f"listen = [{json.dumps(settings['listen'])}]"
    example = "".join(f"# {line}\n" for line in QRNGD.format(address='"10.0.0.5:7300"', id='"qr1..."').splitlines())
    return CONFIG.format(**quoted, qrngd="\n".join(_server(entry) for entry in servers) or example)


def _server(entry: str) -> str:
    address, equals, text = entry.rpartition("=")
    if not equals or not address:
        raise click.UsageError(f"--qrngd {entry}: expected ADDRESS=ID")
    if address.startswith("unix:"):
        address = f"unix:{Path(address.removeprefix('unix:')).absolute()}"
    return QRNGD.format(address=json.dumps(address), id=json.dumps(text))
