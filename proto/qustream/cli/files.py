"""`qustream encrypt` and `qustream open`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from qustream.cli.context import Here
from qustream.cli.machine import print_json
from qustream.cli.screen import blocks_table, clean, duration, harmless, moment, progress_bar, short, size_text
from qustream.client.reports import Encrypted, Opened
from qustream.model.ids import IdKind, to_text

__all__ = ["SUFFIX", "encrypt", "explain_option", "file_argument", "json_option", "open_file", "source_of"]

SUFFIX = ".qs"
json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output, for programs.")
explain_option = click.option("--explain", is_flag=True, help="Show where each block came from.")
file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
output_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), help="`-` for standard output."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the output file if it is there.")


def source_of(path: Path) -> Path | BinaryIO:
    """What a client reads for this argument: `-` is standard input."""
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
def encrypt(here: Here, /, file: Path, *, recipients: tuple[str, ...], output: Path | None, **options: Any) -> None:
    """Encrypt FILE (`-`: standard input) for the users named with --to. Uses one request of your grant.

    Without -o the envelope is FILE.qs, beside it; of standard input it goes to standard output.
    """
    target = output or (file if str(file) == "-" else file.with_name(file.name + SUFFIX))
    client = here.client()
    with client, progress_bar("encrypting", _size(file)) as progress:
        done = client.encrypt(
            source_of(file), _sink(target), to=recipients, lifetime_ms=options["lifetime"], pad=options["pad"],
            replace=options["overwrite"], progress=progress,
        )  # fmt: skip
    if options["as_json"]:
        print_json(done, err=str(target) == "-")
        return
    count = len(set(recipients))
    said = f"{size_text(done.size_bytes)} for {count} recipient{'s' if count > 1 else ''}"
    _say(f"{target}: {said}, request {done.index} of grant {short(IdKind.GRANT, done.grant)}")
    _say(f"to be collected before {moment(done.expires_ms)} UTC; keys {done.keys_took_ms} ms, content {done.content_took_ms} ms")
    _say_blocks(done, explain=options["explain"])


@click.command("open")
@file_argument
@output_option
@overwrite_option
@explain_option
@json_option
@click.pass_obj
def open_file(here: Here, /, file: Path, *, output: Path | None, overwrite: bool, explain: bool, as_json: bool) -> None:
    """Open an envelope that was sent to you. Its blocks are erased afterwards: keep what comes out.

    Without -o the content of NAME.qs goes to NAME, beside it. To standard output (`-o -`) content goes before all of it is verified:
    do not use it unless the exit code is 0.
    """
    if output is None and (str(file) == "-" or file.suffix != SUFFIX or not file.stem.strip(".")):
        raise click.UsageError(harmless(f"name the output with -o: {file} is not a name and {SUFFIX}"))
    target = output or file.with_suffix("")
    client = here.client()
    with client, progress_bar("opening", _size(file)) as progress:
        done = client.open(source_of(file), _sink(target), replace=overwrite, progress=progress)
    if as_json:
        print_json(done, err=str(target) == "-")
        return
    sender = f"{to_text(IdKind.USER, done.sender)} ({clean(done.sender_device_label)})"
    _say(f"{target}: {size_text(done.size_bytes)} from {sender}, made {moment(done.created_ms)} UTC")
    _say(f"keys {done.keys_took_ms} ms, content {done.content_took_ms} ms")
    if done.sender_device_revoked:
        _say("WARNING: the sender has revoked the device that signed this")
    for node in done.inconsistent:
        _say(f"WARNING: node {to_text(IdKind.NODE, node)} gave a block that does not fit the others")
    _say_blocks(done, explain=explain)


def _say_blocks(done: Encrypted | Opened, *, explain: bool) -> None:
    for suspect in done.suspects:
        _say(f"{'WARNING' if suspect.is_fault else 'note'}: another node served instead of {suspect}")
    for node in done.unacknowledged:
        _say(f"note: node {short(IdKind.NODE, node)} could not be told that its block is safe; it forgets it by itself")
    if explain:
        _say(blocks_table(done.blocks))


def _say(text: str) -> None:
    click.echo(harmless(text), err=True)
