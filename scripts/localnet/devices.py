"""Which device a local network takes its randomness from, and how long that will take."""

from __future__ import annotations

import glob
import json
import os
import subprocess
from pathlib import Path

import click

from localnet.processes import BIN, Failed
from qustream.model.entropy import UNIT_BYTES

# Min-entropy credited to a byte of a character device nobody has assessed, in millibits: 6 of 8 bits; Linux itself credits 8.
CHARDEV_MILLIBITS = 6000
RAW_PER_UNIT = 2 * UNIT_BYTES  # ⌈192 / (128 · ¾)⌉ = 2 raw bytes for each byte out at that credit
ENOUGH_UNITS_PER_SECOND = 1.0  # below this a run of six blocks would make the user wait
MEASURE_SECONDS = 2
CANDIDATES = ("/dev/qrandom*", "/dev/hwrng")


def choose(wish: str) -> tuple[str, float]:
    """Turn `emulator`, `auto` or a path into the device to use and its units a second (0: not measured); says what was chosen and why."""
    if wish.startswith("emulator"):
        return wish, 0.0
    if wish != "auto":
        if not os.access(wish, os.R_OK):
            raise Failed(f"{wish} is not there or may not be read; choose another --device")
        rate = units_per_second(wish)
        if not rate:
            raise Failed(f"{wish} delivers nothing or fails its tests; see: qrngd selftest --device {wish}")
        return str(Path(wish).resolve()), rate
    for path in (p for pattern in CANDIDATES for p in sorted(glob.glob(pattern)) if os.access(p, os.R_OK)):
        rate = units_per_second(path)
        if rate >= ENOUGH_UNITS_PER_SECOND:
            click.echo(f"device: {path}, {rate:.1f} units/s", err=True)
            return path, rate
        click.echo(f"device: {path} gives {rate:.3f} units/s, too slow for auto (name it with --device to use it all the same)", err=True)
    click.echo("device: no fast enough hardware found; the EMULATOR is used, and attestations will say so", err=True)
    return "emulator", 0.0


def units_per_second(path: str) -> float:
    """Measure a device with `qrngd selftest`; 0 when it fails its tests."""
    click.echo(f"device: measuring {path}; a slow one takes half a minute ...", err=True)
    done = subprocess.run(
        [BIN / "qrngd", "selftest", "--device", path, "--seconds", str(MEASURE_SECONDS), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"qrngd selftest on {path}: {done.stderr.strip() or 'no report'}") from None
    return float(report["raw_bytes_per_second"]) / RAW_PER_UNIT if done.returncode == 0 else 0.0
