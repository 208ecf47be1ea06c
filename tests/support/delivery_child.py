"""A small process around the store, to be killed: decides as the key service does, answers only what is committed.

Run as `python delivery_child.py DIRECTORY FD`; speaks length-prefixed MessagePack over the socket FD: [number, what, index, letter] in,
[number, outcome, bytes] out. Requests are answered in whatever order their commits finish; time stands still.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgpack

from qnode.core.delivery import (
    Acknowledged,
    Ask,
    Build,
    Collected,
    Effect,
    GiveErasure,
    HandOut,
    KeyRequested,
    Persist,
    Refuse,
    Revoked,
    TellAcknowledged,
    step,
)
from qnode.store import Store, index_key
from qustream.errors import QuStreamError
from qustream.model.base import Signed

ALICE, BOB, PHONE, GRANT = (letter * 32 for letter in (b"a", b"b", b"p", b"g"))
NOW_MS = 1_800_000_000_000
ANSWER_BYTES = 60_000  # 15 pages: enough for a commit to be caught in the middle
LENGTH = struct.Struct(">I")


class Child:
    def __init__(self, store: Store, sock: socket.socket) -> None:
        self._store, self._sock = store, sock
        self._sending = threading.Lock()

    def serve(self) -> None:
        stream = self._sock.makefile("rb")
        while header := stream.read(LENGTH.size):
            number, what, index, letter = msgpack.unpackb(stream.read(LENGTH.unpack(header)[0]))
            try:
                self._take(number, what, index_key(GRANT, index), letter)
            except QuStreamError as error:
                self._tell(number, error.code)

    def _take(self, number: int, what: str, at: bytes, letter: str) -> None:
        if what == "ask":
            self._asked(number, at, Ask(letter.encode() * 32, ALICE, PHONE, (BOB,), 10**9, NOW_MS + 10**12))
        elif what == "collect":
            self._settle(number, at, step(self._store.mark(at), Collected(BOB), NOW_MS))
        else:
            event = {
                "ack": Acknowledged(ALICE, PHONE, collected=False),
                "got": Acknowledged(BOB, PHONE, collected=True),
                "revoke": Revoked(ALICE, Signed(os.urandom(16), bytes(3373)), NOW_MS),
            }[what]
            future = self._store.step(at, event, NOW_MS)
            future.add_done_callback(lambda done: self._settle(number, at, done.result()))

    def _asked(self, number: int, at: bytes, ask: Ask) -> None:
        effects = step(self._store.mark(at), KeyRequested(ask), NOW_MS)
        if effects != [Build()]:
            self._settle(number, at, effects)
            return
        answer = os.urandom(ANSWER_BYTES)
        future = self._store.store_answer(at, ask, self._store.seal_answer(at, answer), issued_ms=NOW_MS, now_ms=NOW_MS)
        future.add_done_callback(lambda done: self._settle(number, at, done.result(), answer))

    def _settle(self, number: int, at: bytes, effects: Sequence[Effect], built: bytes = b"") -> None:
        for effect in effects:
            if isinstance(effect, Refuse):
                self._tell(number, effect.code)
            elif isinstance(effect, TellAcknowledged):
                self._tell(number, "erased" if effect.erased else "noted")
            elif isinstance(effect, GiveErasure):
                self._tell(number, "erasure", effect.erasure.body)
            elif isinstance(effect, HandOut):
                try:
                    self._tell(number, "answer", built if isinstance(effects[0], Persist) else self._store.answer(at))
                except QuStreamError as error:
                    self._tell(number, error.code)

    def _tell(self, number: int, outcome: str, data: bytes = b"") -> None:
        body = msgpack.packb([number, outcome, data])
        with self._sending:
            self._sock.sendall(LENGTH.pack(len(body)) + body)


def main() -> None:
    with Store.open(Path(sys.argv[1]), bytes(32), room_blocks=64, marks_max=10_000) as store:
        store.sweep(NOW_MS).result()
        Child(store, socket.socket(fileno=int(sys.argv[2]))).serve()


if __name__ == "__main__":
    main()
