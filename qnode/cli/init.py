"""`qnode init`: a directory with a keystore and a commented configuration; for a validator what it votes with, too."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from qnode.cli.genesis_file import read_genesis
from qnode.cli.options import KEYSTORE_KIND, new_passphrase
from qnode.cli.validator import LINKS, make_keys
from qnode.config import named_node
from qnode.store.history import allow_first_start
from qustream.errors import QuStreamError, fault
from qustream.identity import files, keystore
from qustream.identity.signing import SEED_BYTES, SigningKey
from qustream.model.ids import IdKind, from_text, to_text
from qustream.rules.peering import is_address
from qustream.wire.codec import encode

__all__ = ["init"]

CONFIG = """\
# A QuStream node. Paths are relative to this file. `qnode doctor --config THIS` checks all of it.

{chain:<34} # the network this node belongs to
{network}
data_dir = "data"                  # held blocks and spent marks{and_chain}; back it up without {left_out}
keystore = "node.keystore"         # opened by the systemd credential `qnode`, passphrase_file, or at the terminal
# passphrase_file = "passphrase"   # only where there are no credentials; mode 0600

{listen:<34} # where devices connect; the network must list an address that leads here
{status_listen:<34} # /livez /readyz /v1/status /v1/peers /metrics; keep it on a private address

# pool_units = 8                   # units kept in memory
# held_blocks = 4096               # blocks kept for recipients; 279 KB each
# connections = 512
# connections_per_address = 64
{addresses}
{peers}# log_level = "info"
{validator}
{qrngd}"""

BY_FILE = """\
{network_file:<34} # who belongs to it, signed
{network_key:<34} # the key that signs the network file (qnet1...)
"""
BY_CHAIN = """\
{genesis_file:<34} # how its chain begins; the chain says who belongs to it
{checkpoint}
{nodes}
"""
VALIDATOR = """
[validator]                        # it votes, once a licence is registered with it
vote_keystore = "votes.keystore"   # opened as `keystore`; no second machine may ever have it
sign_state = "sign-state"          # what it has signed: in no backup, moved by `qnode validator sign-state` alone
"""

QRNGD = """\
[[qrngd]]                          # a QRNG server; several may be listed
address = {address}
id = {id}
"""


VOTES, MEMORY = "votes.keystore", "sign-state"


@dataclass(frozen=True)
class Asked:
    """What was given on the command line."""

    chain: str | None
    genesis_file: Path | None
    checkpoint: str
    nodes: tuple[str, ...]
    votes: bool
    addresses: tuple[str, ...]
    network_file: Path | None
    network_key: str
    listen: str
    status_listen: str
    servers: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.genesis_file is None and (self.votes or self.checkpoint or self.nodes):
            raise click.UsageError("--validator, --checkpoint and --node are about a chain: --genesis-file says which")
        if self.genesis_file is not None and (self.network_file is not None or self.network_key):
            raise click.UsageError("--genesis-file or --network-file: the network is a chain's, or a file's")
        if self.checkpoint:
            from_text(self.checkpoint, IdKind.CHECKPOINT)
        for node in self.nodes:
            try:
                named_node(node)
            except QuStreamError as error:
                raise click.UsageError(f"--node {node}: qn1…@host:port is needed: {error.detail}") from None
        for address in self.addresses:
            if not is_address(address):
                raise click.UsageError(f"--address {address}: host:port is needed, such as node.example.org:7400")

    def settings(self) -> dict[str, str]:
        """By their names in the configuration. What somebody types is relative to where he is, what a file says to where it lies.
        Errors: `E-FILE`, `E-CONFIG` if the genesis document is none, or another chain's."""
        chain, path = self.chain or "qustream", "network.toml" if self.network_file is None else str(self.network_file.absolute())
        if self.genesis_file is not None:
            begins = read_genesis(self.genesis_file).chain
            if self.chain not in (None, begins):
                raise fault("E-CONFIG", f"{self.genesis_file} begins the chain {begins!r}, not {self.chain!r}")
            chain, path = begins, str(self.genesis_file.absolute())
        names = ("network_key", "checkpoint", "listen", "status_listen")
        return {"chain": chain, "network_file": path, "genesis_file": path} | {name: getattr(self, name) for name in names}


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="Made if it is not there.")
@click.option("--chain", help="The network's chain id; default: the genesis document's, else qustream.")
@click.option("--genesis-file", type=click.Path(path_type=Path, dir_okay=False), help="The document its chain begins with.")
@click.option("--checkpoint", default="", help="Begin with the chain's state at this checkpoint (qcp1…), not with its first block.")
@click.option("--node", "nodes", multiple=True, metavar="ID@HOST:PORT", help="Asked for the chain beside genesis' nodes; may be repeated.")
@click.option("--validator", "votes", is_flag=True, help="Make what a validator votes with, too; needs --genesis-file.")
@click.option("--address", "addresses", multiple=True, metavar="HOST:PORT", help="Where others reach this node; may be repeated.")
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
def init(directory: Path, *, passphrase_file: Path | None, **given: Any) -> None:
    """Make a node's keys and configuration, on a chain (--genesis-file) or by a network file. Prints the node id, and what comes next.

    Nothing that is there is overwritten: not a keystore, which is an error, nor a configuration, which is kept.
    """
    asked = Asked(**given)
    text = _config_text(asked)
    for name in ("node.keystore", VOTES)[: 1 + asked.votes]:
        if os.path.lexists(directory / name):
            raise fault("E-KEYSTORE-EXISTS", f"{directory / name} exists")
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
    if asked.votes:
        make_keys(directory / VOTES, directory / MEMORY, links=LINKS, public=None, passphrase=passphrase)
    # Last, so that whatever is interrupted before can be done again.
    keystore.write(directory / "node.keystore", KEYSTORE_KIND, key.seed, passphrase)
    click.echo(to_text(IdKind.NODE, key.id))
    click.echo("\n".join(_next_steps(asked, directory, config)), err=True)


