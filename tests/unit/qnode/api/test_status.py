"""How the one picture is shown to people and to systemd."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace
from support.snapshots import snapshot

from qnode.api.peers import PeersStatus
from qnode.api.status import DurationStatus, StatusSnapshot, condition, status_line, status_text
from qustream.errors import CODES


def test_one_screen_says_what_an_operator_asks() -> None:
    text = status_text(snapshot())
    lines = dict(line.split(None, 1) for line in text.splitlines())
    assert lines["state"] == "ready"
    assert lines["version"] == "0.1.0, up 2 h 30 min, ready for 2 h 13 min of it"
    assert lines["randomness"] == "8 of 8 units in memory, 20 used, 1 thrown away unused"
    assert lines["blocks"] == "5 of 4096 held, 25 erased, 30 spent indices remembered"
    assert lines["answered"] == "collect 6, key 20; half within 5 ms, 99 % in more than 10 ms"
    assert lines["refused"] == "E-GRANT-SPENT 2"
    assert lines["links"] == "2 out, 1 in, of 41 known nodes; reached 3 min ago; seen at 192.0.2.7"
    assert lines["gossip"] == "30 messages in, 60 out, 9 in vain, 2 dropped, 1 bad"
    assert "live for 16 min, 29 units" in lines["qrngd"]
    assert lines["connections"] == "2 open, 40 accepted, 3 turned away, 1 displaced, 4 failed handshakes"
    assert len(text.splitlines()) <= 24
    assert max(len(line) for line in text.splitlines()) <= 120


def test_a_node_that_shall_have_no_links_says_so() -> None:
    shut = snapshot(network=PeersStatus(enabled=False))
    assert "\nlinks       none, for the configuration says peers = false\n" in status_text(shut)
    assert status_line(shut) == "ready; pool 8/8, 5 blocks held; peers = false"


def test_what_stops_the_node_stands_out_with_its_remedy() -> None:
    text = status_text(snapshot(stopped=True))
    assert "NOT READY" in text
    remedy = CODES["E-ENTROPY-SHORT"].remedy
    assert f"STOPPED BY  E-ENTROPY-SHORT: no attested randomness in memory; the device is failed. Remedy: {remedy}." in text
    assert "condition   E-REGISTRY-VERSION: an older file." in text


def test_where_peers_say_they_see_us_cannot_spoil_the_screen() -> None:
    text = status_text(snapshot(network=replace(snapshot().network, seen_at=("\x1b[2J" + "z" * 300, "192.0.2.8", "192.0.2.9"))))
    assert "\x1b" not in text
    assert "192.0.2.9" not in text
    assert max(len(line) for line in text.splitlines()) <= 200


def test_the_line_for_systemd_is_one_line_and_names_only_what_stops() -> None:
    assert status_line(snapshot()) == "ready; pool 8/8, 5 blocks held; links 2 out, 1 in"
    line = status_line(snapshot(stopped=True))
    assert line.startswith("E-ENTROPY-SHORT no attested randomness")
    assert "E-REGISTRY-VERSION" not in line
    assert "\n" not in line


def test_a_condition_without_words_has_its_codes_meaning() -> None:
    assert condition("E-NODE-FULL", "").detail == CODES["E-NODE-FULL"].meaning


@pytest.mark.parametrize(
    ("counts", "half", "most"),
    [((0, 0, 0, 0), None, None), ((1, 0, 0, 0), 2, 2), ((50, 49, 1, 0), 2, 5), ((0, 0, 0, 9), None, None), ((98, 0, 0, 2), 2, None)],
)
def test_quantiles_are_bounds_and_never_invented(counts: tuple[int, ...], half: int | None, most: int | None) -> None:
    durations = DurationStatus((2, 5, 10), counts, 0.0)
    assert (durations.quantile_ms(0.5), durations.quantile_ms(0.99)) == (half, most)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"nonsense", snapshot().to_json()[:-5], b'{"ready": true}'])
def test_what_is_no_status_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        StatusSnapshot.from_json(data)
