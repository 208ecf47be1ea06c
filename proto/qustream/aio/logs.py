"""Logs: one JSON object a line on standard error, or lines for people when that is a terminal. Never a secret, in either.

Where standard error is the journal, each line begins with its priority, `<3>` for an error (`sd-daemon(3)`): the journal takes that off,
keeps it, and whoever watches it for `-p err` sees what is one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any

from qustream.aio.journal import PRIORITIES, is_journal

# structlog takes rich along wherever it is installed, a tenth of a second at every start, for tracebacks that show what variables hold. We
# want neither: the one is time, and the other would put secrets on a terminal. What stands so in `sys.modules` cannot be imported.
_hidden = {"rich": None} if not {"rich", "structlog"} & sys.modules.keys() else {}
sys.modules |= _hidden  # type: ignore[arg-type]
try:
    import structlog
finally:
    for _name in _hidden:
        sys.modules.pop(_name, None)

__all__ = ["configure_logs", "logger"]


class _StandardError:
    """Writes whole lines, unbuffered. A log that cannot be written (disk full, reader gone) must not stop what it speaks of."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Nothing is buffered."""


def configure_logs(level: str) -> None:
    """Once, before anything is logged. `level`: debug, info, warning or error."""
    ending: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)] if sys.stderr.isatty() else [
        structlog.processors.ExceptionRenderer(),
        _for_journal if is_journal() else _AS_JSON,
    ]  # fmt: skip
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), *ending],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


_AS_JSON = structlog.processors.JSONRenderer(sort_keys=True)


def _for_journal(log: Any, method: str, event: structlog.typing.EventDict) -> str:
    """The line with its priority in front."""
    return f"<{PRIORITIES[event['level']]}>{_AS_JSON(log, method, event)!s}"


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The log of the part `name` of a daemon; the name stands in every line."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return log