def _next_steps(asked: Asked, directory: Path, config: Path) -> list[str]:
    """In the order in which they are done."""
    doctor = f"qnode doctor --config {config}"
    if asked.genesis_file is None:
        return [f"configuration: {config}; for the network file: {directory / 'node.pub'}; next: {doctor}"]
    chain = asked.settings()["chain"]
    steps = [
        f"{doctor}    mend what it says",
        f"qnode run --config {config}    or its systemd unit; it follows the chain without a licence: qnode status",
        f"qustream wallet new --chain {chain} --api {_pages(asked)}    or restore; the licence's owner, with the QST for it",
        "qnode licence list --mine    none? qnode licence list --for-sale, then qnode licence buy LICENCE",
        f"qnode licence activate LICENCE --config {config}{'' if asked.addresses else '    (first: addresses in the configuration)'}",
        f"qnode wait --timeout 600 --config {config}    it is linked now, without a start",
    ]
    if asked.votes:
        steps += [
            "qnode stake add LICENCE",
            f"qnode validator register LICENCE --config {config}    when the chain is here; it votes from the rotation after next on",
        ]
    kept = f"back up now, with the passphrase: node.keystore{f' and {VOTES}; {MEMORY} never' if asked.votes else ''}"
    return [f"configuration: {config}", kept, "next, in this order:", *(f"  {number}. {step}" for number, step in enumerate(steps, 1))]


def _pages(asked: Asked) -> str:
    """Of this node itself."""
    return f"http://{asked.status_listen}" if asked.status_listen else "URL"


def _config_text(asked: Asked) -> str:
    """JSON strings are TOML strings."""
    quoted = {name: f"{name} = {json.dumps(value)}" for name, value in asked.settings().items()}
    quoted["listen"] = f"listen = [{json.dumps(asked.listen)}]"
    on_chain = asked.genesis_file is not None
    if not asked.checkpoint:
        quoted["checkpoint"] = '# checkpoint = "qcp1..."           # begin with the state there, not with the first block'
    shown = json.dumps(list(asked.nodes) or ["qn1...@node.example:7400"], ensure_ascii=False)
    quoted["nodes"] = f"{'' if asked.nodes else '# '}nodes = {shown}  # whom to ask for the chain without a licence, beside genesis' nodes"
    network = (BY_CHAIN if on_chain else BY_FILE).format(**quoted).rstrip()
    told = json.dumps(list(asked.addresses) or ["node.example:7400"])
    why = "where others reach this node" if on_chain else "where other nodes find this one, if the network file does not say it right"
    example = "".join(f"# {line}\n" for line in QRNGD.format(address='"10.0.0.5:7300"', id='"qr1..."').splitlines())
    return CONFIG.format(
        **quoted, network=network + "\n", validator=VALIDATOR if asked.votes else "", and_chain=", the chain" if on_chain else "",
        left_out="`slots` and `chain`" if on_chain else "the file `slots`",
        addresses=f"{'' if asked.addresses else '# '}addresses = {told}  # {why}",
        peers="" if on_chain else "# peers = true                     # links to other nodes\n",
        qrngd="\n".join(_server(entry) for entry in asked.servers) or example,
    )  # fmt: skip


def _server(entry: str) -> str:
    address, equals, text = entry.rpartition("=")
    if not equals or not address:
        raise click.UsageError(f"--qrngd {entry}: expected ADDRESS=ID")
    if address.startswith("unix:"):
        address = f"unix:{Path(address.removeprefix('unix:')).absolute()}"
    return QRNGD.format(address=json.dumps(address), id=json.dumps(text))
