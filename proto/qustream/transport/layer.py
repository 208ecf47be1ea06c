"""What protects the bytes between two engines: TLS (`qustream.transport.tls`), or nothing on a Unix socket."""

from __future__ import annotations

from typing import Protocol

from qustream.model.keys import PublicKey

__all__ = ["Layer", "PlainLayer"]


class Layer(Protocol):
    """Bytes of the network on one side, plaintext on the other.

    `ready`: the other end is known and plaintext may pass; `ended`: it said that nothing more comes; `worn`: the keys have protected
    as much as they may; `received_records`: how many pieces have come that had to be opened one by one; `borrows`: whether `pull` gives
    out the very parts that were written, so that they must stay as they are until the network has them; `peer_key`, `exporter`: what
    binds the channel to its ends.
    """

    borrows: bool
    ready: bool
    ended: bool
    peer_key: PublicKey | None
    exporter: bytes

    @property
    def worn(self) -> bool: ...
    @property
    def received_records(self) -> int: ...
    def start(self) -> None: ...
    def receive(self, data: bytes | bytearray | memoryview) -> list[bytes]: ...
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

    def start(self) -> None:
        """Nothing to agree on."""

    def receive(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        if not len(data):
            return []
        self.received_records += 1
        return [bytes(data)]

    def write(self, *plaintext: bytes | memoryview) -> None:
        self._out += plaintext

    def shutdown(self) -> None:
        """Nothing to say: the end of the stream says it."""

    def pull(self) -> list[bytes | memoryview]:
        parts, self._out = self._out, []
        return parts
