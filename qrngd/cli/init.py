"""`qrngd init`: a directory with a keystore and a commented configuration."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from pathlib import Path

import click

from qrngd.cli.options import CREDENTIAL, KEYSTORE_KIND
from qrngd.config import parse_config
from qrngd.datadir import IDENTITY_FILE, DataDirectory
from qrngd.device_config import DeviceConfig, DeviceKind
from qustream.errors import fault
from qustream.identity import files, keystore
from qustream.identity.signing import SEED_BYTES, SigningKey
from qustream.model.ids import IdKind, to_text
from qustream.wire.codec import encode

__all__ = ["init"]

CONFIG = """\
# A QuStream QRNG server. Paths are relative to this file.

{chain:<34} # the network this server belongs to
data_dir = "data"                  # the server's key, and numbers that must not repeat: never restore an old copy beside a newer one
{passphrase:<34} # opens the key where there is no systemd credential `qrngd` and no terminal; mode 0600

{listen:<34} # where nodes connect, over PQ-TLS
{unix:<34} # for a node on this machine
# unix_uids = [990]                # user ids that may use it; without this key only the server's own
{status_listen:<34} # /livez /readyz /v1/status /metrics /v1/log; keep it on a private address

{network}

# attestation_lifetime_s = 3600
# stock_units = 16                 # units kept ready in memory, for each device
# node_units_per_minute = 0        # most that one node gets; 0: as much as it asks for
# leaf_log_keep_bytes = 1073741824 # how much of the public leaf log is kept
# log_level = "info"

