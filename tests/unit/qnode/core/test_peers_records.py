"""Address records: what makes one bad, what useless, and what is left to its signature."""

from __future__ import annotations

import pytest

from qnode.core.gossip_events import Verdict
from qnode.core.peers_records import check_record, records_from_ms
from qustream.model.network import AddressRecord

NODE, NOW_MS, FROM_MS = bytes([1]) * 32, 10_000_000, 2_000_000
AHEAD_MS = NOW_MS + 120_000


def verdict(*addresses: str, issued_ms: int = NOW_MS, node: bytes = NODE, chain: str = "c", newest_ms: int | None = None) -> Verdict:
    record = AddressRecord(chain, node, issued_ms, addresses or ("10.0.0.1:7400",))
    return check_record(record, {NODE}, newest_ms, chain="c", now_ms=NOW_MS, from_ms=FROM_MS)


def test_a_record_in_order_is_good() -> None:
    assert verdict("10.0.0.1:7400", "[2001:db8::1]:7400", "node.example:1") is Verdict.GOOD


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:0", "unix:/run/socket", "/run/socket", "127.1:5", "", "a b:1", "[::]:7"])
def test_what_is_no_address_is_bad(address: str) -> None:
    assert verdict("10.0.0.1:7400", address) is Verdict.BAD


def test_another_chain_is_bad_whatever_else_it_is() -> None:
    assert verdict(chain="other", node=bytes(32), issued_ms=0) is Verdict.BAD


@pytest.mark.parametrize(("issued_ms", "wanted"), [
    (AHEAD_MS, Verdict.GOOD), (AHEAD_MS + 1, Verdict.USELESS), (FROM_MS, Verdict.GOOD), (FROM_MS - 1, Verdict.USELESS),
])  # fmt: skip
def test_time_alone_makes_a_record_useless(issued_ms: int, wanted: Verdict) -> None:
    assert verdict(issued_ms=issued_ms) is wanted


def test_who_is_not_known_says_nothing_of_use() -> None:
    assert verdict(node=bytes(32)) is Verdict.USELESS


@pytest.mark.parametrize(("newest_ms", "wanted"), [
    (NOW_MS, Verdict.USELESS), (NOW_MS + 1, Verdict.USELESS), (NOW_MS - 59_999, Verdict.USELESS), (NOW_MS - 60_000, Verdict.GOOD),
])  # fmt: skip
def test_a_record_a_minute_is_enough(newest_ms: int, wanted: Verdict) -> None:
    assert verdict(newest_ms=newest_ms) is wanted


def test_records_count_for_four_epochs() -> None:
    assert records_from_ms(10_000, 1_000) == 6_000
    assert records_from_ms(100, 1_000) == 0
