"""What the programs that play random histories have in common (`scripts/soak`): one seed told in full, or many counted."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Breach", "play_many", "seeds_parser"]

_H = TypeVar("_H")
# Seeds between two words of how far it is: whoever stops it knows what was played.
TOLD_EVERY = 50


class Breach(AssertionError):
    """What must never be; its text says how to see it again."""


def seeds_parser(about: str | None) -> argparse.ArgumentParser:
    """Takes `--seed`, `--seeds` and `--first`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="one, told in full")
    parser.add_argument("--seeds", type=int, default=200, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    return parser


def play_many(arguments: argparse.Namespace, play: Callable[[int], _H], is_bad: Callable[[_H], object]) -> tuple[list[_H], int, float]:
    """Play the seeds asked for and print what is bad. The histories that came to an end, how many were bad, and how long all took."""
    started, histories, bad = time.monotonic(), [], 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if seed > arguments.first and (seed - arguments.first) % TOLD_EVERY == 0:
            print(f"{seed - arguments.first} seeds so far, {bad} bad, {time.monotonic() - started:.0f} s", file=sys.stderr)
        try:
            history = play(seed)
        except Breach as breach:
            bad += 1
            print(breach)
            continue
        histories.append(history)
        if is_bad(history):
            bad += 1
            print(history)
    return histories, bad, time.monotonic() - started
