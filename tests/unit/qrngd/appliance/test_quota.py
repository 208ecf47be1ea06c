"""The day's quota: on the disk before it is used, over restarts and crashes, for one reader at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from qrngd.appliance.quota import DayQuota
from qustream.errors import OperatorFault, QuStreamError

DAY_S = 86_400
NOON_S = 20_000 * DAY_S + DAY_S // 2
LIMIT = 256_000


def quota(folder: Path, now_s: float = NOON_S, limit: int = LIMIT) -> DayQuota:
    return DayQuota(folder, limit, lambda: now_s)


def test_it_ends_and_says_for_how_long(tmp_path: Path) -> None:
    today = quota(tmp_path)
    for _ in range(25):
        today.take(10_000)
    with pytest.raises(OperatorFault, match="250000 of the 256000") as caught:
        today.take(10_000)
    assert (caught.value.code, caught.value.retry_after_ms) == ("E-APPLIANCE-QUOTA", DAY_S // 2 * 1000)
    today.take(6_000)
    today.close()


def test_a_restart_remembers_and_a_new_day_forgets(tmp_path: Path) -> None:
    first = quota(tmp_path)
    first.take(200_000)
    first.close()
    again = quota(tmp_path)
    assert again.used_bytes == 200_000
    with pytest.raises(OperatorFault, match="E-APPLIANCE-QUOTA"):
        again.take(100_000)
    again.close()
    tomorrow = quota(tmp_path, NOON_S + DAY_S)
    tomorrow.take(LIMIT)
    tomorrow.close()


def test_a_crash_costs_a_little_and_never_gives_any(tmp_path: Path) -> None:
    state = tmp_path / "quota"
    running = quota(tmp_path)
    for used in range(500, LIMIT + 1, 500):
        running.take(500)
        day, written = map(int, state.read_text().split())
        assert day == 20_000
        assert used <= written <= min(LIMIT, used + LIMIT // 256)
    running.close()


def test_the_file_is_written_seldom(tmp_path: Path) -> None:
    running, written = quota(tmp_path), set()
    for _ in range(2560):
        running.take(100)
        written.add((tmp_path / "quota").read_text())
    running.close()
    assert len(written) <= 257


def test_what_was_not_delivered_is_given_back(tmp_path: Path) -> None:
    today = quota(tmp_path)
    for _ in range(100):
        today.take(LIMIT)
        today.give_back(LIMIT)
    today.take(LIMIT)
    today.close()


def test_a_clock_set_back_gives_no_second_day(tmp_path: Path) -> None:
    today = quota(tmp_path)
    today.take(LIMIT)
    today.close()
    yesterday = quota(tmp_path, NOON_S - DAY_S)
    with pytest.raises(OperatorFault, match="E-APPLIANCE-QUOTA"):
        yesterday.take(1)
    yesterday.close()


def test_one_reader_at_a_time(tmp_path: Path) -> None:
    first = quota(tmp_path)
    with pytest.raises(OperatorFault, match="in use by another") as caught:
        quota(tmp_path)
    assert caught.value.code == "E-DATA-LOCKED"
    first.close()
    quota(tmp_path).close()


@pytest.mark.parametrize("content", [b"", b"20000", b"20000 -1\n", b"20000 1", b"1e9 5\n", b"\xff 5\n", b"20000 5\n20000 6\n"])
def test_a_file_that_is_not_ours_is_not_guessed_at(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "quota").write_bytes(content)
    (tmp_path / "quota").chmod(0o600)
    with pytest.raises(QuStreamError) as caught:
        quota(tmp_path)
    assert caught.value.code == "E-DATA-CORRUPT"


def test_without_a_limit_nothing_is_written(tmp_path: Path) -> None:
    free = DayQuota(tmp_path, 0, lambda: NOON_S)
    free.take(1 << 40)
    assert free.used_bytes == 1 << 40
    free.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(QuStreamError) as caught:
        quota(tmp_path / "none")
    assert caught.value.code == "E-FILE"
