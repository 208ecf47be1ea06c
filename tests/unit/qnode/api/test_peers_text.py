"""The table of links: order, width, words of others, totals that are the page's."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from support.snapshots import NETWORK, link, snapshot

from qnode.api.peers import AddressTried, DialStatus, PeersPage, PeersStatus
from qnode.api.peers_text import COLUMNS, peers_text

HOSTILE = "\x1b[2J\u202e\r\n\t" + "y" * 300


def page(**changes: object) -> PeersPage:
    return replace(snapshot().peers_page(), network=replace(NETWORK, **changes))


def table(text: str) -> list[str]:
    return text.split("\n\n")[0].splitlines()


def test_ours_come_first_then_by_reason_then_the_oldest() -> None:
    links = (
        link("qn1in", direction="in", reason="assigned"),
        link("qn1spare", reason="spare"),
        link("qn1young", since_ms=9_999_000),
        link("qn1old"),
        link("qn1assigned", reason="assigned"),
        link("qn1new-kind", reason="of a later version"),
        link("qn1meshed", reason="meshed"),
    )
    rows = table(peers_text(page(links=links)))
    names = [row.split()[0] for row in rows[1:]]
    assert names == ["qn1meshed", "qn1assigned", "qn1old", "qn1young", "qn1spare", "qn1new-kind", "qn1in"]


def test_a_row_says_all_there_is_to_say() -> None:
    heading, first, second, third = table(peers_text(page()))
    assert heading.split() == [column.heading for column in COLUMNS]
    said = "qn1aaaaaaaaaaa a site foundation out assigned 192.0.2.1:7400 16 min - yes 3 7 10, 3.9 KiB 20, 7.8 KiB"
    assert first.split() == said.split()
    assert "chosen*" in second
    assert "40 ms" in second
    assert " in " in third
    assert "192.0.2.9:50123" in third


@pytest.mark.parametrize("width", [120, 100, 80, 60, 40, 20, 1])
def test_a_narrow_screen_shows_fewer_columns_and_whole_ones(width: int) -> None:
    wide, narrow = table(peers_text(page())), table(peers_text(page(), width))
    assert len(narrow) == len(wide)
    assert {"NODE", "WAY"} <= set(narrow[0].split()) <= set(wide[0].split())
    assert len(narrow[0].split()) == 2 or max(map(len, narrow)) <= width
    assert table(peers_text(page(), 1000)) == wide


def test_what_is_wanted_and_why_it_is_not_there() -> None:
    text = peers_text(page(wanted=40))
    assert "wanted, not linked: 40" in text
    assert "  qn1ddddddddddd away (community, assigned) at 192.0.2.4:7400: E-PEER-UNREACHABLE, again in 40 s, 4 tries" in text
    assert "  qn1eeeeeeeeeee elsewhere (community, chosen): being dialled" in text
    assert "  and 38 more" in text
    assert "more" not in peers_text(page())
    assert "wanted" not in peers_text(page(wanted=0, dials=()))


def test_totals() -> None:
    foot = peers_text(page()).split("\n\n")[-1].splitlines()
    assert foot == [
        "2 out, 1 in, 2 of them in the mesh; grey-listed: 1; * dialled first after a restart",
        "41 nodes known, the last dial to 3 of them failed",
        "this node qn1xyz in epoch 3, version 7 of the network file: reached 3 min ago",
        "its addresses, when another node last connected to them: 192.0.2.7:7400 reached",
        "seen at 192.0.2.7",
        "dials: E-PEER-UNREACHABLE 5, reached 12; refused to others: E-PEER-LIMIT 6",
        "gossip, bodies alone: 11.7 KiB in, 23.4 KiB out, 9 messages in vain, 2 dropped, 1 bad, 1 peers shown out",
        "bulk: 4 served, 1 fetched, 2 failed; 2.9 KiB in, 8.6 MiB out",
    ]


def test_a_node_alone() -> None:
    text = peers_text(replace(page(), network=PeersStatus()))
    assert text.startswith("no links\n\n0 out, 0 in")
    assert "0 nodes known" in text
    assert "not known whether reached" in text
    assert "dials: none; refused to others: none" in text


def test_a_node_that_shall_have_no_links_says_so() -> None:
    assert peers_text(replace(page(), network=PeersStatus(enabled=False))) == "links: none, for the configuration says peers = false"


def test_nothing_that_somebody_chose_reaches_the_terminal_as_it_is() -> None:
    hostile = replace(
        NETWORK,
        wanted=1,
        links=(link(HOSTILE, operator=HOSTILE + "e\u0301", address=HOSTILE),),
        dials=(DialStatus(HOSTILE, HOSTILE, "community", (HOSTILE,), "chosen", 1, HOSTILE, 0),),
        dialled={HOSTILE: 1},
        refused={HOSTILE: 1},
        tried=(AddressTried(HOSTILE, HOSTILE),),
        seen_at=(HOSTILE,),
    )
    text = peers_text(replace(page(), network=hostile))
    assert all(c == "\n" or (c.isprintable() and c.isascii()) for c in text)
    assert max(map(len, text.splitlines())) < 400
    assert len(text.splitlines()) == 14


def test_an_operator_may_be_called_as_people_are() -> None:
    assert "Müller & Söhne" in peers_text(page(links=(link("qn1a", operator="Müller & Söhne"),)))
    assert "O" * 23 + "~ " in peers_text(page(links=(link("qn1a", operator="O" * 64),)))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (200 << 10, "200 KiB"), (5 << 40, "5120 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert f", {text}  " in peers_text(page(links=(link("qn1a", bytes_in=count),)))
