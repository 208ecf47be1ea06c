"""The maker of emulated devices, and the file it is kept in."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.emulation.maker import Maker
from qustream.errors import QuStreamError


def test_it_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "maker"
    first = Maker.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Maker.load(path).authority.public == first.authority.public
    assert Maker.load(path).device.public == first.device.public
    assert len({first.authority.public, first.device.public, first.stranger.public, Maker.unknown().authority.public}) == 4


@pytest.mark.parametrize("text", [b"", b"00" * 31, b"zz" * 32, b"00" * 40])
def test_a_file_that_is_no_seed_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "maker"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(QuStreamError) as caught:
        Maker.load(path)
    assert caught.value.code in ("E-CONFIG", "E-FILE")


def test_a_seed_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maker"
    Maker.load(path)
    path.chmod(0o644)
    with pytest.raises(QuStreamError, match="E-KEYSTORE-MODE"):
        Maker.load(path)
