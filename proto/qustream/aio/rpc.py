"""Serve the requests of one connection (`proto/spec/transport.md`, "Requests")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from qustream.aio.connection import Connection
from qustream.errors import PeerFault, QuStreamError
from qustream.transport.limits import DEADLINE_MAX_MS, REFUSED_WORK, REQUESTS_WORKED_ON_MAX
from qustream.wire.codec import encode
from qustream.wire.rpc import BODY_MAX_BYTES, Refusal, Request, Response

__all__ = ["Answerer", "serve_requests"]

# (body, deadline_ms) -> result; a QuStreamError becomes a refusal with its code.
Answerer = Callable[[bytes, int], Awaitable[bytes]]


async def serve_requests(connection: Connection, answer: Answerer) -> None:
    """Answer the peer's requests until the connection ends. `REQUESTS_WORKED_ON_MAX` are worked on at a time, `REQUESTS_MAX` may be
    open, the rest is refused.

    `answer` is told what is left of the asker's deadline and cancelled when it passes. A `QuStreamError` from it becomes a coded
    refusal; anything else is our own bug and leaves as an ordinary exception group. Returns when either end closed in order.
    Errors: whatever else ended the connection.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_take_requests, connection, answer, nursery)
        trouble = await connection.wait_closed()
        nursery.cancel_scope.cancel()
    if connection.end_code:
        raise trouble


async def _take_requests(connection: Connection, answer: Answerer, nursery: trio.Nursery) -> None:
    places = trio.Semaphore(REQUESTS_WORKED_ON_MAX)
    while True:
        await places.acquire()
        try:
            request = await connection.next_request()
        except QuStreamError:
            return  # over; `serve_requests` knows why
        nursery.start_soon(_answer_one, connection, answer, request, places)


async def _answer_one(connection: Connection, answer: Answerer, request: Request, places: trio.Semaphore) -> None:
    deadline_ms = min(request.deadline_ms, DEADLINE_MAX_MS)
    message = encode(Refusal(request.id, "E-DEADLINE", "the deadline passed before the request was done", 0))
    with trio.move_on_after(deadline_ms / 1000) as scope:
        if not deadline_ms:
            scope.cancel()  # it waited too long already: not even begun
        await trio.lowlevel.checkpoint()
        try:
            body = await answer(request.body, deadline_ms)
            assert len(body) <= BODY_MAX_BYTES, f"an answer of {len(body)} bytes; at most {BODY_MAX_BYTES}"
            message = encode(Response(request.id, body))
            connection.served_at = trio.current_time()
        except QuStreamError as error:
            message = encode(refusal(request.id, error))
            if isinstance(error, PeerFault) and connection.pace is not None:
                connection.pace.spend(REFUSED_WORK, trio.current_time())
    try:
        await connection.answer(request.id, message)
    except QuStreamError:
        return  # the asker is gone; `serve_requests` knows why
    finally:
        places.release()


def refusal(number: int, error: QuStreamError) -> Refusal:
    """What the asker is told: codes and details are made to be sent (`QuStreamError`)."""
    return Refusal(number, error.code, error.detail[:256], max(0, error.retry_after_ms or 0))
