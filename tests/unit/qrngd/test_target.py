"""Addresses that may be asked, in parts, and what is none."""

from __future__ import annotations

import pytest

from qrngd.target import Target, parse_target


def test_urls() -> None:
    assert parse_target("https://alerts.example") == Target("https", "alerts.example", 443, "/")
    assert parse_target("http://[::1]:9093/a?b=c") == Target("http", "::1", 9093, "/a?b=c")
    assert str(parse_target("http://[::1]:9093/secret")) == "http://[::1]:9093"
    assert parse_target("https://[::1]:8443/").host_header == "[::1]:8443"
    assert parse_target("https://a.example:443/x").host_header == parse_target("http://a.example:80").host_header == "a.example"
    assert parse_target("http://a.example:443/x").host_header == "a.example:443"
    assert parse_target("HTTPS://EXAMPLE.org/X").host == "example.org"
    local = [parse_target(f"http://{host}/").is_local for host in ("localhost", "127.0.0.1", "127.9.0.1", "[::1]")]
    assert all(local)
    assert not any(parse_target(f"http://{host}/").is_local for host in ("127.evil.example", "localhost.evil.example", "10.0.0.1"))


@pytest.mark.parametrize(
    "url",
    ["", "alerts.example", "ftp://a.example", "http://", "https://user:word@a.example", "http://a.example/ b", "http://a.example/\r\nX: y",
     "http://ä.example", "http://a.example:99999", "http://a.example/#x", "http://a.example/#", "http://a.example/" + "x" * 2048, "http://[::1",
     "http://a..example", "http://" + "a" * 64 + ".example", "http://" + "a." * 127 + "example", "http://a.example:0", "http://-a.example"],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_target(url)
