"""qrngd-reader.toml: what it holds, and refusals that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.appliance.config import ReaderConfig, load_reader_config
from qrngd.target import Target
from qustream.errors import OperatorFault

GOOD = 'url = "https://appliance.example/api/v1/get_entropy"\noutput = "fifo"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "qrngd-reader.toml"
    path.write_text(text)
    return path


def test_two_keys_are_enough(tmp_path: Path) -> None:
    config = load_reader_config(written(tmp_path, GOOD))
    assert (config.api, config.block_bytes, config.blocks_per_request, config.request_bytes) == ("blocks", 1024, 64, 65_536)
    assert config.output == tmp_path / "fifo"
    assert config.target == Target("https", "appliance.example", 443, "/api/v1/get_entropy")


def test_the_slowest_rate_that_is_no_silence(tmp_path: Path) -> None:
    assert load_reader_config(written(tmp_path, f"{GOOD}rate_max_bytes_per_s = 13108\n")).rate_max_bytes_per_s == 13_108
    assert load_reader_config(written(tmp_path, f"{GOOD}rate_max_bytes_per_s = 205\nblocks_per_request = 1\n")).request_bytes == 1024


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/x", "ftp://a.example", "a.example/x", "", "https://", "https:///x", "https://user@a.example/", "https://u:p@a.example/",
        "https://a.example/x#y", "https://a.example:0/", "https://a.example:99999/", "https://a.example:x/", "https://a.example/x y",
        "https://a.example/\r\nX: y", "https://[::1/", "https://é.example/", "https://a.example/" + "x" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_https_address(url: str) -> None:
    with pytest.raises(OperatorFault, match="url: an https address is needed") as caught:
        _ = ReaderConfig(url=url, output=Path("fifo")).target
    assert caught.value.code == "E-CONFIG"
    assert "u:p" not in caught.value.detail


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('api = "xml"', "api"),
        ("block_bytes = 15", "block_bytes"),
        ('api = "kib"\nblock_bytes = 512', "block_bytes"),
        ("block_bytes = 65536\nblocks_per_request = 512", "block_bytes"),
        ("blocks_per_request = 0", "blocks_per_request"),
        ("rate_max_bytes_per_s = 13107", "blocks_per_request"),
        ("quota_bytes_per_day = 1000000", "state_dir"),
        ('quota_bytes_per_day = 1000\nstate_dir = "."', "quota_bytes_per_day"),
        ('tokn_file = "x"', "did you mean token_file"),
        ('token = "secret"', "unknown key token"),
    ],
)
def test_refusals_name_the_key(tmp_path: Path, lines: str, key: str) -> None:
    with pytest.raises(OperatorFault) as caught:
        load_reader_config(written(tmp_path, f"{GOOD}{lines}\n"))
    assert caught.value.code == "E-CONFIG"
    assert key in caught.value.detail
    assert "qrngd-reader.toml" in caught.value.detail
    assert "secret" not in caught.value.detail


def test_a_wrong_address_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match=r"reader\.toml: url"):
        load_reader_config(written(tmp_path, GOOD.replace("https", "http")))
