"""`qrngd selftest`: the start-up and continuous tests on a device, and what they say, without any network."""

from __future__ import annotations

import json
import ssl
import sys
import time
from dataclasses import asdict, dataclass

import click

from qrngd.cli.device_choice import DeviceChoice, device_options, read_some
from qrngd.cli.progress import ProgressLine
from qrngd.health.state import DeviceState
from qrngd.pipeline import Event, Pipeline, WindowDiscarded
from qustream.errors import QuStreamError, fault
from qustream.model.entropy import UNIT_BYTES, DeviceDescriptor

__all__ = ["selftest"]

READ_BYTES = 1 << 20  # one batch of the pipeline
# The start-up test of the slowest device we know takes ten seconds; a device that needs more than five minutes is of no use.
STARTUP_LIMIT_S = 300.0
RATE_MIN_S = 0.05  # a rate over less would be noise
FINDINGS_SHOWN = 5  # more would only say the same


@dataclass
class Report:
    """What the test found. Rates in bytes a second, both after the start-up test."""

    device: str
    source: str
    emulated: bool
    passed: bool
    verdict: str
    seconds: float
    sample_bits: int
    min_entropy_millibits: int
    rct_cutoffs: tuple[int, int]
    apt_cutoffs: tuple[int, int]
    apt_window: int
    raw_bytes: int
    samples: int
    windows: int
    windows_discarded: int
    alarms: tuple[int, int, int]
    conditioned_bytes: int
    raw_bytes_per_second: float
    conditioned_bytes_per_second: float
    findings: list[str]


@click.command()
@device_options
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="How long to go on after the start-up test."
)
@click.option("--bytes", "size_bytes", type=click.IntRange(min=1), help="Stop after so many raw bytes instead.")
@click.option("--json", "as_json", is_flag=True)
def selftest(*, seconds: float, size_bytes: int | None, as_json: bool, **options: object) -> None:
    """Read a device and run its health tests. Exit 0 when every window passed, 1 when one failed or the device gave up."""
    choice = DeviceChoice.of(**options)  # type: ignore[arg-type]  # click has checked them
    test = _Test(choice)
    choice.warn_of_others()
    report = test.run(seconds, size_bytes)
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        _show(report, guessed=choice.guessed)
    sys.exit(0 if report.passed else 1)


