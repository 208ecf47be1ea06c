"""The report of `scripts/randomness`: conditioned output of a pipeline and /dev/urandom, through the same programs.

Nothing is written to disk: each program reads a fresh stretch of the stream, as long as it likes. Exit 0 whatever is found.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from qrngd.cli.assess_suite import COMMAND, MISSING
from qrngd.cli.device_choice import DeviceChoice, read_some
from qrngd.pipeline import Conditioned, Pipeline
from qustream.errors import QuStreamError

CHUNK_BYTES = 1 << 20
SUITE_BYTES = 1_000_000  # what SP 800-90B asks for
# Of dieharder's tests those that its own list calls good, that are different from each other, and that take seconds and not minutes.
DIEHARDER = {
    0: "birthdays",
    2: "32x32 rank",
    8: "count the 1s",
    15: "runs",
    100: "monobit",
    101: "sts runs",
    205: "bytes",
    209: "monobit 2",
}


class Feed:
    """A stream of random bytes, and how many were taken from it."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self.taken_bytes = 0

    def __call__(self) -> bytes:
        piece = self._more()
        self.taken_bytes += len(piece)
        return piece


@dataclass
class Row:
    """One figure of both streams; None where a program gave none."""

    program: str
    figure: str
    ideal: str
    qrngd: float | None
    urandom: float | None


def conditioned(choice: DeviceChoice) -> Callable[[], bytes]:
    """What comes out of the pipeline of a device, in pieces. Raises the device's errors, E-DEV-LATCHED among them."""
    device = choice.device
    descriptor = device.open()
    pipeline = Pipeline(
        descriptor,
        draw=ssl.RAND_bytes,
        reseed=lambda seed: ssl.RAND_add(seed, 0.0),
        assessed_min_entropy_millibits=choice.assessed_min_entropy_millibits,
    )
    pipeline.opened(descriptor)
    buffer = memoryview(bytearray(CHUNK_BYTES))

    def feed() -> bytes:
        while True:
            events = pipeline.feed(buffer[: read_some(device, buffer)])
            if found := b"".join(event.data for event in events if isinstance(event, Conditioned)):
                return found

    return feed


def run(command: list[str], feed: Feed, size: int | None) -> str:
    """What a program says of `size` bytes of the stream, or of as many as it takes. Both of its outputs."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said: list[bytes] = []
        listener = threading.Thread(target=lambda: said.append(process.stdout.read() if process.stdout else b""))
        listener.start()
        try:
            left = size
            while left is None or left > 0:
                piece = memoryview(feed())[:left]
                left = None if left is None else left - len(piece)
                while piece:
                    piece = piece[process.stdin.write(piece) :]
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has had enough
        except QuStreamError:
            process.kill()
            raise
        finally:
            listener.join()
    return b"".join(said).decode(errors="replace")


def ent(feed: Feed, size: int) -> dict[str, float]:
    fields = run(["ent", "-t"], feed, size).splitlines()[-1].split(",")
    return dict(zip(("entropy a byte", "chi-square", "mean", "Monte Carlo pi", "serial correlation"), map(float, fields[2:]), strict=True))


def rngtest(feed: Feed, size: int) -> dict[str, float]:
    said = run(["rngtest"], feed, size)
    good, bad = (re.search(rf"{word}: (\d+)", said) for word in ("successes", "failures"))
    if good is None or bad is None:
        return {}
    return {"blocks": float(good[1]) + float(bad[1]), "blocks failed": float(bad[1])}


def dieharder(feed: Feed, _size: int) -> dict[str, float]:
    """The p-values, the smallest where a test gives several."""
    found, before = {}, feed.taken_bytes
    for number, name in DIEHARDER.items():
        print(f"dieharder: {name} ...", file=sys.stderr)
        said = run(["dieharder", "-g", "200", "-d", str(number), "-D", "pvalues"], feed, None)
        values = [float(line) for line in said.split() if re.fullmatch(r"[01]\.\d+", line)]
        if values:
            found[f"p of {name}"] = min(values)
    return {"MB read": float((feed.taken_bytes - before) // 1_000_000)} | found


def suite(feed: Feed, _size: int) -> dict[str, float]:
    sample = b""
    while len(sample) < SUITE_BYTES:
        sample += feed()
    done = subprocess.run([*COMMAND, "8"], input=sample[:SUITE_BYTES], stdout=subprocess.PIPE, check=False)
    lines = done.stdout.decode(errors="replace").split()
    return {} if done.returncode or not lines else {"min-entropy a byte": float(lines[-1])}


PROGRAMS: dict[str, Callable[[Feed, int], dict[str, float]]] = {
    "ent": ent, "rngtest": rngtest, "dieharder": dieharder, "sp800-90b": suite,
}  # fmt: skip
IDEALS = {
    "entropy a byte": "8", "chi-square": "255 ± 45", "mean": "127.5", "Monte Carlo pi": "3.1416", "serial correlation": "0",
    "blocks failed": "8 of 10,000", "min-entropy a byte": "none: a low-side estimate",
}  # fmt: skip


def is_there(program: str) -> bool:
    if program == "sp800-90b":
        return subprocess.run([*COMMAND, "8"], input=b"", capture_output=True, check=False).returncode != MISSING
    return shutil.which(program) is not None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/randomness", description=__doc__)
    parser.add_argument("--device", default="emulator", help="emulator, emulator:FAULTS or a path (default: emulator)")
    parser.add_argument("--min-entropy-millibits", type=int, help="the maker's claim for one sample")
    parser.add_argument("--sample-bits", type=int, default=8)
    parser.add_argument(
        "--megabytes", type=int, default=100, help="for ent and for rngtest each (default: 100); dieharder takes what it likes"
    )
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="some of them, with commas")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    choice = DeviceChoice.of(
        config_path=None, name=None, device_text=options.device, min_entropy_millibits=options.min_entropy_millibits,
        sample_bits=options.sample_bits,
    )  # fmt: skip
    names = options.programs.split(",")
    if unknown := [name for name in names if name not in PROGRAMS]:
        sys.exit(f"no program {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    missing = [name for name in names if not is_there(name)]
    feeds = (Feed(conditioned(choice)), Feed(lambda: os.urandom(CHUNK_BYTES)))
    rows: list[Row] = []
    for name in names:
        if name not in missing:
            print(f"{name} ...", file=sys.stderr)
            ours, theirs = (PROGRAMS[name](feed, 1_000_000 * options.megabytes) for feed in feeds)
            rows += [
                Row(
                    name,
                    figure,
                    IDEALS.get(figure, "spread over 0 … 1" if figure.startswith("p of") else ""),
                    ours.get(figure),
                    theirs.get(figure),
                )
                for figure in dict.fromkeys([*ours, *theirs])
            ]
    if options.json:
        print(
            json.dumps(
                {"device": options.device, "megabytes": options.megabytes, "missing": missing, "rows": [asdict(row) for row in rows]}
            )
        )
        return
    print(f"{'':11}{'':22}{'qrngd':>14}{'/dev/urandom':>14}   ideal")
    for row in rows:
        ours_text, theirs_text = ("-" if value is None else f"{value:.8g}" for value in (row.qrngd, row.urandom))
        print(f"{row.program:11}{row.figure:22}{ours_text:>14}{theirs_text:>14}   {row.ideal}")
    if missing:
        print(f"MISSING, not run: {', '.join(missing)}")


if __name__ == "__main__":
    try:
        main()
    except QuStreamError as error:
        sys.exit(f"{error.code}: {error.detail}")
