"""What protects the bytes between two engines: TLS (`qustream.transport.tls`), or nothing on a Unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qustream.model.keys import PublicKey

__all__ = ["Layer", "PlainLayer"]


class Layer(Protocol):
    """Bytes of the network on one side, plaintext on the other.

    `ready`: the other end is known and plaintext may pass; `ended`: it said that nothing more comes; `worn`: the keys have protected
    as much as they may; `owes`: it may have something to say by itself; `received_records`: how many pieces have come that had to be
    opened one by one; `borrows`: whether `pull` gives out the very parts that were written, so that they must stay as they are until the
    network has them; `peer_key`, `exporter`: what binds the channel to its ends. `receive` returns plaintext that may lie in `data`.
    """

    borrows: bool
    ready: bool
    ended: bool
    peer_key: PublicKey | None
    exporter: bytes

    @property
    def worn(self) -> bool: ...
    @property
    def owes(self) -> bool: ...
    @property
    def received_records(self) -> int: ...
    def start(self) -> None: ...
    def receive(self, data: bytes | bytearray | memoryview) -> Sequence[bytes | bytearray | memoryview]: ...
    def write(self, *plaintext: bytes | memoryview) -> None: ...
    def shutdown(self) -> None: ...
    def pull(self) -> list[bytes | memoryview]: ...


class PlainLayer:
    """No protection: the two ends of a Unix socket, of which the kernel says whose they are."""

    def __init__(self) -> None:
        self.borrows = True
        self.ready = True
        self.ended = False
        self.peer_key: PublicKey | None = None
        self.exporter = b""
        self.received_records = 0
        self._out: list[bytes | memoryview] = []

    @property
    def worn(self) -> bool:
        """There are no keys."""
        return False

    @property
    def owes(self) -> bool:
        return bool(self._out)

    def start(self) -> None:
        """Nothing to agree on."""

    def receive(self, data: bytes | bytearray | memoryview) -> list[bytes | bytearray | memoryview]:
        if not len(data):
            return []
        self.received_records += 1
        return [data]

    def write(self, *plaintext: bytes | memoryview) -> None:
        self._out += plaintext

    def shutdown(self) -> None:
        """Nothing to say: the end of the stream says it."""

    def pull(self) -> list[bytes | memoryview]:
        parts, self._out = self._out, []
        return parts