class _Test:
    def __init__(self, choice: DeviceChoice) -> None:
        self._device = choice.device
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._descriptor: DeviceDescriptor = choice.open()
        self._pipeline = Pipeline(
            self._descriptor,
            draw=ssl.RAND_bytes,
            reseed=lambda seed: ssl.RAND_add(seed, 0.0),
            assessed_min_entropy_millibits=choice.assessed_min_entropy_millibits,
        )
        self._raw_bytes = 0
        self._findings: list[str] = []

    def run(self, seconds: float, size_bytes: int | None) -> Report:
        """Read until the time or the bytes are over, or the device fails for good."""
        trouble = ""
        started = live_since = time.monotonic()
        raw_before = 0
        line = ProgressLine()
        self._note(self._pipeline.opened(self._descriptor))
        try:
            while self._pipeline.state is not DeviceState.FAILED:
                starting = not self._pipeline.measured.windows
                self._step()
                now = time.monotonic()
                line.show(f"{now - started:.0f} s: {self._raw_bytes} bytes, {self._pipeline.measured.windows} windows")
                if starting:
                    live_since, raw_before = now, self._raw_bytes
                    if now - started > STARTUP_LIMIT_S:
                        raise fault("E-DEV-READ", f"the start-up test is not over after {STARTUP_LIMIT_S:.0f} s")
                elif self._is_enough(size_bytes, seconds, now - live_since):
                    break
        except QuStreamError as error:
            trouble = f"{error.code}: {error.detail}"
        finally:
            line.end()
            self._device.close()
        return self._report(trouble, time.monotonic() - started, self._raw_bytes - raw_before, time.monotonic() - live_since)

    def _is_enough(self, size_bytes: int | None, seconds: float, live_seconds: float) -> bool:
        """A slow device is given the time to fill one window after the start-up test, too."""
        if size_bytes:
            return self._raw_bytes >= size_bytes
        return live_seconds >= seconds and (self._pipeline.measured.windows > 1 or live_seconds >= STARTUP_LIMIT_S)

    def _step(self) -> None:
        size = read_some(self._device, self._buffer)
        self._raw_bytes += size
        self._note(self._pipeline.feed(self._buffer[:size]))

    def _note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, WindowDiscarded) and len(self._findings) < FINDINGS_SHOWN:
                self._findings.append(f"window {event.verdict.window}: {event.verdict}")

    def _report(self, trouble: str, seconds: float, raw_bytes: int, live_seconds: float) -> Report:
        pipeline, measured = self._pipeline, self._pipeline.measured
        live = pipeline.state is DeviceState.LIVE
        passed = live and not measured.windows_discarded and not trouble
        if trouble:
            verdict = trouble
        elif passed:
            verdict = f"the start-up test and all {measured.windows_passed} windows after it passed"
        elif live:
            verdict = f"{measured.windows_discarded} of {measured.windows} windows failed; they would have been thrown away"
        else:
            verdict = f"{pipeline.code or 'not live'}: {pipeline.reason}"
        return Report(
            device=f"{self._descriptor.kind} {self._descriptor.model}",
            source=self._descriptor.source,
            emulated=self._descriptor.emulated,
            passed=passed,
            verdict=verdict,
            seconds=round(seconds, 3),
            sample_bits=self._descriptor.sample_bits,
            min_entropy_millibits=pipeline.min_entropy_millibits,
            rct_cutoffs=pipeline.cutoffs.repetition,
            apt_cutoffs=pipeline.cutoffs.proportion,
            apt_window=pipeline.cutoffs.window_samples,
            raw_bytes=self._raw_bytes,
            samples=measured.samples,
            windows=measured.windows,
            windows_discarded=measured.windows_discarded,
            alarms=measured.alarms,
            conditioned_bytes=measured.conditioned_bytes,
            raw_bytes_per_second=round(raw_bytes / live_seconds) if live_seconds > RATE_MIN_S else 0,
            conditioned_bytes_per_second=round(measured.conditioned_bytes / live_seconds) if live_seconds > RATE_MIN_S else 0,
            findings=self._findings,
        )


def _show(report: Report, *, guessed: bool) -> None:
    emulated = "  (EMULATED: for test networks only)" if report.emulated else ""
    claim = f"{report.min_entropy_millibits / 1000:g} bits of min-entropy in a sample of {report.sample_bits}"
    units = report.conditioned_bytes_per_second / UNIT_BYTES
    lines = [
        f"device     {report.device} {report.source}".rstrip() + emulated,
        f"claim      {claim}" + ("; assumed, give the maker's with --min-entropy-millibits" if guessed else ""),
        f"cutoffs    repetition {report.rct_cutoffs[0]} (for good: {report.rct_cutoffs[1]}), "
        f"proportion {report.apt_cutoffs[0]} of {report.apt_window} (for good: {report.apt_cutoffs[1]})",
        f"read       {report.raw_bytes} bytes, {report.samples} samples judged in {report.windows} windows, {report.seconds:.1f} s",
        f"alarms     repetition {report.alarms[0]}, proportion {report.alarms[1]}, predictor {report.alarms[2]}; "
        f"{report.windows_discarded} windows discarded",
        f"rate       {report.raw_bytes_per_second} B/s raw, {report.conditioned_bytes_per_second} B/s conditioned: {units:.3g} units/s",
        *(f"           {finding}" for finding in report.findings),
        f"{'PASSED' if report.passed else 'FAILED'}     {report.verdict}",
    ]
    click.echo("\n".join(lines))
