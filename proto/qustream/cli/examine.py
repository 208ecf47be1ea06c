"""`qustream verify`, `inspect` and `revoke`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from qustream.cli.context import Here
from qustream.cli.files import file_argument, json_option, source_of
from qustream.cli.leaf_log import look_up
from qustream.cli.machine import print_json
from qustream.cli.screen import blocks_table, chains_text, clean, harmless, moment, size_text
from qustream.client.reports import Report, Revoked
from qustream.envelope import Header, read_header
from qustream.errors import EX_TEMPFAIL, Unavailable, fault
from qustream.identity.files import file_fault
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass

__all__ = ["inspect", "revoke", "verify"]


@click.command()
@file_argument
@click.option("--blocks", is_flag=True, help="As a recipient: also collect the blocks and verify where each came from.")
@click.option(
    "--log", "logs", multiple=True, metavar="SOURCE", help="With --blocks: also look each leaf up in this leaf log; may be repeated."
)
@json_option
@click.pass_obj
def verify(here: Here, /, file: Path, *, blocks: bool, logs: tuple[str, ...], as_json: bool) -> None:
    """Verify an envelope without opening it: structure, sender, content, and with --blocks its randomness.

    SOURCE is a directory of a QRNG server's published segments, or the http address of its status pages; the log is audited, too.
    Exit 0: everything that was to be verified holds; 75: a node could not be asked; 1: something does not hold.
    """
    if logs and not blocks:
        raise click.UsageError("--log goes with --blocks")
    with here.client() as client:
        report = client.verify(source_of(file), blocks=blocks)
    if not as_json:
        _say_report(file, report)
    looked_up = look_up(here, logs, report.blocks) if logs else []
    if as_json:
        print_json(report if not logs else {"report": report, "leaves": tuple(looked_up)})
    for leaf in looked_up if not as_json else ():
        click.echo(str(leaf))
    if any(block.doubt for block in report.blocks) or any(leaf.holds is False for leaf in looked_up):
        sys.exit(1)
    codes = [suspect.code for suspect in report.suspects]
    if codes:
        sys.exit(EX_TEMPFAIL if all(isinstance(fault(code), Unavailable) for code in codes) else 1)


def _say_report(file: Path, report: Report) -> None:
    sender = f"{to_text(IdKind.USER, report.sender)} ({clean(report.sender_device_label)})"
    click.echo(f"{harmless(str(file))}: sent by {sender}, made {moment(report.created_ms)} UTC; content as signed")
    click.echo(f"to be collected before {moment(report.expires_ms)} UTC")
    if report.sender_device_revoked:
        click.echo("WARNING: the sender has revoked the device that signed this")
    if report.blocks:
        click.echo(blocks_table(report.blocks))
        click.echo(chains_text(report.blocks))
    for suspect in report.suspects:
        click.echo(f"NOT verified: {suspect}")


@click.command()
@file_argument
@json_option
def inspect(file: Path, *, as_json: bool) -> None:
    """Show what an envelope says of itself, without keys or network. Nothing of it is proven; `verify` proves."""
    facts = facts_of(_header(file))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            shown = " ".join(line.values()) if isinstance(line, dict) else line
            click.echo(f"{name.replace('_', ' '):15} {shown}")


def facts_of(header: Header) -> dict[str, object]:
    """What a header says, ids as text."""
    core = header.core
    return {
        "network": clean(core.chain),
        "sender": to_text(IdKind.USER, core.sender),
        "sender_device": to_text(IdKind.DEVICE, header.certificate.device_key.id),
        "recipients": [to_text(IdKind.USER, user) for user in core.recipients],
        "mode": "stream" if header.pad_bytes is None else f"pad, {size_text(header.pad_bytes)}",
        "created": _moment(core.created_ms),
        "collect_before": _moment(core.expires_ms),
        "grant": to_text(IdKind.GRANT, core.grant),
        "index": core.index,
        "blocks": [{"class": NodeClass(b.node_class).name.lower(), "node": to_text(IdKind.NODE, b.node)} for b in core.blocks],
    }


def _moment(at_ms: int) -> str:
    return f"{moment(at_ms)} UTC"


def _header(file: Path) -> Header:
    if str(file) == "-":
        return read_header(sys.stdin.buffer)
    try:
        with file.open("rb") as stream:
            return read_header(stream)
    except OSError as error:
        raise file_fault(file, error) from None


@click.command()
@file_argument
@json_option
@click.pass_obj
def revoke(here: Here, /, file: Path, *, as_json: bool) -> None:
    """Have the nodes erase the blocks of an envelope you sent.

    Exit 0: two nodes of a class have signed that they did, which is enough; 75: too few could be asked, try again; 1: too few did.
    """
    with here.client() as client:
        done = client.revoke(source_of(file))
    if as_json:
        print_json(done)
    else:
        _say_revoked(done)
    if not done.holds:
        sys.exit(EX_TEMPFAIL if any(isinstance(node.error, Unavailable) for node in done.nodes) else 1)


def _say_revoked(done: Revoked) -> None:
    for node in done.nodes:
        said = f"erased {moment(node.erased_ms)} UTC" if node.erased_ms is not None else f"NOT erased: {node.error}"
        said += ", before this was asked: collected, expired or revoked" if node.was_before else ""
        click.echo(f"{NodeClass(node.node_class).name.lower():10} {to_text(IdKind.NODE, node.node)} {said}")
    claim = (
        "whoever has not collected by now cannot open it any more" if done.holds else "too few nodes have erased: it can still be opened"
    )
    click.echo(claim)
    if any(node.was_before for node in done.nodes):
        click.echo("blocks that were gone before may have been collected, and whoever collected them can open it")
