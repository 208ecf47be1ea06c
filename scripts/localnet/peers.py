"""Who is linked to whom in a local network, by the pages of its nodes."""

from __future__ import annotations

from collections.abc import Mapping

from qnode.api.peers import PeersPage, reach_text

# One letter a link, for whoever opened it; a capital: the row has it in its mesh.
LETTERS = {"assigned": "a", "chosen": "c", "meshed": "m", "spare": "s"}
THEIRS = "-"
LEGEND = "; a assigned, c chosen, s spare, m meshed, - opened by the other; capitals and =: in the row's mesh"
MAP_MAX = 40  # nodes whose map fits a wide screen


def peers_table(pages: Mapping[str, PeersPage | None]) -> str:
    """`pages`: of every node by its name; None: it does not answer. A line a node, and beside it a map of their links."""
    names = {page.node: name for name, page in pages.items() if page is not None}
    numbers = {name: name.removeprefix("node") for name in pages}
    wide = max(len(number) for number in numbers.values())
    shown = list(pages) if len(pages) <= MAP_MAX else []
    head = f"{'':8} {'out':>3} {'in':>3} {'mesh':>4} {'known':>5} {'away':>4} {'heard':>7} {'said':>7} {'file':>4}"
    lines = [f"{head}  {'':25} {' '.join(numbers[name].rjust(wide) for name in shown)}".rstrip()]
    for name, page in pages.items():
        if page is None:
            lines.append(f"{name:8} does not answer")
            continue
        network, ways, topics = page.network, page.network.ways(), page.network.gossip.topics.values()
        cells = {names.get(link.node, ""): _letter(link.direction, link.reason, link.in_mesh) for link in network.links}
        row = " ".join(("\\" if other == name else cells.get(other, ".")).rjust(wide) for other in shown)
        lines.append(
            f"{name:8} {ways['out']:3} {ways['in']:3} {sum(link.in_mesh for link in network.links):4} {network.known:5} "
            f"{network.unreached:4} {sum(t.messages_in for t in topics):7} {sum(t.messages_out for t in topics):7} {page.height:4}"
            f"  {reach_text(network, page.now_ms):25} {row}".rstrip()
        )
    answering = [page.network for page in pages.values() if page is not None]
    links = sum(network.ways()["out"] for network in answering)
    lines.append(f"{links} links of {len(answering)} nodes{LEGEND if shown else ''}")
    return "\n".join(lines)


def _letter(direction: str, reason: str, in_mesh: bool) -> str:
    letter = LETTERS.get(reason, "?") if direction == "out" else THEIRS
    return letter.upper() if in_mesh and letter != THEIRS else "=" if in_mesh else letter
