"""What strangers may have: each key, each prefix, all together; who may wait, and who gives way."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from qnode.net import strangers as module
from qnode.net.strangers import BYTES, LIMITS, Kind, Stranger, Strangers, Waits
from qustream.errors import QuStreamError


def stranger(key: int, prefix: int) -> Stranger:
    return Stranger(key.to_bytes(32, "big"), f"10.{prefix}.0.0/16")


def begun(strangers: Strangers, who: Stranger, kind: Kind) -> int:
    """How many answers in a row it can begin."""
    count = 0
    while True:
        try:
            strangers.begin(who, kind)
        except QuStreamError as error:
            if error.code != "E-PEER-LIMIT" or not error.retry_after_ms:
                raise
            return count
        count += 1


@pytest.mark.parametrize("kind", Kind)
async def test_a_key_a_prefix_and_all_have_their_share_at_once(kind: Kind, mock_clock: trio.testing.MockClock) -> None:
    limit, strangers = LIMITS[kind], Strangers()
    assert begun(strangers, stranger(1, 1), kind) == limit.key.most
    assert begun(strangers, stranger(1, 1), kind) == 0
    # Other keys of the same prefix come to no more than the prefix has.
    keys = 1 + sum(1 for key in range(2, 100) if begun(strangers, stranger(key, 1), kind))
    assert keys == math.ceil(limit.prefix.most / limit.key.most)
    # And any number of prefixes to no more than all have.
    total = limit.prefix.most + sum(begun(strangers, stranger(1_000 + each, each), kind) for each in range(2, 200))
    assert total == limit.all.most
    assert strangers.refused[kind] > 200
    others = [each for each in Kind if each is not kind]
    assert all(begun(strangers, stranger(1, 1), each) > 0 for each in others), "each kind has a purse of its own"


@pytest.mark.parametrize("kind", Kind)
async def test_the_greediest_prefixes_leave_something_to_who_asks_now_and_then(kind: Kind, autojump_clock: trio.testing.MockClock) -> None:
    strangers = Strangers()
    greedy = [stranger(key, prefix) for prefix in range(100, 108) for key in range(prefix * 10, prefix * 10 + 6)]
    for second in range(120):  # they take whatever there is; after a minute I ask now and then, always behind them
        for each in greedy:
            begun(strangers, each, kind)
        if second >= 60 and second % 6 == 0:
            strangers.begin(stranger(1, 1), kind)
        await trio.sleep(1)
    assert strangers.refused[kind] >= 120 * len(greedy)


async def test_what_was_spent_comes_back_with_time(autojump_clock: trio.testing.MockClock) -> None:
    limit, strangers, who = LIMITS[Kind.TRANSACTIONS], Strangers(), stranger(1, 1)
    assert begun(strangers, who, Kind.TRANSACTIONS) == limit.key.most
    with pytest.raises(QuStreamError) as caught:
        strangers.begin(who, Kind.TRANSACTIONS)
    assert caught.value.retry_after_ms is not None
    await trio.sleep(caught.value.retry_after_ms / 1000)
    assert begun(strangers, who, Kind.TRANSACTIONS) == 1, "it was told how long"
    await trio.sleep(3_600)
    assert begun(strangers, who, Kind.TRANSACTIONS) == limit.key.most, "no purse holds more than it holds"


async def test_bytes_are_paid_for_when_they_are_known(autojump_clock: trio.testing.MockClock) -> None:
    strangers, who, other = Strangers(), stranger(1, 1), stranger(2, 2)
    chunk, sent = bytes(288 * 1024), 0
    while True:
        try:
            strangers.begin(who, Kind.CHUNKS)
        except QuStreamError:
            break
        sent += len(strangers.end(who, Kind.CHUNKS, chunk))
    assert BYTES.key.most <= sent <= BYTES.key.most + 2 * len(chunk)
    with pytest.raises(QuStreamError):
        strangers.begin(who, Kind.BLOCKS)  # whatever it asks for
    strangers.begin(other, Kind.CHUNKS)
    assert strangers.sent == sent
    assert strangers.answered[Kind.CHUNKS] == sent // len(chunk)
    await trio.sleep(60)
    strangers.begin(who, Kind.BLOCKS)


async def test_a_few_answers_are_made_at_a_time_and_a_few_more_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUED_MAX", 3)
    strangers, done = Strangers(), 0
    go = trio.Event()

    async def work(kind: Kind) -> None:
        nonlocal done
        async with strangers.working(kind):
            await go.wait()
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(module.WORKED_ON_MAX + 3):
            nursery.start_soon(work, Kind.CHUNKS)
        await trio.testing.wait_all_tasks_blocked()
        assert strangers.sizes["queued"] == 3
        with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
            await work(Kind.BODIES)
        nursery.start_soon(work, Kind.TRANSACTIONS)  # which are verified, and nothing is read for them
        await trio.testing.wait_all_tasks_blocked()
        assert strangers.sizes["queued"] == 3
        go.set()
    assert done == module.WORKED_ON_MAX + 4


async def test_nothing_that_strangers_make_up_grows_without_end(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(module, "PURSES_MAX", 10)
    strangers = Strangers()
    for number in range(100):
        strangers.begin(stranger(number, number), Kind.BLOCKS)
    assert strangers.sizes["purses"] == 10
    # Who was forgotten has a full purse again, but all have no more than they have together.
    total = 100 + sum(begun(strangers, stranger(200 + each, 200 + each), Kind.BLOCKS) for each in range(60))
    assert total == LIMITS[Kind.BLOCKS].all.most


def test_who_has_most_questions_waiting_gives_way_and_a_link_takes_the_oldest() -> None:
    waits, ended = Waits(), list[int]()

    def enter(key: int, prefix: int) -> int:
        return waits.enter(stranger(key, prefix), lambda: ended.append(key))

    for key in range(module.WAITS_PREFIX_MAX):
        enter(key, 1)
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
        enter(99, 1)
    for key in range(100, 100 + module.WAITS_MAX - module.WAITS_PREFIX_MAX):
        enter(key, key)
    assert len(waits) == module.WAITS_MAX
    enter(500, 500)
    assert (ended, len(waits)) == ([0], module.WAITS_MAX)
    assert waits.shed()
    assert ended == [0, 1]
    number = enter(501, 501)
    waits.leave(number)
    waits.leave(number)
    assert len(waits) == module.WAITS_MAX - 1
    while waits.shed():
        pass
    assert (len(waits), waits.shed_count) == (0, len(ended))


def test_a_key_has_two_questions_waiting_and_when_all_are_alike_nobody_gives_way() -> None:
    waits = Waits()
    for _ in range(module.WAITS_KEY_MAX):
        waits.enter(stranger(1, 1), lambda: None)
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
        waits.enter(stranger(1, 2), lambda: None)
    for key in range(2, module.WAITS_MAX):
        waits.enter(stranger(key, key), lambda: None)
    with pytest.raises(QuStreamError, match="E-PEER-LIMIT"):
        waits.enter(stranger(999, 2), lambda: None)
