"""What people see: tables, durations, a progress bar where there is a terminal."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from qustream.client.reports import BlockReport
from qustream.envelope import Progress
from qustream.model.ids import IdKind, to_text
from qustream.model.network import NodeClass

__all__ = ["blocks_table", "chains_text", "clean", "duration", "harmless", "moment", "progress_bar", "short", "size_text"]

_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}  # in milliseconds
# The last instant `datetime` knows: an envelope may name a later one.
LATEST_MS = 253_402_300_799_999
TEXT_MAX_CHARACTERS = 40  # of what the network says, in a table


def duration(text: str) -> int:
    """A duration such as 90s, 30m, 12h or 7d, in milliseconds; for click, as the type of an option."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if not match:
        raise click.BadParameter(f"{text!r} is not a duration; write 90s, 30m, 12h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def short(kind: IdKind, raw: bytes) -> str:
    """An identifier's beginning: enough to tell few apart, too little to copy by mistake."""
    return to_text(kind, raw)[:14] + "…"


def moment(at_ms: int, *, exact: bool = False) -> str:
    """A time, UTC, to the second or, if it shall be `exact`, to the millisecond."""
    seconds, ms = divmod(min(at_ms, LATEST_MS), 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{ms:03}" if exact else text


def size_text(size_bytes: int) -> str:
    """Decimal units, three digits."""
    value, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{size_bytes} B" if unit == "B" else f"{value:.3g} {unit}"


def harmless(text: str) -> str:
    """Lines for a terminal, without anything else it could obey: names of files, too, come from strangers."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def clean(text: str) -> str:
    """Text from the network, shortened, in one line and without anything a terminal could obey."""
    return harmless(text.replace("\n", "?"))[:TEXT_MAX_CHARACTERS]


def blocks_table(blocks: Sequence[BlockReport]) -> str:
    """Where each block came from, one line each."""
    lines = [f"{'class':10}  {'node':15}  {'operator':16}  {'QRNG server':15}  attested device"]
    for block in sorted(blocks, key=lambda b: (b.node_class, b.node)):
        start = f"{NodeClass(block.node_class).name.lower():10}  {short(IdKind.NODE, block.node):15}  {clean(block.operator):16}  "
        if block.doubt:
            lines.append(start + f"origin NOT verified: {block.doubt}")
            continue
        emulated = " (EMULATOR)" if block.emulated else ""
        first, last = moment(block.attested_from_ms, exact=True), moment(block.attested_to_ms, exact=True)
        lines.append(
            start + f"{short(IdKind.QRNG, block.server):15}  {clean(block.device)}{emulated}, "
            f"{block.samples} samples healthy {first} to {last[11:]} UTC"
        )
    return "\n".join(lines)


def chains_text(blocks: Sequence[BlockReport]) -> str:
    """From whoever made the device down to the leaf, one line for each block whose origin holds."""
    return "\n".join(_chain(block) for block in sorted(blocks, key=lambda b: (b.node_class, b.node)) if not block.doubt)


def _chain(block: BlockReport) -> str:
    if block.maker:
        verdict = "accepted by the network" if block.maker_pinned else "not pinned by the network"
        maker = f"maker {block.maker[:16]}… ({verdict})"
    else:
        maker = "no maker's certificate"
    steps = (
        maker,
        f"device {clean(block.device_serial) or 'without a serial'}",
        f"server {short(IdKind.QRNG, block.server)}",
        f"batch {block.batch}",
        f"leaf {block.leaf[:16]}…",
        f"node {short(IdKind.NODE, block.node)}",
    )
    return " → ".join(steps)


@contextlib.contextmanager
def progress_bar(label: str, total_bytes: int | None) -> Iterator[Progress | None]:
    """A progress bar on standard error, if that is a terminal; the value is called with the bytes done so far."""
    if not sys.stderr.isatty():
        yield None
        return
    # rich is loaded for a terminal alone.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda done: bar.update(task, completed=done)
