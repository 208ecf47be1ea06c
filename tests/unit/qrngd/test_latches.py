"""A failure stays until the operator removes it, whatever happens to the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qrngd.latches import INCIDENTS_MAX_BYTES, Latches
from qustream.errors import OperatorFault


def incidents(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "incidents").read_text().splitlines()]


def test_a_latch_outlives_whoever_set_it(tmp_path: Path) -> None:
    assert Latches(tmp_path).read("card1") is None
    Latches(tmp_path).latch("card1", "window 9: stuck", 5)
    assert Latches(tmp_path).read("card1") == ("E-DEV-LATCHED", "window 9: stuck")
    assert Latches(tmp_path).read("card2") is None
    Latches(tmp_path).clear("card1", "cable replaced", 6)
    assert Latches(tmp_path).read("card1") is None
    assert [(each["event"], each["device"], each["reason"]) for each in incidents(tmp_path)] == [
        ("latched", "card1", "window 9: stuck"),
        ("cleared", "card1", "cable replaced"),
    ]


def test_a_damaged_latch_is_one(tmp_path: Path) -> None:
    latches = Latches(tmp_path)
    latches.latch("card1", "stuck", 5)
    file = tmp_path / "latches" / "card1"
    for damage in (b"", b"{", b"[]", b'{"reason"', b"\xff" * 9000, b"[" * 4000):
        file.write_bytes(damage)
        found = latches.read("card1")
        assert found is not None
        assert found[0] == "E-DEV-LATCHED"
    file.chmod(0o644)
    assert latches.read("card1") is not None


def test_the_log_of_incidents_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    latches = Latches(tmp_path)
    (tmp_path / "incidents").write_bytes((b'{"event": "' + b"x" * 230 + b'"}\n') * (INCIDENTS_MAX_BYTES // 243))
    (tmp_path / "incidents").chmod(0o600)
    for number in range(5):
        latches.latch("card1", f"failure {number}", number)
    assert (tmp_path / "incidents").stat().st_size <= INCIDENTS_MAX_BYTES
    assert [each.get("reason") for each in incidents(tmp_path)[-5:]] == [f"failure {number}" for number in range(5)]


def test_a_latch_that_cannot_be_removed_stays_and_is_an_error_with_a_code(tmp_path: Path) -> None:
    latches = Latches(tmp_path)
    (tmp_path / "latches" / "card1").mkdir(parents=True)
    with pytest.raises(OperatorFault, match="E-FILE"):
        latches.clear("card1", "fan replaced", 5)
    assert latches.read("card1") is not None


@pytest.mark.needs("root")
def test_what_root_clears_the_server_can_read(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    Latches(tmp_path).clear("card1", "fan replaced", 5)
    assert (tmp_path / "incidents").stat().st_uid == 65534
