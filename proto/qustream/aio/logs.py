"""Logs: one JSON object a line on standard error, or lines for people when that is a terminal. Never a secret, in either."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

__all__ = ["configure_logs", "logger"]


def configure_logs(level: str) -> None:
    """Once, before anything is logged. `level`: debug, info, warning or error."""
    terminal = sys.stderr.isatty()
    renderer: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(sort_keys=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.ExceptionRenderer() if not terminal else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The log of the daemon `name`."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return log
