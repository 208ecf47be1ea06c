"""An emulated device as a FIFO: it writes while somebody reads, and its end is the end of the stream."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path

from qrngd.emulation.pace import Pace
from qrngd.emulation.source import ByteSource
from qustream.errors import QuStreamError, fault

__all__ = ["serve_fifo"]

# How often it looks whether it is to end, and whether a reader has come.
LOOK_INTERVAL_MS = 20
CHUNK_BYTES = 1 << 16  # what a pipe holds


def serve_fifo(path: Path, source: ByteSource, pace: Pace, *, stop: Callable[[], bool], ready: Callable[[], None]) -> None:
    """Until `stop()` says so. `ready` is called when the FIFO is there. Raises E-FILE when something else stands at `path`."""
    try:
        if not path.exists():
            os.mkfifo(path, 0o600)
        if not stat.S_ISFIFO(path.stat().st_mode):
            raise fault("E-FILE", f"{path} is there and no FIFO")
    except OSError as error:
        raise fault("E-FILE", f"{path}: {error.strerror}") from None
    ready()
    while not stop():
        try:
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # nobody reads
            time.sleep(LOOK_INTERVAL_MS / 1000)
            continue
        try:
            _write(writer, source, pace, stop)
        except BrokenPipeError:  # the reader has left; another may come
            continue
        except QuStreamError:  # the device vanished, as its script says
            os.close(writer)
            writer = -1
            source.return_after_vanishing(stop)
        finally:
            if writer >= 0:
                os.close(writer)


def _write(writer: int, source: ByteSource, pace: Pace, stop: Callable[[], bool]) -> None:
    poll = select.poll()
    poll.register(writer, select.POLLOUT)
    rest = b""
    while not stop():
        if not poll.poll(LOOK_INTERVAL_MS):
            continue
        rest = rest or source.draw(pace.allowed(CHUNK_BYTES))
        if not rest:
            time.sleep(LOOK_INTERVAL_MS / 1000)
            continue
        try:
            size = os.write(writer, rest)
        except BlockingIOError:
            continue
        pace.spend(size)
        rest = rest[size:]
