"""The fault script of the emulator: what goes wrong, where in the stream, from which seed (`proto/spec/entropy-feed.md`, "Devices").

script = fault *( ("+" / newline) fault )            lines that begin with # are comments
fault  = kind [ "@" key "=" number *( "," key "=" number ) ]

stuck@bytes=1000000                          from byte 1,000,000 on every byte is 0
biased@permille=150,seed=7+torn@most=777     15 % of the bytes are 0, and every read is short
vanish@bytes=5000000,opens=3                 gone at byte 5,000,000; the next three attempts to open fail
dead@bytes=9000000,opens=1                   silent from byte 9,000,000 on, until it is opened again

A fault acts on *cells*: a cell is a sample, or eight samples of one bit, which stand in one byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from qustream.errors import fault

__all__ = ["KINDS", "Fault", "Keys", "parse_faults", "parse_script"]

# A script is written by hand for a test: sixteen faults are more than anybody follows.
FAULTS_MAX = 16
SCRIPT_MAX_CHARS = 4096
CELL_MAX = (1 << 16) - 1  # the widest sample
_FAULT = re.compile(r"([a-z]+)(?:@([a-z]+=[0-9]+(?:,[a-z]+=[0-9]+)*))?", re.ASCII)
Keys: TypeAlias = dict[str, tuple[int, int, int]]  # each key: default, least, most
_EVERYWHERE: Keys = {"bytes": (0, 0, 1 << 62)}
_STRETCH = _EVERYWHERE | {"length": (1 << 62, 1, 1 << 62)}
KINDS: dict[str, Keys] = {
    # Cells become `value`.
    "stuck": _STRETCH | {"value": (0, 0, CELL_MAX)},
    # Each cell becomes `value` with a chance of `permille` / 1000.
    "biased": _STRETCH | {"value": (0, 0, CELL_MAX), "permille": (150, 1, 1000), "seed": (0, 0, 1 << 62)},
    # Each cell becomes the one `lag` before it with that chance.
    "correlated": _STRETCH | {"lag": (1, 1, 4096), "permille": (250, 1, 1000), "seed": (0, 0, 1 << 62)},
    # At most `rate` bytes a second.
    "slow": _STRETCH | {"rate": (10_000, 1, 1 << 40)},
    # A read gives from 1 to `most` bytes.
    "torn": _STRETCH | {"most": (1000, 1, 1 << 20), "seed": (0, 0, 1 << 62)},
    # The device is lost once, at byte `bytes`; the next `opens` attempts to open fail.
    "vanish": _EVERYWHERE | {"opens": (0, 0, 1 << 20)},
    # As `vanish`; what is opened then is another device, with another serial number.
    "swapped": _EVERYWHERE | {"opens": (0, 0, 1 << 20)},
    # From byte `bytes` on nothing comes until the device has been opened `opens` times more.
    "dead": _EVERYWHERE | {"opens": (1 << 62, 1, 1 << 62)},
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, effective in bytes start … end-1 of the stream. `numbers`: its own keys, defaults filled in."""

    kind: str
    start: int
    end: int
    numbers: dict[str, int]


def parse_faults(script: str) -> tuple[Fault, ...]:
    """The faults of a script, in its order; none for an empty one. Raises E-CONFIG naming the part that is wrong."""
    return tuple(_placed(kind, numbers) for kind, numbers in parse_script(script, KINDS))


def _placed(kind: str, numbers: dict[str, int]) -> Fault:
    start = numbers.pop("bytes")
    return Fault(kind, start, start + numbers.pop("length", 1), numbers)


def parse_script(script: str, kinds: Mapping[str, Keys]) -> list[tuple[str, dict[str, int]]]:
    """The parts of a script with faults of these kinds: kind and numbers, defaults filled in. Raises E-CONFIG."""
    if len(script) > SCRIPT_MAX_CHARS:
        raise fault("E-CONFIG", f"a fault script of {len(script)} characters; at most {SCRIPT_MAX_CHARS}")
    lines = [line.strip() for line in script.split("\n")]
    texts = [text for line in lines if line and not line.startswith("#") for text in line.split("+")]
    if len(texts) > FAULTS_MAX:
        raise fault("E-CONFIG", f"a fault script with {len(texts)} faults; at most {FAULTS_MAX}")
    return [_parse_fault(text, kinds) for text in texts]


def _parse_fault(text: str, kinds: Mapping[str, Keys]) -> tuple[str, dict[str, int]]:
    match = _FAULT.fullmatch(text)
    if match is None:
        raise fault("E-CONFIG", f"fault {text!r}: expected kind or kind@key=number,…")
    kind, settings = match[1], match[2]
    known = kinds.get(kind)
    if known is None:
        raise fault("E-CONFIG", f"fault {text!r}: no kind {kind!r}; there are {', '.join(kinds)}")
    numbers = {key: default for key, (default, _, _) in known.items()}
    seen = set()
    for setting in settings.split(",") if settings else ():
        key, _, digits = setting.partition("=")
        if key not in known:
            raise fault("E-CONFIG", f"fault {text!r}: {kind} has no {key!r}; it has {', '.join(known)}")
        if key in seen:
            raise fault("E-CONFIG", f"fault {text!r}: {key} stands twice")
        seen.add(key)
        _, least, most = known[key]
        if len(digits) > 19 or not least <= int(digits) <= most:
            raise fault("E-CONFIG", f"fault {text!r}: {key} must lie between {least} and {most}")
        numbers[key] = int(digits)
    return kind, numbers
