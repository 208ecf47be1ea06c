"""QCC, the protocol of QCicada devices, without a line: what is said, and in which order (`proto/spec/entropy-feed.md`, "QCicada").

The host asks, the device answers; one command is out at a time. Numbers are little endian.

    host = QccHost()
    line.write(host.ask(STATUS))
    for answer in host.receive(line.read()):       # any cut; all bytes are hostile
        decode_status(answer.payload)

Answers have no length of their own: it follows from the command, so a byte too many or too few is noticed at the next code at the latest.
Only what a stopped stream still had on the way has no end of its own: the host calls `quiet` when the line has fallen silent.
Nothing here is buffered beyond one answer, at most `ANSWER_MAX_BYTES`. Bytes that break the protocol raise E-DEV-READ, and the
conversation is over: only a new `QccHost` on a line that was stopped and drained knows where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from qrngd.devices.qcc_messages import ACK, ACK_PAYLOAD_BYTES, NACK, RESPONSES, STOP, Code, Request
from qustream.errors import QuStreamError, fault

__all__ = ["Answer", "QccHost", "State"]


class State(Enum):
    """Of the conversation, seen by the host."""

    IDLE = "nothing is asked"
    ASKED = "an answer is awaited"
    STREAMING = "random bytes come until the host says stop"
    STOPPING = "what is on the way is thrown away"
    BROKEN = "the device broke the protocol"


class _Seen(Enum):
    ASK, STOP, ANSWER, STREAM, QUIET, BREACH = range(6)


# What leads where; anything else is a mistake of our own.
_NEXT: dict[tuple[State, _Seen], State] = {
    (State.IDLE, _Seen.ASK): State.ASKED,
    (State.IDLE, _Seen.STOP): State.STOPPING,
    (State.ASKED, _Seen.ANSWER): State.IDLE,
    (State.ASKED, _Seen.STREAM): State.STREAMING,
    (State.ASKED, _Seen.STOP): State.STOPPING,
    (State.STREAMING, _Seen.STOP): State.STOPPING,
    (State.STOPPING, _Seen.STOP): State.STOPPING,
    (State.STOPPING, _Seen.QUIET): State.IDLE,
    (State.IDLE, _Seen.BREACH): State.BROKEN,
    (State.ASKED, _Seen.BREACH): State.BROKEN,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for `request`. `material` is the receiver's alone, to be overwritten when it is used. A stream gives one answer
    to its start and then more with material only."""

    request: Request
    refused: bool = False
    payload: bytes = b""
    material: bytearray | None = field(default=None, repr=False)
    signature: bytes = b""


class QccHost:
    """The host's side of one conversation. See the module."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self._request = STOP
        self._buffer = bytearray()  # the answer so far, at most ANSWER_MAX_BYTES; while stopping the last six bytes
        self._drained_bytes = 0

    def ask(self, request: Request) -> bytes:
        """What to write. A stop may be asked for at any time; all that was awaited is then forgotten."""
        self._move(_Seen.STOP if request.code is Code.STOP else _Seen.ASK)
        self._request = request
        self._drained_bytes = 0
        self._forget()
        return request.frame

    def receive(self, data: bytes | bytearray | memoryview) -> list[Answer]:
        """The answers that are complete with `data`. Raises E-DEV-READ for what breaks the protocol."""
        if not len(data):
            return []
        if self.state is State.STOPPING:
            self._drained_bytes += len(data)
            self._buffer += data[-ACK_PAYLOAD_BYTES - 1 :]
            del self._buffer[: -ACK_PAYLOAD_BYTES - 1]
            return []
        if self.state is State.STREAMING:
            return [Answer(self._request, material=bytearray(data))]
        if self.state is not State.ASKED:
            raise self._breach(f"{len(data)} bytes that nobody asked for")
        return self._answer(data)

    def _answer(self, data: bytes | bytearray | memoryview) -> list[Answer]:
        code, wanted = (self._buffer or data)[0], self._request.answer_bytes
        if code == NACK:
            wanted = 1
        elif code != RESPONSES[self._request.code][0]:
            raise self._breach(f"answer {code:#04x} to command {self._request.code:#04x}")
        room = wanted - len(self._buffer)
        self._buffer += data[:room]
        if len(self._buffer) < wanted:
            return []
        answer = self._taken(refused=code == NACK)
        self._move(_Seen.STREAM if answer.request.is_continuous and not answer.refused else _Seen.ANSWER)
        self._forget()
        return [answer, *self.receive(data[room:])]

    def _taken(self, *, refused: bool) -> Answer:
        if refused:
            return Answer(self._request, refused=True)
        end = 1 + RESPONSES[self._request.code][1]
        material_end = end + self._request.material_bytes
        payload, signature = bytes(self._buffer[1:end]), bytes(self._buffer[material_end:])
        return Answer(self._request, payload=payload, material=self._buffer[end:material_end], signature=signature)

    def quiet(self) -> Answer | None:
        """The line has fallen silent after a stop: the answer to it is what came last. None if that is no answer; then say it again."""
        assert self.state is State.STOPPING, "quiet is said after a stop"
        refused = self._drained_bytes == 1 and self._buffer[0] == NACK
        if not refused and (len(self._buffer) <= ACK_PAYLOAD_BYTES or self._buffer[0] != ACK):
            return None
        payload = b"" if refused else bytes(self._buffer[1:])
        self._move(_Seen.QUIET)
        self._forget()
        return Answer(STOP, refused=refused, payload=payload)

    def close(self) -> None:
        """Forget what is buffered; it may be random bytes."""
        self._forget()

    def _forget(self) -> None:
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    def _breach(self, what: str) -> QuStreamError:
        self._move(_Seen.BREACH)
        self._forget()
        return fault("E-DEV-READ", f"the device breaks its protocol: {what}")

    def _move(self, seen: _Seen) -> None:
        after = _NEXT.get((self.state, seen))
        assert after is not None, f"{seen.name} while {self.state.value}"
        self.state = after