# As many [[device]] as there are devices, each with a name of its own; nothing else is ever read.
[[device]]
{device}
# [[allow]]                        # {allow}
# id = "qn1..."
# name = "site A"
"""

BY_FILE = """\
# Who may have a feed: every node that is licensed by the network file, and the nodes listed as [[allow]].
"""
BY_CHAIN = """\
# Who may have a feed: every node that is licensed on the chain, as these nodes prove it; if there are [[allow]], these of them alone.
"""

EMULATOR = """\
name = {name}
kind = "emulator"                  # /dev/urandom; says so in every attestation, and only test networks accept it
{faults}"""

DEVICE = """\
name = {name}
kind = {kind}
path = {path}
{min_entropy:<34} # the maker's claim for one sample, in thousandths of a bit
# assessed_min_entropy_millibits = 6500 # a laboratory's figure: the smaller counts
# sample_bits = 8
# model = ""
# serial = ""                      # of a device that tells its own: another one in its place is refused
# nominal_rate_bps = 0             # what it should deliver, for alerts
# conditioned = false              # true if the device conditions by itself
{more}"""

# What only some kinds have.
MORE: dict[DeviceKind, str] = {
    "chardev": '# source = ""                      # of /dev/hwrng: what rng_current must say\n',
    "serial": "# baud = 115200\n",
    "qcicada": '# device_authority = ""            # the maker\'s public key: every read is signed and verified then\n',
    "quantis": '# source = ""                      # the card\'s place on the bus, as qrngd devices shows it\n',
    "appliance": "",
}


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="Made if it is not there.")
@click.option("--chain", default="qustream", show_default=True, help="The network's chain id.")
@click.option("--network-file", default="network.toml", show_default=True)
@click.option("--network-key", default="", help="The id of the key that signs the network file (qnet1…).")
@click.option("--checkpoint", default="", help="In place of these two: a chain, from this checkpoint (qcp1…) on; needs --node.")
@click.option("--node", "nodes", multiple=True, metavar="ID@HOST:PORT", help="Asked about the chain (qn1…); may be repeated.")
@click.option("--listen", default="0.0.0.0:7300", show_default=True)
@click.option("--unix", default="", help="Path of a Unix socket for a node on this machine.")
@click.option("--status-listen", default="127.0.0.1:7390", show_default=True)
@click.option(
    "--device",
    default="/dev/hwrng",
    show_default=True,
    help="A path, or a path with its kind before it: serial:, qcicada:, quantis:, appliance: (the reader's FIFO); `emulator`.",
)
@click.option("--name", default="device", show_default=True, help="What commands, metrics and alerts call the device.")
@click.option("--min-entropy-millibits", type=click.IntRange(1, 16_000), help="What the device's maker claims for one sample.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Else $CREDENTIALS_DIRECTORY/qrngd (systemd), else asked for.",
)
def init(
    directory: Path, *, device: str, min_entropy_millibits: int | None, passphrase_file: Path | None, nodes: tuple[str, ...],
    **settings: str,
) -> None:  # fmt: skip
    """Make a server's key and configuration. Prints the server's id; gives `qrngd.pub` to whoever keeps the network file."""
    if settings["checkpoint"] and settings["network_key"]:
        raise fault("E-CONFIG", "checkpoint and network_key: who is licensed is a chain's to say, or a network file's")
    text = _config_text(device, min_entropy_millibits, settings, passphrase_file, nodes)
    is_known = bool(settings["network_key"] or settings["checkpoint"])
    # What `run` would refuse is refused before there is a key; whom to allow may come later.
    later = "" if is_known else f'\n[[allow]]\nid = "{to_text(IdKind.NODE, bytes(32))}"\n'
    parse_config(text + later, directory)
    passphrase = keystore.find_passphrase(CREDENTIAL, file=passphrase_file, prompt=sys.stdin.isatty())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise fault("E-FILE", f"{directory}: {error.strerror}") from None
    DataDirectory.create(directory / "data")
    key = SigningKey(secrets.token_bytes(SEED_BYTES))
    keystore.write(directory / "data" / IDENTITY_FILE, KEYSTORE_KIND, key.seed, passphrase)
    public = base64.b64encode(encode(key.public)) + b"\n"
    files.replace(directory / "qrngd.pub", public, mode=0o644)
    config = directory / "qrngd.toml"
    if not config.exists():
        files.create(config, text.encode(), mode=0o644)
    click.echo(to_text(IdKind.QRNG, key.id))
    first = "" if is_known else "say there who may have a feed, then "
    whose = "whoever registers it on the chain" if settings["checkpoint"] else "the network file"
    click.echo(f"configuration: {config}; for {whose}: {directory / 'qrngd.pub'}", err=True)
    click.echo(f"next: {first}qrngd selftest --config {config} and qrngd run --config {config}", err=True)


def _config_text(
    device: str, min_entropy_millibits: int | None, settings: dict[str, str], passphrase_file: Path | None = None,
    nodes: tuple[str, ...] = (),
) -> str:  # fmt: skip
    """JSON strings are TOML strings."""
    quoted = {name: json.dumps(value) for name, value in settings.items()}
    chosen = DeviceConfig.from_text(device)
    kind, path = chosen.kind, str(chosen.path)
    if kind == "emulator":
        what = EMULATOR.format(name=quoted["name"], faults=f"faults = {json.dumps(chosen.faults)}\n" if chosen.faults else "")
    elif min_entropy_millibits is None:
        raise click.UsageError(f"--min-entropy-millibits: what does the maker of {path} claim for one sample? Nobody can guess it.")
    else:
        claim = f"min_entropy_millibits = {min_entropy_millibits}"
        what = DEVICE.format(name=quoted["name"], kind=json.dumps(kind), path=json.dumps(path), min_entropy=claim, more=MORE[kind])
    checkpoint = settings.get("checkpoint", "")
    if checkpoint or nodes:
        network = f"{BY_CHAIN}checkpoint = {json.dumps(checkpoint)}\nnodes = {json.dumps(list(nodes), ensure_ascii=False)}"
    elif settings["network_key"]:
        network = f"{BY_FILE}network_file = {quoted['network_file']}\nnetwork_key = {quoted['network_key']}"
    else:
        network = f'{BY_FILE}# network_file = "network.toml"\n# network_key = "qnet1..."'
    return CONFIG.format(
        chain=f"chain = {quoted['chain']}",
        passphrase=f"passphrase_file = {json.dumps(str(passphrase_file.absolute()))}"
        if passphrase_file
        else '# passphrase_file = "passphrase"',
        listen=f"listen = [{quoted['listen']}]",
        unix=f"unix = {quoted['unix']}" if settings["unix"] else '# unix = "/run/qrngd/feed.sock"',
        status_listen=f"status_listen = {quoted['status_listen']}",
        network=network,
        allow="if there are any, no other licensed node has a feed"
        if checkpoint
        else "as many as there are nodes beside those of the network file",
        device=what,
    )
