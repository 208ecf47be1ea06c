"""The targets by name. Each is a module with `run(data)`, which returns or fails, and `seeds()`, the inputs to start from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["NAMES", "Target", "target"]

NAMES = ("decoders", "frames", "gossip", "handshake", "pages", "peers", "records", "transactions")


class Target(NamedTuple):
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]


def target(name: str) -> Target:
    """Imported when it is asked for, so that a fuzzer can instrument what is imported with it."""
    module = importlib.import_module(f"support.fuzzing.{name}")
    return Target(module.run, module.seeds)
