"""The random bytes of an emulated device that is a program of its own, and its coming and going."""

from __future__ import annotations

import time
from collections.abc import Callable

from qrngd.devices import Emulator, reopen_delay_ms
from qustream.errors import QuStreamError

__all__ = ["ByteSource"]


class ByteSource:
    """`qrngd.devices.emulator`'s bytes under a fault script. Raises E-CONFIG for a bad one."""

    def __init__(self, script: str = "") -> None:
        self._emulator = Emulator(script)
        self._emulator.open()

    def draw(self, most: int) -> bytes:
        """Up to `most` bytes, none when there are none now. Raises E-DEV-ABSENT when the device vanishes."""
        return self._emulator.read(most)

    def return_after_vanishing(self, stop: Callable[[], bool]) -> None:
        """Stay away for half a second, and as long again for each of the fault's `opens`: one attempt to open for each."""
        while not stop():
            time.sleep(reopen_delay_ms(0) / 1000)
            try:
                self._emulator.open()
            except QuStreamError:
                continue
            return

    def close(self) -> None:
        """Let go."""
        self._emulator.close()
