"""`qustream encrypt`, `open`, `verify`, `inspect`, `revoke`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from qustream.cli.screen import blocks_table, duration, moment, progress_bar, short, size_text
from qustream.client.client import Client
from qustream.client.reports import Encrypted, Opened
from qustream.client.settings import CREDENTIAL
from qustream.envelope import Header, read_header
from qustream.errors import QuStreamError
from qustream.identity import keystore
from qustream.identity.files import file_fault
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass

__all__ = ["encrypt", "inspect", "open_file", "revoke", "verify"]

SUFFIX = ".qs"
json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output, for programs.")
explain_option = click.option("--explain", is_flag=True, help="Show where each block came from.")
file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="`-` for standard output."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output file if it is there.")


def _client(settings: tuple[Path, Path | None]) -> Client:
    home, passphrase_file = settings
    passphrase = keystore.find_passphrase(CREDENTIAL, file=passphrase_file, prompt=sys.stdin.isatty()) if passphrase_file else None
    return Client.from_home(home, passphrase=passphrase)


def _source(path: Path) -> Path | BinaryIO:
    return sys.stdin.buffer if str(path) == "-" else path


def _sink(path: Path) -> Path | BinaryIO:
    return sys.stdout.buffer if str(path) == "-" else path


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if str(path) != "-" else None
    except OSError:
        return None


@click.command()
@file_argument
@click.option("--to", "recipients", multiple=True, required=True, metavar="qu1…", help="Who may open it; may be repeated.")
@output_option
@click.option("--lifetime", type=duration, help="How long recipients may collect, such as 12h or 7d.")
@click.option("--pad", is_flag=True, help="One-time pad; at most 196,608 bytes.")
@overwrite_option
@explain_option
@json_option
@click.pass_obj
def encrypt(settings: tuple[Path, Path | None], /, file: Path, *, recipients: tuple[str, ...], output: Path | None, **options: Any) -> None:
    """Encrypt FILE for the users named with --to. Uses one request of your grant."""
    target = output or (Path("-") if str(file) == "-" else file.with_name(file.name + SUFFIX))
    client = _client(settings)
    with progress_bar("encrypting", _size(file)) as progress:
        done = client.encrypt(
            _source(file), _sink(target), to=recipients, lifetime_ms=options["lifetime"], pad=options["pad"],
            replace=options["overwrite"], progress=progress,
        )  # fmt: skip
    if options["as_json"]:
        _print_json(done, to_stderr=str(target) == "-")
        return
    grant = f"request {done.index} of grant {short(IdKind.GRANT, done.grant)}"
    click.echo(f"{target}: {size_text(done.size_bytes)} for {len(set(recipients))} recipient(s), {grant}", err=True)
    click.echo(
        f"to be collected before {moment(done.expires_ms)} UTC; keys {done.keys_took_ms} ms, content {done.content_took_ms} ms", err=True
    )
    _say_blocks(done, explain=options["explain"])


@click.command("open")
@file_argument
@output_option
@overwrite_option
@explain_option
@json_option
@click.pass_obj
def open_file(
    settings: tuple[Path, Path | None], /, file: Path, *, output: Path | None, overwrite: bool, explain: bool, as_json: bool
) -> None:
    """Open an envelope that was sent to you."""
    if output is None and (str(file) == "-" or file.suffix != SUFFIX):
        raise click.UsageError(f"name the output with -o: {file} does not end in {SUFFIX}")
    target = output or file.with_suffix("")
    client = _client(settings)
    with progress_bar("opening", _size(file)) as progress:
        done = client.open(_source(file), _sink(target), replace=overwrite, progress=progress)
    if as_json:
        _print_json(done, to_stderr=str(target) == "-")
        return
    click.echo(
        f"{target}: {size_text(done.size_bytes)} from {to_text(IdKind.USER, done.sender)}, made {moment(done.created_ms)} UTC", err=True
    )
    click.echo(f"keys {done.keys_took_ms} ms, content {done.content_took_ms} ms", err=True)
    if done.sender_device_revoked:
        click.echo("WARNING: the sender has revoked the device that signed this since", err=True)
    for node in done.inconsistent:
        click.echo(f"WARNING: node {to_text(IdKind.NODE, node)} gave a block that does not fit the others", err=True)
    _say_blocks(done, explain=explain)


def _say_blocks(done: Encrypted | Opened, *, explain: bool) -> None:
    for suspect in done.suspects:
        click.echo(f"{'WARNING' if suspect.is_fault else 'note'}: another node served instead of {suspect}", err=True)
    for node in done.unacknowledged:
        click.echo(f"note: node {short(IdKind.NODE, node)} could not be told that its block arrived; it forgets it by itself", err=True)
    if explain:
        click.echo(blocks_table(done.blocks), err=True)


@click.command()
@file_argument
@click.option("--blocks", is_flag=True, help="As a recipient: also collect the blocks and verify where each came from.")
@json_option
@click.pass_obj
def verify(settings: tuple[Path, Path | None], /, file: Path, *, blocks: bool, as_json: bool) -> None:
    """Verify an envelope without opening it: structure, sender, content, and with --blocks its randomness."""
    report = _client(settings).verify(_source(file), blocks=blocks)
    doubtful = any(block.doubt for block in report.blocks) or bool(report.suspects)
    if as_json:
        _print_json(report, to_stderr=False)
    else:
        click.echo(f"{file}: sent by {to_text(IdKind.USER, report.sender)}, made {moment(report.created_ms)} UTC; content as signed")
        if report.sender_device_revoked:
            click.echo("WARNING: the sender has revoked the device that signed this since")
        if report.blocks:
            click.echo(blocks_table(report.blocks))
        for suspect in report.suspects:
            click.echo(f"NOT verified: {suspect}")
    sys.exit(1 if doubtful else 0)


@click.command()
@file_argument
@json_option
def inspect(file: Path, *, as_json: bool) -> None:
    """Show what an envelope says of itself, without keys or network. Nothing of it is proven; `verify` proves."""
    header = _header(file)
    core = header.core
    facts = {
        "network": core.chain,
        "sender": to_text(IdKind.USER, core.sender),
        "sender_device": to_text(IdKind.DEVICE, header.certificate.device_key.id),
        "recipients": [to_text(IdKind.USER, user) for user in core.recipients],
        "mode": "stream" if header.pad_bytes is None else "pad",
        "created": f"{moment(core.created_ms)} UTC",
        "collect_before": f"{moment(core.expires_ms)} UTC",
        "grant": to_text(IdKind.GRANT, core.grant),
        "index": core.index,
        "blocks": [{"node": to_text(IdKind.NODE, b.node), "class": NodeClass(b.node_class).name.lower()} for b in core.blocks],
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{name.replace('_', ' '):15} {line if not isinstance(line, dict) else ' '.join(line.values())}")


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
def revoke(settings: tuple[Path, Path | None], /, file: Path, *, as_json: bool) -> None:
    """Have the nodes erase the blocks of an envelope you sent. Exit 0 when two nodes of a class have signed for it."""
    done = _client(settings).revoke(_source(file))
    if as_json:
        _print_json(done, to_stderr=False)
    else:
        for report in done.nodes:
            said = f"erased {moment(report.erased_ms)} UTC" if report.erased_ms is not None else f"NOT erased: {report.error}"
            click.echo(f"{NodeClass(report.node_class).name.lower():10} {to_text(IdKind.NODE, report.node)} {said}")
        claim = (
            "whoever has not collected by now cannot open it any more"
            if done.holds
            else "too few nodes have erased; it can still be opened"
        )
        click.echo(claim)
    sys.exit(0 if done.holds else 1)


def _print_json(value: object, *, to_stderr: bool) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain)).decode(), err=to_stderr)


def _plain(value: object) -> object:
    if isinstance(value, QuStreamError):
        return {"code": value.code, "detail": value.detail}
    raise TypeError(type(value).__name__)
