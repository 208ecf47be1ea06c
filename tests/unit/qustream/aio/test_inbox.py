"""The inbox: bounds, order, and who is woken."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from qustream.aio.inbox import INBOX_MAX_BYTES, INBOX_MAX_MESSAGES, Inbox, wake
from qustream.errors import QuStreamError
from qustream.transport.limits import REQUESTS_MAX, REQUESTS_MAX_BYTES, Channel
from qustream.wire.rpc import Request


async def test_messages_come_out_in_order_one_by_one_or_all_at_once() -> None:
    inbox = Inbox()
    for number in range(4):
        await inbox.put(Channel.BULK, bytes([number]) * 10)
    assert inbox.size_bytes == 40
    assert inbox.take() == (Channel.BULK, bytes(10))
    assert [body[0] for _, body in inbox.take_all()] == [1, 2, 3]
    assert inbox.size_bytes == 0
    assert inbox.take_all() == []


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize(("size", "count"), [(INBOX_MAX_BYTES, 1), (1, INBOX_MAX_MESSAGES)])
async def test_a_full_inbox_makes_whoever_fills_it_wait(everything: bool, size: int, count: int) -> None:
    inbox = Inbox()
    for _ in range(count):
        await inbox.put(Channel.GOSSIP, bytes(size))
    done = trio.Event()

    async def one_more() -> None:
        await inbox.put(Channel.GOSSIP, b"more")
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_more)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        _ = inbox.take_all() if everything else inbox.take()
        await done.wait()
    assert inbox.messages[-1] == (Channel.GOSSIP, b"more")


async def test_requests_are_bounded_by_number_and_by_bytes() -> None:
    inbox = Inbox()
    assert all(inbox.put_request(Request(number, 1000, b"")) for number in range(REQUESTS_MAX))
    assert not inbox.put_request(Request(REQUESTS_MAX, 1000, b""))
    with pytest.raises(QuStreamError) as caught:
        inbox.put_request(Request(0, 1000, b""))
    assert caught.value.code == "E-FRAME-ORDER"
    inbox = Inbox()
    assert inbox.put_request(Request(0, 1000, bytes(REQUESTS_MAX_BYTES)))
    assert not inbox.put_request(Request(1, 1000, b"x"))
    inbox.open_requests.clear()
    assert inbox.put_request(Request(1, 1000, b"x"))


async def test_a_request_that_waited_has_less_time_left(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox()
    for number in range(2):
        inbox.put_request(Request(number, 1000, b"x"))
    await trio.sleep(0.4)
    assert 590 <= inbox.take_request().deadline_ms <= 600
    await trio.sleep(5)
    assert inbox.take_request().deadline_ms == 0


async def test_waking_wakes_all_and_nobody_is_no_trouble() -> None:
    lot, woken = trio.lowlevel.ParkingLot(), list[int]()
    wake(lot)

    async def sleeper(number: int) -> None:
        await lot.park()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(sleeper, number)
        await trio.testing.wait_all_tasks_blocked()
        wake(lot)
    assert sorted(woken) == [0, 1, 2]
