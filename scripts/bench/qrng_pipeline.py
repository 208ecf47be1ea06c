"""The whole way from raw bytes to units, from memory: health tests, conditioning, DRBG XOR, ledger, slots, the units' hashes.

Rows: raw rate of one process against memcpy of the same bytes and against `rngtest` (Debian rng-tools5; left out, and said so, where
that program is missing); output of one process on every core. "Ours" is all that the process of a device does with a byte: the pipeline,
the copy into a unit's slot, SHA-256 of the material, the wiping. Rows named `pipeline_…` are without the last three. Samples are bytes at
full min-entropy (h = 8/8).
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import ssl
import subprocess
import sys
import time
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
from report import MIN_ROUNDS, Row, Times, compare, emit, measure, plain

from qrngd.pipeline import Conditioned, Pipeline
from qrngd.slots import SlotMemory
from qrngd.worker.filling import SlotFiller
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

CALL_BYTES = 1 << 20  # what the daemon reads at once
STREAM_BYTES = 8 << 20
ROUNDS = 7
CORES_ROUND_S = 0.5  # long enough that starting together does not matter
GBIT = 8 / 1e9
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "67108864"}  # as the daemons' units set them
DESCRIPTOR = DeviceDescriptor("chardev", "memory", "", 8, 8000, 0, False, False, "")


SLOTS = 16  # as the daemon keeps at least


class Maker:
    """A live pipeline and, unless it is `bare`, the slots its output goes into; full ones are free again at once."""

    def __init__(self, *, bare: bool) -> None:
        self._pipeline = Pipeline(DESCRIPTOR, draw=ssl.RAND_bytes, reseed=lambda seed: ssl.RAND_add(seed, 0.0))
        self._pipeline.opened(DESCRIPTOR)
        self._pipeline.feed(os.urandom(self._pipeline.layout.window_bytes))
        self._filler = None if bare else SlotFiller(SlotMemory.create(SLOTS), 0)
        if self._filler:
            self._filler.give(range(SLOTS))

    def feed_all(self, raw: memoryview) -> int:
        """Feed `raw` in calls of `CALL_BYTES`; return the bytes that came out, in units or as they are."""
        out = 0
        for start in range(0, len(raw), CALL_BYTES):
            for event in self._pipeline.feed(raw[start : start + CALL_BYTES]):
                if isinstance(event, Conditioned):
                    out += self._put(event)
        return out

    def _put(self, event: Conditioned) -> int:
        if self._filler is None:
            return len(event.data)
        made = self._filler.put(event, 0)
        self._filler.give(unit.slot for unit in made)
        return len(made) * UNIT_BYTES


def copied(times: Times) -> Row:
    ours, theirs = times.ours_rate(STREAM_BYTES * GBIT), times.theirs_rate(STREAM_BYTES * GBIT)
    return compare("raw_against_memcpy", ours, theirs, unit="Gbit/s", against="memcpy of the same bytes", cpu_s=times.cpu_s)


def against_rngtest(program: str, maker: Maker, bare: Maker, raw: memoryview) -> list[Row]:
    """rngtest reads its input from a pipe to the end; starting it is a few milliseconds of its hundreds."""

    def theirs() -> None:
        subprocess.run([program], input=raw, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    rows = []
    for name, who, at_least in (("raw_against_rngtest", maker, 40), ("pipeline_raw_against_rngtest", bare, None)):
        times = measure(partial(who.feed_all, raw), theirs, rounds=ROUNDS)
        ours, others = times.ours_rate(len(raw) * GBIT), times.theirs_rate(len(raw) * GBIT)
        rows.append(compare(name, ours, others, unit="Gbit/s", against="rngtest on the same bytes", at_least=at_least))
    return rows


def worker(link: Connection, bare: bool) -> None:
    """One process of its own: on every number that arrives, feed for that many seconds and answer with output bytes a second."""
    maker, raw = Maker(bare=bare), memoryview(os.urandom(STREAM_BYTES))
    maker.feed_all(raw)
    link.send(0.0)
    while seconds := link.recv():
        out, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds:
            out += maker.feed_all(raw)
        link.send(out / passed)


def all_cores(*, bare: bool) -> list[float]:
    """Gbit/s out of one process a core, all at once, by round."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(os.cpu_count() or 1)]
    processes = [context.Process(target=worker, args=(theirs, bare)) for _, theirs in pairs]
    for process in processes:
        process.start()
    links = [ours for ours, _ in pairs]
    rates = []
    for seconds in [0.0, *[CORES_ROUND_S] * MIN_ROUNDS]:
        if seconds:
            for link in links:
                link.send(seconds)
        rates.append(sum(link.recv() for link in links) * GBIT)
    for link, process in zip(links, processes, strict=True):
        link.send(0.0)
        process.join()
    return rates[1:]


def main() -> None:
    if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)  # they are read when a process begins
    raw = memoryview(os.urandom(STREAM_BYTES))
    source, copy = np.frombuffer(raw, dtype=np.uint8), np.empty(STREAM_BYTES, dtype=np.uint8)
    maker, bare = Maker(bare=False), Maker(bare=True)
    cores = os.cpu_count()
    times = measure(lambda: maker.feed_all(raw), lambda: np.copyto(copy, source), rounds=ROUNDS)
    # The two in alternation, so that their ratio holds whatever the machine does meanwhile.
    both = measure(lambda: maker.feed_all(raw), lambda: bare.feed_all(raw), rounds=ROUNDS)
    ours, pipelines = both.ours_rate(STREAM_BYTES * GBIT), both.theirs_rate(STREAM_BYTES * GBIT)
    rows = [
        plain("raw_one_process", times.ours_rate(STREAM_BYTES * GBIT), unit="Gbit/s", at_least=7.5),
        plain("raw_a_cpu_second", [STREAM_BYTES * GBIT / times.cpu_s], unit="Gbit/s"),
        copied(times),
        plain("pipeline_raw_one_process", pipelines, unit="Gbit/s"),
        compare("raw_against_pipeline", ours, pipelines, unit="Gbit/s", against="the pipeline without slots and hashes"),
        plain(f"out_on_{cores}_cores", all_cores(bare=False), unit="Gbit/s", at_least=10),
        plain(f"pipeline_out_on_{cores}_cores", all_cores(bare=True), unit="Gbit/s"),
    ]
    program = shutil.which("rngtest")
    skipped = {} if program else {"raw_against_rngtest": "the program rngtest (Debian rng-tools5) is not installed"}
    if program:
        rows += against_rngtest(program, maker, bare, raw)
    emit("qrng_pipeline", rows, ROUNDS, skipped=skipped)


if __name__ == "__main__":
    main()
