"""What is said of peers: counts by way, words of others made harmless, the page that is a part of the one picture."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace
from support.snapshots import NETWORK, link, snapshot

from qnode.api.peers import AddressTried, PeersPage, PeersStatus, code_shown, reach_text, shown, tried_text

HOSTILE = "\x1b]0;owned\x07\u202e\r\n\u0000é" + "x" * 500


def test_the_page_is_a_part_of_the_status() -> None:
    page = snapshot().peers_page()
    assert PeersPage.from_json(page.to_json()) == page
    assert page.network == snapshot().network
    assert (page.node, page.addresses, page.epoch, page.now_ms) == ("qn1xyz", ("127.1.0.1:7400",), 3, 10_000_000)


@pytest.mark.parametrize("data", [b"", b"{}", b"nonsense", snapshot().peers_page().to_json()[:-3]])
def test_what_is_no_page_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        PeersPage.from_json(data)


def test_links_by_way() -> None:
    assert NETWORK.ways() == {"out": 2, "in": 1}
    assert PeersStatus().ways() == {"out": 0, "in": 0}
    assert PeersStatus(links=(link("qn1a", direction="in"),) * 3).ways() == {"out": 0, "in": 3}


def test_words_of_others_cannot_move_the_cursor_or_fill_the_screen() -> None:
    clean = shown(HOSTILE)
    assert clean.isascii()
    assert clean.isprintable()
    assert clean.startswith("?]0;owned?????")
    assert len(clean) <= 83
    assert shown("[2001:db8::7]:7400") == "[2001:db8::7]:7400"
    assert shown("") == ""


def test_codes_are_ours() -> None:
    assert code_shown("E-DEADLINE") == "E-DEADLINE"
    assert code_shown(HOSTILE) == "E-ANSWER-INVALID"


def test_what_came_of_each_address() -> None:
    tried = (AddressTried("192.0.2.7:7400", "E-DEADLINE"), AddressTried("[2001:db8::7]:7400", ""), AddressTried("\x1b[2J:1", "\x07"))
    assert tried_text(tried) == "192.0.2.7:7400 E-DEADLINE; [2001:db8::7]:7400 reached; ?[2J:1 E-ANSWER-INVALID"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "reached 3 min ago"),
        ({"reach": "unreachable"}, "NOT reached"),
        ({"reach": "unknown"}, "reached 3 min ago"),
        ({"reach": "unknown", "reached_ms": 0}, "not known whether reached"),
        ({"reached_ms": 0}, "reached"),
    ],
)
def test_whether_others_reach_us(changes: dict[str, object], text: str) -> None:
    assert reach_text(replace(NETWORK, **changes), 10_000_000) == text
