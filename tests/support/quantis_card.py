"""A Quantis card for tests, played by a preloaded library (`quantis_shim.c`): its state, what it delivers, and who reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["GOOD", "PATTERN", "Card", "compile_shim"]

SUPPORT = Path(__file__).resolve().parent
PATTERN = bytes(range(256)) * 64  # what the card delivers, over and over
GOOD = {"driver": 21, "board": 0x00010203, "mask": 0b0111, "status": 0b0111, "pci": 3 << 16 | 17, "ioctl_errno": 0, "read_errno": 0}


def compile_shim(folder: Path) -> Path:
    """The library, made in `folder`."""
    library = folder / "quantis_shim.so"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, SUPPORT / "quantis_shim.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


class Card:
    """The card: its state, and what reads it."""

    def __init__(self, shim: Path, folder: Path) -> None:
        self.path, self._shim, self._state = "", shim, folder / "state"
        self.say()

    def say(self, **changes: int) -> None:
        """From now on the card says `GOOD` with these changes."""
        numbers = GOOD | changes
        temporary = self._state.with_suffix(".new")
        temporary.write_text(" ".join(str(number) for number in numbers.values()))
        temporary.rename(self._state)

    @contextmanager
    def delivering(self, stream: Callable[[], bytes] = lambda: PATTERN) -> Iterator[None]:
        """While it is in the machine: what `stream` gives, as fast as it is read."""
        master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)

        def deliver() -> None:
            try:
                while True:
                    os.write(master, stream())
            except OSError:
                return  # nobody holds the other end any more

        thread = threading.Thread(target=deliver)
        thread.start()
        try:
            yield
        finally:
            # What is written to a terminal nobody holds is refused, but a writer that waits for room has to be woken first.
            os.set_blocking(master, False)
            tty.tcflush(slave, tty.TCIOFLUSH)
            os.close(slave)
            thread.join(60)
            os.close(master)
            assert not thread.is_alive()

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that has the card."""
        shim = {"LD_PRELOAD": str(self._shim), "QUANTIS_SHIM_PATH": self.path, "QUANTIS_SHIM_STATE": str(self._state)}
        return os.environ | shim

    @contextmanager
    def read_by(self, who: str) -> Iterator[Any]:
        """A process that reads it; what is yielded sends a command and gives the answer."""
        command = [sys.executable, SUPPORT / "quantis_child.py", who, self.path]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment)
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            stdin, stdout = child.stdin, child.stdout

            def ask(command: str) -> Any:
                print(command, file=stdin, flush=True)
                return json.loads(stdout.readline())

            yield ask
            stdin.close()
        assert child.returncode == 0
