"""The pool: bounds, ages, shares between QRNG servers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from qnode.service.pool import EXPIRY_MARGIN_MS, Pool, PooledUnit, Supply
from qustream.model.base import Signed
from qustream.model.entropy import LeafProof

NOW = 1_000_000


def unit(number: int, *, expires_ms: int = NOW + 3_600_000, server: bytes = b"") -> PooledUnit:
    return PooledUnit(b"m", b"s", Signed(b"", bytes(3373)), LeafProof(number, 0, ()), bytes(32), expires_ms, server)


def live(pool: Pool) -> Supply:
    supply = pool.supply()
    supply.set_live(True)
    return supply


def filled(pool: Pool, supply: Supply, *units: PooledUnit) -> None:
    assert supply.reserve() >= len(units)
    for each in units:
        supply.put(each)


def test_room_is_reserved_once_and_filled_once() -> None:
    pool = Pool(4)
    supply = live(pool)
    assert supply.reserve() == 4
    assert supply.reserve() == 0
    for number in range(4):
        supply.put(unit(number))
    assert (len(pool), supply.reserved_units, supply.reserve()) == (4, 0, 0)


def test_units_are_taken_once_in_the_order_they_came() -> None:
    pool = Pool(4)
    filled(pool, live(pool), unit(1), unit(2))
    taken = [pool.take(NOW), pool.take(NOW), pool.take(NOW)]
    assert [each.proof.sequence if each else None for each in taken] == [1, 2, None]
    assert pool.taken == 2


def test_what_would_be_stale_at_the_user_is_thrown_away_wherever_it_lies() -> None:
    pool = Pool(4)
    filled(pool, live(pool), unit(1), unit(2, expires_ms=NOW + EXPIRY_MARGIN_MS), unit(3, expires_ms=NOW + EXPIRY_MARGIN_MS + 1))
    pool.drop_expired(NOW)
    assert (len(pool), pool.expired) == (2, 1)
    pool.drop_expired(NOW + 1)
    first = pool.take(NOW + 1)
    assert (first is not None and first.proof.sequence, len(pool), pool.expired) == (1, 0, 2)


def test_units_of_a_server_that_was_struck_off_can_be_dropped() -> None:
    pool = Pool(4)
    filled(pool, live(pool), unit(1, server=b"a"), unit(2, server=b"b"))
    pool.drop(lambda each: each.server == b"a", NOW)
    assert len(pool) == 1
    left = pool.take(NOW)
    assert left is not None
    assert left.server == b"b"


def test_an_overfilled_pool_is_our_own_bug() -> None:
    supply = live(Pool(1))
    with pytest.raises(AssertionError, match="without reserved room"):
        supply.put(unit(1))


def test_a_pool_knows_how_long_it_has_been_empty() -> None:
    pool = Pool(2)
    assert pool.empty_ms(NOW) == NOW  # it never had a unit
    filled(pool, live(pool), unit(1), unit(2))
    assert pool.empty_ms(NOW) == 0
    pool.take(NOW)
    assert pool.empty_ms(NOW + 5) == 0
    pool.take(NOW + 7)
    assert pool.empty_ms(NOW + 10) == 3
    pool.take(NOW + 11)  # asking again does not begin anew
    assert pool.empty_ms(NOW + 12) == 5


def test_a_link_that_is_not_live_reserves_nothing() -> None:
    pool = Pool(4)
    supply = pool.supply()
    assert supply.reserve() == 0
    supply.set_live(True)
    assert supply.reserve() == 4
    supply.release()
    assert (supply.reserved_units, pool.room_units, supply.is_live) == (0, 4, False)


def test_live_links_share_the_room_and_a_greedy_one_is_known() -> None:
    pool = Pool(5)
    first = live(pool)
    assert first.reserve() == 5
    second = live(pool)
    assert pool.share_units == 3
    assert first.is_over_share
    assert second.reserve() == 0
    first.release()
    assert second.reserve() == 5  # it alone is live
    first.set_live(True)
    assert second.is_over_share


def test_each_gets_its_share_where_both_ask() -> None:
    pool = Pool(4)
    first, second = live(pool), live(pool)
    assert (first.reserve(), second.reserve(), first.reserve()) == (2, 2, 0)
    assert not first.is_over_share


def test_units_are_asked_for_a_quarter_at_a_time() -> None:
    pool = Pool(16)
    supply = live(pool)
    filled(pool, supply, *(unit(number) for number in range(16)))
    asked = []
    for _ in range(16):
        pool.take(NOW)
        asked.append(supply.reserve())
    assert asked == [0, 0, 0, 4] * 4


async def test_whoever_waits_for_room_hears_of_it() -> None:
    pool = Pool(1)
    supply = live(pool)
    filled(pool, supply, unit(1))
    woken: list[str] = []

    async def wait(name: str) -> None:
        await pool.changed()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b"):
            nursery.start_soon(wait, name)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        pool.take(NOW)
    assert sorted(woken) == ["a", "b"]
    for change in (supply.release, lambda: supply.set_live(True)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "c")
            await trio.testing.wait_all_tasks_blocked()
            change()


def test_a_unit_does_not_show_its_randomness() -> None:
    assert "material" not in repr(unit(1))
    assert "scatter" not in repr(unit(1))
