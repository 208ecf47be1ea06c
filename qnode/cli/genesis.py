"""`qnode genesis`: how a chain begins, from a description to the one document every node has byte for byte."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import click

from qnode.cli.genesis_file import genesis_of, read_description, read_genesis, shown
from qnode.core.ledger.genesis import SUPPLY, check
from qustream.errors import fault
from qustream.identity import files
from qustream.model.amount import amount_shown
from qustream.model.genesis import LICENCES_MAX, Genesis
from qustream.model.ids import LICENCE_BYTES, IdKind, licence_text, to_text
from qustream.wire.chain import genesis_digest
from qustream.wire.codec import encode
from qustream.wire.light import checkpoint_digest

__all__ = ["genesis"]

DOCUMENT_MODE = 0o644  # everybody is to have it
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def genesis() -> None:
    """The document a chain begins with. All nodes of a network have the same; its digest says whether they do."""


@genesis.command()
@click.argument("description", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), default="genesis.bin", show_default=True)
@_json
def new(description: Path, output: Path, as_json: bool) -> None:
    """Make the document of a DESCRIPTION (TOML; an example: deploy/runbooks, "Beginning a chain"). Prints its digest.

    The same description gives the same document, whoever makes it. Nothing is overwritten.
    """
    made = genesis_of(read_description(description))
    check(made)
    try:
        files.create(output, encode(made), mode=DOCUMENT_MODE)
    except FileExistsError:
        raise fault("E-FILE-EXISTS", f"{output} exists; a chain has one beginning") from None
    digest = genesis_digest(made).hex()
    click.echo(json.dumps({"digest": digest, "file": str(output)}) if as_json else digest)
    click.echo(f"{output}: {_summary(made)}", err=True)


@genesis.command()
@_file
@_json
def show(file: Path, as_json: bool) -> None:
    """Show a document, whether a chain may begin with it, and its digest."""
    made = read_genesis(file)
    check(made)
    answer: dict[str, Any] = {"digest": genesis_digest(made).hex(), **shown(made)}
    click.echo(json.dumps(answer, indent=1, ensure_ascii=False) if as_json else _text(made, answer))


@genesis.command()
@_file
def digest(file: Path) -> None:
    """Print a document's digest: what to compare with everybody else's."""
    made = read_genesis(file)
    check(made)
    click.echo(genesis_digest(made).hex())


@genesis.command()
@_file
def checkpoint(file: Path) -> None:
    """Print what the chain is first known by (qcp1…): `qustream init --checkpoint` takes it for the first 14 days."""
    made = read_genesis(file)
    check(made)
    # The services of a node are loaded for this command alone.
    from qnode.service.light import first_checkpoint

    click.echo(to_text(IdKind.CHECKPOINT, checkpoint_digest(first_checkpoint(made))))


@genesis.command("licence-ids")
@click.argument("count", type=click.IntRange(1, LICENCES_MAX))
def licence_ids(count: int) -> None:
    """Draw COUNT new licence ids, for a description."""
    for _ in range(count):
        click.echo(licence_text(secrets.token_bytes(LICENCE_BYTES)))


def _money(made: Genesis) -> tuple[int, int]:
    staked = sum(licence.node is not None and licence.node.staked for licence in made.licences) * made.parameters.stake
    return sum(held.amount for held in made.accounts), staked


def _summary(made: Genesis) -> str:
    nodes = [licence.node for licence in made.licences if licence.node is not None]
    liquid, staked = _money(made)
    return (
        f"chain {made.chain}: {len(made.licences)} licences, {len(nodes)} with a node, {sum(n.vote is not None for n in nodes)} of these "
        f"vote; {len(made.accounts)} accounts hold {amount_shown(liquid)}, staked {amount_shown(staked)}, "
        f"reserve {amount_shown(SUPPLY - liquid - staked)}"
    )


def _text(made: Genesis, answer: dict[str, Any]) -> str:
    classes = Counter(licence["class"] for licence in answer["licences"])
    lines = [
        f"digest   {answer['digest']}",
        f"begins   {answer['time']}",
        f"holds    {_summary(made)}",
        f"classes  {', '.join(f'{name} {count}' for name, count in sorted(classes.items()))}",
        "parameters",
        *(f"  {name:<20} {value}" for name, value in answer["parameters"].items()),
    ]
    for licence in answer["licences"]:
        node = licence["node"]
        runs = f"{node['id']} {'votes' if node['votes'] else 'staked' if node['staked'] else 'not staked'}" if node else "idle"
        sale = f", for sale at {licence['price']}" if licence["price"] else ""
        lines.append(f"licence  {licence['id']} ({licence['class']}) of {licence['owner']}: {runs}{sale}")
    lines += [f"account  {held['account']} {held['amount']}" for held in answer["accounts"]]
    lines += [f"qrng     {server['id']} {server['name']}" for server in answer["qrng_servers"]]
    return "\n".join(lines)
