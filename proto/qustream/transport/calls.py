"""Which of our calls are open, and what a peer's answer means for them (`proto/spec/transport.md`, "Requests").

A call is open until it is answered or given up. The answer to a call that was given up is dropped quietly; an answer that nobody asked
for, or a second one, is the peer's fault. Shared by the blocking and the trio connection.
"""

from __future__ import annotations

from collections.abc import Callable

from qustream.errors import QuStreamError, fault
from qustream.transport.limits import ABANDONED_MAX, CALLS_MAX, CHANNEL_LIMITS, DEADLINE_MAX_MS, Channel
from qustream.wire.codec import decode, encode
from qustream.wire.rpc import BODY_MAX_BYTES, Refusal, Request, Response, RpcMessage, refusal_error

__all__ = ["Answer", "CallTable", "again", "checked", "read_rpc"]

# A result, or the error that stands for it.
Answer = bytes | QuStreamError
# Ids are 32 bits on the wire and start over.
_ID_MAX = 0xFFFFFFFF


def read_rpc(body: bytes | bytearray) -> Request | Response | Refusal:
    """Decode a message of the request channel. Errors: those of `decode`."""
    message: Request | Response | Refusal = decode(body, RpcMessage, max_bytes=CHANNEL_LIMITS[Channel.REQUEST].message_max_bytes)
    return message


class CallTable:
    """The open calls of one end of one connection."""

    def __init__(self) -> None:
        self._next = 0
        self._open: dict[int, Callable[[Answer], None]] = {}
        self._abandoned: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, body: bytes, deadline_ms: int, on_answer: Callable[[Answer], None]) -> tuple[int, bytes]:
        """Open a call: its id and the bytes of the request. `on_answer` is called once, unless the call is given up first.

        Errors: `E-PEER-LIMIT` (too many open calls), `E-WIRE-OVERSIZE`, `E-DEADLINE` (nothing left of it).
        """
        if len(body) > BODY_MAX_BYTES:
            raise fault("E-WIRE-OVERSIZE", f"a request of {len(body)} bytes; at most {BODY_MAX_BYTES}")
        if deadline_ms <= 0:
            raise fault("E-DEADLINE", "the deadline had passed before the request was sent")
        if len(self._open) >= CALLS_MAX:
            raise fault("E-PEER-LIMIT", f"{CALLS_MAX} calls are open on this connection")
        if len(self._abandoned) >= ABANDONED_MAX:
            raise fault("E-PEER-CLOSED", f"the peer left {ABANDONED_MAX} calls unanswered")
        number = self._next
        self._next = (number + 1) & _ID_MAX
        self._open[number] = on_answer
        return number, encode(Request(number, min(deadline_ms, DEADLINE_MAX_MS), body))

    def abandon(self, number: int) -> None:
        """Give the call up; its answer may still come. Harmless if it came."""
        if self._open.pop(number, None) is not None:
            self._abandoned.add(number)

    def settle(self, message: Response | Refusal) -> None:
        """Give an answer to whoever waits. Errors: `E-FRAME-ORDER` where nobody asked."""
        on_answer = self._open.pop(message.id, None)
        if on_answer is not None:
            on_answer(message.body if isinstance(message, Response) else refusal_error(message))
        elif message.id in self._abandoned:
            self._abandoned.remove(message.id)
        else:
            raise fault("E-FRAME-ORDER", "an answer to a call that is not open")

    def fail_all(self, error: QuStreamError) -> None:
        """The connection ended: nobody waits any longer."""
        waiting, self._open = self._open, {}
        for on_answer in waiting.values():
            on_answer(error)


def again(error: QuStreamError) -> QuStreamError:
    """The same error as a new exception: one instance raised in many places would gather all their tracebacks."""
    return fault(error.code, error.detail, retry_after_ms=error.retry_after_ms)


def checked(answer: Answer, max_answer_bytes: int) -> bytes:
    """The result of a call, or its error raised. Errors: the refusal's, `E-WIRE-OVERSIZE`."""
    if isinstance(answer, QuStreamError):
        raise again(answer)
    if len(answer) > max_answer_bytes:
        raise fault("E-WIRE-OVERSIZE", f"an answer of {len(answer)} bytes where at most {max_answer_bytes} were asked for")
    return answer
