"""Addresses and prefixes, and assigned links seen from both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qustream.rules.peering import assigned_peers, assigning_peers, is_address, prefix, ring


@pytest.mark.parametrize("text", [
    "10.0.0.1:7400", "127.1.0.1:1", "[2001:db8::1]:65535", "[::1]:1", "[::ffff:10.0.0.1]:1", "node.example:7400", "a:1",
    "node_1.example.:9", "1.2.3.4.example:80", "xn--bcher-kva.example:80", "a" * 63 + ":1",
])  # fmt: skip
def test_what_is_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", [
    "", ":", ":80", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:080", "10.0.0.1:65536", "10.0.0.1:+1", "10.0.0.1:1 ",
    " 10.0.0.1:1",
    "10.0.0.1:\u0661", "2001:db8::1:80", "[10.0.0.1]:80", "[node.example]:80", "[fe80::1%eth0]:80", "unix:/run/x", "/run/x:80", "a/b:80",
    "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[ff02::1]:80", "127.1:80", "2130706433:80", "0x7f000001:80", "1.2.3.0x4:80", "300.1.1.1:80",
    "1.2.3.4.:80", "-a.example:80", "a..b:80", "büro.example:80", "a b:80", "a" * 64 + ":80",
    "a." * 62 + "aa:7400", "[::ffff:224.0.0.1]:80", "[::ffff:0.0.0.0]:80", "a\n:80", "user@host:80",
])  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(("address", "wanted"), [
    ("10.7.8.9:80", "10.7.0.0/16"), ("10.7.255.1:81", "10.7.0.0/16"), ("[2001:db8:1::5]:80", "2001:db8::/32"),
    ("[::ffff:10.7.8.9]:80", "10.7.0.0/16"), ("[fe80::1%eth0]:80", "fe80::/32"), ("node.example:80", ""), ("unix:/x", ""), ("", ""),
])  # fmt: skip
def test_prefixes(address: str, wanted: str) -> None:
    assert prefix(address) == wanted


@given(st.text(max_size=140))
def test_any_text_is_an_address_or_none(text: str) -> None:
    if is_address(text):
        assert text.isascii()
        assert len(text) <= 128
    prefix(text)


@given(st.sets(st.binary(min_size=32, max_size=32), max_size=12), st.binary(min_size=32, max_size=32))
def test_who_is_assigned_is_assigned_to_somebody(nodes: set[bytes], seed: bytes) -> None:
    standing = ring(seed, nodes)
    for node in nodes:
        assert set(assigning_peers(seed, standing, node)) == {other for other in nodes if node in assigned_peers(seed, standing, other)}
    assert assigning_peers(seed, standing, b"nobody") == []
