"""`qustream log verify` and `qustream log fetch`, and looking blocks up in leaf logs for `qustream verify --log`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from qustream.cli.context import Here
from qustream.cli.files import json_option
from qustream.cli.screen import clean, harmless, short
from qustream.client.reports import BlockReport
from qustream.client.settings import now_ms
from qustream.leaflog.audit import AuditedLog, audit
from qustream.leaflog.keep import fetch_closed
from qustream.leaflog.source import LogPages, open_source
from qustream.model.ids import IdKind, to_text
from qustream.registry import NetworkFileRegistry, Registry, if_known

__all__ = ["LookedUp", "leaf_log", "look_up"]


@click.group("log")
def leaf_log() -> None:
    """Leaf logs: what QRNG servers publish of the material they attest."""


@leaf_log.command("verify")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--network", "network_file", type=click.Path(path_type=Path, dir_okay=False), help="The signed network file; else that of --home."
)
@click.option("--network-key", help="The key that signs it (qnet1…).")
@json_option
@click.pass_obj
def verify_log(here: Here, /, *, sources: tuple[str, ...], network_file: Path | None, network_key: str | None, as_json: bool) -> None:
    """Audit leaf logs: signatures, chaining, roots, numbers, and that no material stands twice, in one log or in two.

    SOURCE is a directory of segment files (*.leaves) or the http:// or https:// address of a QRNG server's status pages.
    Needs room for temporary files: about 200 bytes a leaf.
    """
    if (network_file is None) != (network_key is None):
        raise click.UsageError("--network and --network-key go together")
    if network_file and network_key:
        given = NetworkFileRegistry(network_file, network_key)
        given.load(now_ms())
        registry: Registry = given
    else:
        registry = here.network()
    logs = _audited(registry, sources)
    if as_json:
        click.echo(json.dumps([_facts(log) for log in logs], indent=1))
        return
    for log in logs:
        _say(log, registry)
    click.echo("No material stands twice, and no node was given one number twice by one server.")


@leaf_log.command("fetch")
@click.argument("address")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def fetch_log(address: str, directory: Path) -> None:
    """Add to DIRECTORY the segments that a QRNG server has closed since the last time.

    ADDRESS is the http:// or https:// address of its status pages. Servers keep a log for hours or months; a copy that is fetched
    often keeps all of it. What it says is checked by `qustream log verify DIRECTORY`.
    """
    source = open_source(address)
    if not isinstance(source, LogPages):
        raise click.UsageError("ADDRESS begins with http:// or https://")
    fetched = fetch_closed(source, directory)
    count = fetched.last - fetched.first + 1
    what = f"segments {fetched.first} to {fetched.last} added" if count else f"nothing new; segment {fetched.first} is still open"
    click.echo(harmless(f"{directory}: {what}"))


def _audited(registry: Registry, sources: Sequence[str], blocks: Sequence[BlockReport] = ()) -> list[AuditedLog]:
    wanted: dict[tuple[bytes, int], set[bytes]] = {}
    for block in blocks:
        wanted.setdefault((block.server, block.batch), set()).add(bytes.fromhex(block.leaf))
    return audit(
        [open_source(source) for source in sources],
        chain=registry.chain,
        server_of=lambda server: if_known(registry.qrng_server, server),
        wanted=wanted,
    )


def _facts(log: AuditedLog) -> dict[str, object]:
    return {
        "source": log.source,
        "network": log.chain,
        "server": to_text(IdKind.QRNG, log.server),
        "first_segment": log.first_segment,
        "last_segment": log.last_segment,
        "entries": log.entries,
        "leaves": log.leaves,
        "first_batch": log.first_batch if log.entries else None,
        "last_batch": log.last_batch if log.entries else None,
        "torn_bytes": log.torn_bytes,
        "last_segment_sha256": log.head.hex(),
    }


def _say(log: AuditedLog, registry: Registry) -> None:
    name = clean(registry.qrng_server(log.server).name)
    batches = f"batches {log.first_batch} to {log.last_batch}" if log.entries else "no batch"
    click.echo(harmless(f"{log.source}: leaf log of {to_text(IdKind.QRNG, log.server)} ({name}), as published and signed"))
    click.echo(f"  segments {log.first_segment} to {log.last_segment}, {batches}, {log.leaves} leaves in {log.entries} batches")
    if log.first_segment:
        click.echo(f"  what stood before segment {log.first_segment} is not here and was not looked at")
    if log.torn_bytes:
        click.echo(f"  the last {log.torn_bytes} bytes are no whole entry: being written, or torn by a crash; left out")
    click.echo(f"  SHA-256 of segment {log.last_segment} so far: {log.head.hex()}")


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What a leaf log says of a block. `holds`: its leaf stands there; None: the log of its server was not given."""

    node: bytes
    server: bytes
    holds: bool | None
    said: str

    def __str__(self) -> str:
        return f"leaf of the block of {short(IdKind.NODE, self.node)}: {self.said}"


def look_up(here: Here, sources: Sequence[str], blocks: Sequence[BlockReport]) -> list[LookedUp]:
    """Audit the logs and look for the leaf of every block whose origin holds. Errors: those of `audit`, `E-HOME`, `E-CONFIG`,
    those of the network file."""
    registry = here.network()
    blocks = [block for block in blocks if not block.doubt]
    logs = {log.server: log for log in _audited(registry, sources, blocks)}
    return [_looked_up(block, logs.get(block.server)) for block in blocks]


def _looked_up(block: BlockReport, log: AuditedLog | None) -> LookedUp:
    server = to_text(IdKind.QRNG, block.server)
    if log is None:
        return LookedUp(block.node, block.server, None, f"not looked up: the log of {server} was not given")
    if bytes.fromhex(block.leaf) in log.found:
        return LookedUp(block.node, block.server, True, f"stands in the log of {server}, batch {block.batch}")
    if log.first_segment and block.batch < log.first_batch:
        return LookedUp(block.node, block.server, False, f"cannot be looked up: batch {block.batch} is older than this log of {server}")
    if block.batch > log.last_batch:
        return LookedUp(block.node, block.server, False, f"NOT in the log of {server}, which ends before batch {block.batch}")
    return LookedUp(block.node, block.server, False, f"NOT in the log of {server}: attested in batch {block.batch}, and not published")
