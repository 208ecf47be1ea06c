"""`qnode db`: the chain's database as whoever runs the node looks after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qnode.cli.options import config_option
from qnode.config import load_config
from qustream.errors import fault

if TYPE_CHECKING:
    from qnode.store.chain.checking import Check, Facts

__all__ = ["db"]

FOLDER = "chain"  # in the data directory
MIB = 1 << 20
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def db() -> None:
    """The chain's database: look at it, check it, copy it, make it smaller."""


@db.command()
@config_option
@_json
def info(config_path: Path, as_json: bool) -> None:
    """How far the chain is, what it began with, and how large its database is. The node may be running."""
    with _inspector(config_path) as inspector:
        answer = _facts(inspector.facts())
    click.echo(json.dumps(answer, indent=1) if as_json else _facts_text(answer))


@db.command()
@config_option
@_json
def verify(config_path: Path, as_json: bool) -> None:
    """Check everything against everything: state and root, every block, transaction, receipt and certificate. Exit 78 if something is
    not what it should be. The node may be running; a large chain takes minutes."""
    checks = []
    with _inspector(config_path) as inspector:
        for each in inspector.verify():
            checks.append(each)
            if not as_json:
                click.echo(_check_text(each))
    if as_json:
        rows = [{"name": each.name, "count": each.count, "faults": each.faults, "left_out": each.left_out} for each in checks]
        click.echo(json.dumps({"whole": not any(each.faults for each in checks), "checks": rows}, indent=1))
    bad = [each.name for each in checks if each.faults]
    if bad:
        raise fault("E-DATA-CORRUPT", f"of the chain's database not everything is what it should be: {', '.join(bad)}")


@db.command()
@config_option
@_json
def compact(config_path: Path, as_json: bool) -> None:
    """Write the database anew, without what is free in it. The node must not be running; the disk must have room for both."""
    from qnode.store.chain.checking import compact as write_anew

    before, after = write_anew(_folder(config_path))
    answer = {"bytes_before": before, "bytes_after": after}
    click.echo(json.dumps(answer) if as_json else f"{before / MIB:.1f} MiB before, {after / MIB:.1f} MiB now")


@db.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@config_option
@_json
def backup(target: Path, config_path: Path, as_json: bool) -> None:
    """Copy the database into the directory TARGET, which must be empty or not there, as it is at one moment. The node may be running.

    What a validator has signed is no part of it, and must never be put back from a copy.
    """
    with _inspector(config_path) as inspector:
        inspector.backup(target)
    size = sum(path.stat().st_size for path in target.rglob("data.mdb"))
    click.echo(json.dumps({"target": str(target), "bytes": size}) if as_json else f"{target}: {size / MIB:.1f} MiB")


def _folder(config_path: Path) -> Path:
    return load_config(config_path).data_dir / FOLDER


def _inspector(config_path: Path) -> Any:
    # The database is loaded for these commands alone: `qnode status` answers faster without.
    from qnode.store.chain.checking import Inspector

    return Inspector(_folder(config_path))


def _facts(facts: Facts) -> dict[str, Any]:
    executed = facts.executed
    return {
        "genesis": facts.genesis.hex(),
        "final": {"height": facts.final_height, "digest": facts.final_digest.hex()},
        "executed": executed
        and {
            "height": executed.height, "digest": executed.digest.hex(), "time_ms": executed.time_ms, "epoch": executed.epoch,
            "rotation": executed.rotation, "view": executed.view, "root": facts.root.hex() if facts.root else None,
        },
        "taking_in_snapshot": facts.taking_in is not None,
        "first_height": facts.first_height,
        "bodies_from": facts.bodies_from,
        "bytes": {"file": facts.file_bytes, "used": facts.used_bytes, "map": facts.map_bytes},
        "entries": facts.tables,
    }  # fmt: skip


def _facts_text(answer: dict[str, Any]) -> str:
    executed, size = answer["executed"], answer["bytes"]
    lines = [
        f"genesis    {answer['genesis']}",
        f"final      {answer['final']['height']:,}  {answer['final']['digest']}",
    ]
    if executed:
        lines += [
            f"executed   {executed['height']:,}  {executed['digest']}",
            f"           epoch {executed['epoch']:,}, rotation {executed['rotation']:,}, view {executed['view']:,}",
            f"root       {executed['root']}",
        ]
    else:
        lines.append("executed   nothing: a snapshot of the state is being taken in")
    lines += [
        f"blocks     from {answer['first_height']:,}; transactions and receipts from {answer['bodies_from']:,}",
        f"size       {size['file'] / MIB:.1f} MiB, {size['used'] / MIB:.1f} used; a map of {size['map'] / MIB:,.0f}, which grows by itself",
        *(f"  {name:<14} {count:>12,}" for name, count in answer["entries"].items() if count),
    ]
    return "\n".join(lines)


def _check_text(each: Check) -> str:
    lines = [f"{each.name:<14} {each.count:>12,}  {'ok' if not each.faults else 'NOT as it should be'}"]
    lines += [f"  {wrong}" for wrong in each.faults]
    if each.left_out:
        lines.append(f"  and {each.left_out:,} more")
    return "\n".join(lines)
