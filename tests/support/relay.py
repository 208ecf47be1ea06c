"""A line between two TCP ports that counts what passes.

with Relay("127.0.0.1:0", "127.0.0.1:7400") as relay:
    relay.address; relay.passed
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

__all__ = ["Relay"]

PIECE_BYTES = 1 << 18


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


class Relay:
    """`passed`: bytes in both directions."""

    def __init__(self, address: str, target: str) -> None:
        self._target = _parsed(target)
        self._listener = socket.create_server(_parsed(address))
        self.address = "{}:{}".format(*self._listener.getsockname()[:2])
        self._passed: dict[int, int] = {}  # by thread: nobody counts for another
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def passed(self) -> int:
        return sum(self._passed.values())

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                try:
                    there = socket.create_connection(self._target, timeout=60)
                except OSError:
                    here.close()
                    continue
                there.settimeout(None)
                self._open |= {here, there}
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        me = threading.get_ident()
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                target.sendall(piece)
                self._passed[me] = self._passed.get(me, 0) + len(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for end in self._open:
            end.close()
