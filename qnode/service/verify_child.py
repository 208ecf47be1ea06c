"""A process that checks signatures and does nothing else (`python -I -m qnode.service.verify_child LINK`).

Read a batch, answer one byte for each of its jobs, in order; it ends when the other end of the link is gone, whatever ended the daemon.
Nothing of the event loop is imported here: the process is small, and there within a fifth of a second.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence

import msgspec

from qustream.identity.verifying import verify_hybrid, verify_vote_key

__all__ = ["BATCH_MAX_BYTES", "HEAD_BYTES", "HYBRID", "VOTE", "Check", "check", "main", "pack", "unpack"]

HYBRID, VOTE = 0, 1
# Signatures of 64 KiB transactions and their keys, of a whole batch, and twice that: nobody but our own daemon writes here.
BATCH_MAX_BYTES = 8 << 20
# In front of a batch: its length, big endian.
HEAD_BYTES = 4


class Check(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A signature. `purpose`: of a hybrid one its short name; of a vote key's the whole context string."""

    kind: int
    public: bytes
    purpose: bytes
    message: bytes
    signature: bytes


_DECODER = msgspec.msgpack.Decoder(list[list[Check]])
_ENCODER = msgspec.msgpack.Encoder()


def pack(jobs: Sequence[Sequence[Check]]) -> bytes:
    """A batch as it goes over the link."""
    body = _ENCODER.encode(jobs)
    assert len(body) <= BATCH_MAX_BYTES
    return len(body).to_bytes(HEAD_BYTES, "big") + body


def unpack(body: bytes) -> list[list[Check]]:
    """A batch without its head."""
    return _DECODER.decode(body)


def check(job: Sequence[Check]) -> bool:
    """Whether all signatures of a job hold."""
    return all(_holds(each) for each in job)


def _holds(each: Check) -> bool:
    if each.kind == HYBRID:
        return verify_hybrid(each.public, each.purpose.decode("ascii"), each.message, each.signature)
    return verify_vote_key(each.public, each.purpose, each.message, each.signature)


def _read(link: socket.socket, size: int) -> bytes:
    """So many bytes, or none if the other end is gone."""
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(min(size - len(parts), 1 << 18))  # what a read of a socket gives at most
        if not part:
            return b""
        parts += part
    return bytes(parts)


def main() -> None:
    """`LINK`: the inherited descriptor. The daemon decides when this ends, so signals meant for it are not for us."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as link:
        try:
            while head := _read(link, HEAD_BYTES):
                body = _read(link, int.from_bytes(head, "big"))
                if not body:
                    return
                link.sendall(bytes(map(check, unpack(body))))
        except OSError:
            return  # nobody is left to tell


if __name__ == "__main__":
    main()
