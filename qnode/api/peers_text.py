"""The page `/v1/peers` for people: a table of links, what is dialled and why it fails, and totals.

On a screen the least important columns give way until the table fits; what is read by a program gets all of them. Words that
somebody else chose are shown as printable characters alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from qnode.api.peers import OFF, DialStatus, PeerLink, PeersPage, code_shown, reach_text, shown, tried_text
from qnode.api.spans import span_text

__all__ = ["peers_text"]

REASONS = ("meshed", "assigned", "chosen", "spare")  # in the order of their weight
ID_CHARS = 14  # `qn1` and 55 bits: nobody meets two that begin alike
OPERATOR_MAX_CHARS = 24  # an operator may be called by 64 characters; the JSON has them all


class Column(NamedTuple):
    """`weight`: the column with the least gives way first; `right`: numbers end in one line."""

    heading: str
    weight: int
    cell: Callable[[PeerLink, int], str]
    right: bool = False


COLUMNS = (
    Column("NODE", 99, lambda link, _: _id(link.node)),
    Column("OPERATOR", 8, lambda link, _: _operator(link.operator)),
    Column("CLASS", 3, lambda link, _: link.node_class),
    Column("WAY", 98, lambda link, _: link.direction),
    Column("REASON", 9, lambda link, _: f"{link.reason}{'*' if link.anchor else ''}"),
    Column("ADDRESS", 4, lambda link, _: shown(link.address)),
    Column("SINCE", 7, lambda link, now_ms: span_text(now_ms - link.since_ms), right=True),
    Column("RTT", 6, lambda link, _: f"{link.rtt_ms} ms" if link.rtt_ms >= 0 else "-", right=True),
    Column("MESH", 5, lambda link, _: "yes" if link.in_mesh else "-"),
    Column("SCORE", 5, lambda link, _: str(link.score), right=True),
    Column("HEIGHT", 1, lambda link, _: str(link.height), right=True),
    Column("IN", 2, lambda link, _: f"{link.messages_in}, {_size(link.bytes_in)}", right=True),
    Column("OUT", 2, lambda link, _: f"{link.messages_out}, {_size(link.bytes_out)}", right=True),
)


def peers_text(page: PeersPage, width: int | None = None) -> str:
    """All of the page; `width`: the columns of the screen, None where there is none."""
    network, now_ms = page.network, page.now_ms
    if not network.enabled:
        return f"links: {OFF}"
    lines = _table(sorted(network.links, key=_order), now_ms, width)
    if network.dials:
        lines += ["", f"wanted, not linked: {network.wanted}"]
        lines += [_dial(dial, now_ms) for dial in network.dials]
        if (more := network.wanted - len(network.dials)) > 0:
            lines.append(f"  and {more} more")
    lines += ["", *_totals(page)]
    return "\n".join(lines)


def _order(link: PeerLink) -> tuple[bool, int, int, str]:
    """Ours first, by reason, the oldest first."""
    weight = REASONS.index(link.reason) if link.reason in REASONS else len(REASONS)
    return (link.direction != "out", weight, link.since_ms, link.node)


def _table(links: Sequence[PeerLink], now_ms: int, width: int | None) -> list[str]:
    if not links:
        return ["no links"]
    columns = list(COLUMNS)
    while True:
        rows = [[column.heading for column in columns], *([column.cell(link, now_ms) for column in columns] for link in links)]
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
        if width is None or sum(widths) + 2 * (len(widths) - 1) <= width or len(columns) <= 2:
            break
        columns.remove(min(columns, key=lambda column: column.weight))
    return [
        "  ".join(
            cell.rjust(wide) if column.right else cell.ljust(wide) for cell, wide, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def _dial(dial: DialStatus, now_ms: int) -> str:
    when = "being dialled" if not dial.next_ms else f"again in {span_text(dial.next_ms - now_ms)}"
    why = f"{code_shown(dial.code)}, {when}" if dial.code else when
    tries = f", {dial.tries} tries" if dial.tries > 1 else ""
    where = f" at {shown(dial.addresses[0])}" if dial.addresses else ""
    return f"  {_id(dial.node)} {_operator(dial.operator)} ({dial.node_class}, {dial.purpose}){where}: {why}{tries}"


def _totals(page: PeersPage) -> list[str]:
    network, gossip = page.network, page.network.gossip
    ways, meshed = network.ways(), sum(link.in_mesh for link in network.links)
    topics = gossip.topics.values()
    in_bytes, out_bytes = sum(t.bytes_in for t in topics), sum(t.bytes_out for t in topics)
    anchors = "; * dialled first after a restart" if any(link.anchor for link in network.links) else ""
    lines = [
        f"{ways['out']} out, {ways['in']} in, {meshed} of them in the mesh; grey-listed: {network.greylisted}{anchors}",
        f"{network.known} nodes known, the last dial to {network.unreached} of them failed",
        f"this node {_id(page.node)} in epoch {page.epoch}, version {page.height} of the network file: {reach_text(network, page.now_ms)}",
    ]
    if network.tried:
        lines.append(f"its addresses, when another node last connected to them: {tried_text(network.tried)}")
    if network.seen_at:
        lines.append(f"seen at {', '.join(shown(address) for address in network.seen_at)}")
    lines += [
        f"dials: {_counts(network.dialled)}; refused to others: {_counts(network.refused)}",
        f"gossip, bodies alone: {_size(in_bytes)} in, {_size(out_bytes)} out, {gossip.duplicates} messages in vain, "
        f"{gossip.dropped} dropped, {gossip.bad} bad, {gossip.expelled} peers shown out",
        f"bulk: {network.bulk.served} served, {network.bulk.fetched} fetched, {network.bulk.failed} failed; "
        f"{_size(network.bulk.bytes_in)} in, {_size(network.bulk.bytes_out)} out",
    ]
    return lines


def _counts(counts: dict[str, int]) -> str:
    found = (f"{name if name == 'reached' else code_shown(name)} {number}" for name, number in sorted(counts.items()) if number)
    return ", ".join(found) or "none"


def _id(text: str) -> str:
    return shown(text[:ID_CHARS])


def _operator(text: str) -> str:
    """The registry's word, so people's own letters stand; none that turn the line around or pile up."""
    clean = "".join(c if c.isprintable() and not unicodedata.combining(c) else "?" for c in text)
    return clean if len(clean) <= OPERATOR_MAX_CHARS else clean[: OPERATOR_MAX_CHARS - 1] + "~"


def _size(count: int) -> str:
    """A number of bytes in three or four digits."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "B" or size >= 100 else f"{size:.1f} {units[0]}"
