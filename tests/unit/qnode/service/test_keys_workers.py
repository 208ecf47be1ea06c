"""Workers: results and errors come back, and who stops waiting stops nothing."""

import threading
from concurrent.futures import Future

import pytest
import trio

from qnode.service.keys_workers import Workers, settled
from qustream.errors import QuStreamError, fault


async def test_a_call_runs_elsewhere_and_comes_back():
    here = threading.get_ident()
    there = await Workers().do(threading.get_ident)
    assert there != here


async def test_what_a_call_raises_comes_back():
    def refuse():
        raise fault("E-NOT-HELD", "gone")

    workers = Workers()
    with pytest.raises(QuStreamError, match="gone"):
        await workers.do(refuse)
    with pytest.raises(QuStreamError, match="gone"):
        await settled(workers.start(lambda result: refuse()))


async def test_a_job_may_end_on_another_thread():
    later: Future[int] = Future()

    def job(result):
        later.add_done_callback(lambda done: result.set_result(done.result() + 1))

    result = Workers().start(job)
    threading.Thread(target=later.set_result, args=(41,)).start()
    assert await settled(result) == 42


async def test_who_is_cancelled_stops_waiting_and_the_call_is_finished():
    begun, go_on, finished = threading.Event(), threading.Event(), threading.Event()

    def call():
        begun.set()
        go_on.wait(60)
        finished.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Workers().do, call)
        await trio.to_thread.run_sync(begun.wait, 10)
        nursery.cancel_scope.cancel()
    assert not finished.is_set()
    go_on.set()
    assert finished.wait(60)
