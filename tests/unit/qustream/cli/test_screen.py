"""What people see."""

from __future__ import annotations

import click
import pytest

from qustream.cli.screen import LATEST_MS, blocks_table, chains_text, clean, duration, harmless, moment, progress_bar, short, size_text
from qustream.client.reports import BlockReport
from qustream.model.ids import IdKind
from qustream.model.network import NodeClass


def report(**changes: object) -> BlockReport:
    fields: dict[str, object] = {
        "node": bytes(32),
        "node_class": NodeClass.COMMUNITY,
        "operator": "somebody",
        "server": b"s" * 32,
        "server_name": "lab",
        "device": "chardev Quantis",
        "emulated": False,
        "attested_from_ms": 1_000_000_000_123,
        "attested_to_ms": 1_000_000_002_007,
        "samples": 4096,
        "maker": "",
        "maker_pinned": False,
        "device_serial": "7",
        "batch": 9,
        "leaf": "4c" * 32,
        "doubt": "",
    }
    return BlockReport(**fields | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "ms"), [("90s", 90_000), ("30m", 1_800_000), ("12h", 43_200_000), ("7d", 604_800_000), ("1s", 1000)])
def test_durations(text: str, ms: int) -> None:
    assert duration(text) == ms


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1.5h", "7 d", "7D", "1w", "9999999d", "٧d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="7d"):
        duration(text)


def test_moments() -> None:
    assert moment(0) == "1970-01-01 00:00:00"
    assert moment(1_000_000_000_123) == "2001-09-09 01:46:40"
    assert moment(1_000_000_000_007, exact=True) == "2001-09-09 01:46:40.007"
    assert moment(LATEST_MS) == moment((1 << 63) - 1) == "9999-12-31 23:59:59"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_700, "1 MB"), (8_388_608, "8.39 MB"), (3 * 10**15, "3e+03 TB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_nothing_from_the_network_steers_a_terminal() -> None:
    assert harmless("a\x1b]0;b\x07.qs\n\u202e\udcffc") == "a?]0;b?.qs\n??c"
    assert clean("a\x1b[2Jb\n\u202ec" + "d" * 99) == "a?[2Jb??c" + "d" * 31
    table = blocks_table([report(operator="evil\x1b[31m", device="\rhidden")])
    assert "\x1b" not in table
    assert "\r" not in table


def test_the_table_names_every_origin_foundation_first() -> None:
    lines = blocks_table(
        [report(), report(node_class=NodeClass.FOUNDATION, emulated=True), report(node=b"x" * 32, doubt="E-ATTESTATION: retired")]
    ).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("foundation  qn1qqqqqqqqqqq…")
    assert "chardev Quantis (EMULATOR), 4096 samples healthy 2001-09-09 01:46:40.123 to 01:46:42.007 UTC" in lines[1]
    assert "(EMULATOR)" not in lines[2]
    assert "origin NOT verified: E-ATTESTATION: retired" in lines[3]


def test_a_chain_says_who_stands_behind_each_step() -> None:
    maker = "60fed4ba255a9d31" * 8
    blocks = [
        report(),
        report(node_class=NodeClass.FOUNDATION, maker=maker, maker_pinned=True, device_serial="QC0000000007"),
        report(node=b"x" * 32, maker=maker, device_serial="\x1b[31m"),
        report(node=b"y" * 32, doubt="E-ATTESTATION: retired"),
    ]
    lines = chains_text(blocks).splitlines()
    end = f"server {short(IdKind.QRNG, b's' * 32)} → batch 9 → leaf 4c4c4c4c4c4c4c4c… → node qn1"
    assert len(lines) == 3
    assert lines[0].startswith(f"maker 60fed4ba255a9d31… (accepted by the network) → device QC0000000007 → {end}")
    assert lines[1].startswith(f"no maker's certificate → device 7 → {end}")
    assert lines[2].startswith("maker 60fed4ba255a9d31… (not pinned by the network) → device ?[31m → ")


def test_short_ids() -> None:
    assert short(IdKind.GRANT, bytes(32)) == "qg1qqqqqqqqqqq…"


def test_no_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with progress_bar("x", 5) as progress:
        assert progress is None
