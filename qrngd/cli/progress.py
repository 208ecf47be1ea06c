"""One line that changes while a command works, where a person looks on; nothing where nobody does."""

from __future__ import annotations

import sys
import time

import click

__all__ = ["ProgressLine"]

PROGRESS_S = 0.5  # often enough to be seen to work, seldom enough to cost nothing


class ProgressLine:
    """The line, on standard error if that is a terminal."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + PROGRESS_S
        self._shown = sys.stderr.isatty()
        self._length = 0

    def show(self, text: str, *, is_last: bool = False) -> None:
        """Replace the line by `text`, if the last time is long enough ago. `is_last`: in any case, and end it."""
        if self._shown and (is_last or time.monotonic() >= self._next_s):
            click.echo(f"\r{text.ljust(self._length)}", nl=is_last, err=True)
            self._length = len(text)
            self._next_s = time.monotonic() + PROGRESS_S

    def end(self) -> None:
        """Leave what stands there, and begin a new line."""
        if self._length:
            click.echo(err=True)
            self._length = 0
