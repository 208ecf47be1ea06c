"""`qrngd capture`: raw samples of a device in a file, for whoever assesses the device. Never to be used for anything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from qrngd.cli.device_choice import DeviceChoice, device_options, read_some
from qrngd.cli.progress import ProgressLine
from qrngd.health.samples import Layout
from qustream.errors import fault
from qustream.identity.files import file_fault

__all__ = ["SAMPLES_MAX", "capture"]

# SP 800-90B asks for a million, and its suite takes half a minute for them; sixteen times as many are a night's work.
SAMPLES_MAX = 1 << 24
SAMPLES = 1_000_000  # SP 800-90B §3.1.1
RESTART_SAMPLES = 1000  # in each row of §3.1.4's matrix
READ_BYTES = 1 << 18
WARNING = (
    "WARNING: this file holds RAW SAMPLES, for the assessment of the device alone. They are neither tested nor conditioned, and whoever\n"
    "has read the file knows them: NEVER use them as randomness or in a key. Delete the file when the device is assessed."
)


@click.command()
@device_options
@click.option(
    "--samples", type=click.IntRange(1, SAMPLES_MAX),
    help=f"How many; {SAMPLES} if not given, or {RESTART_SAMPLES} in each row with --restarts.",
)  # fmt: skip
@click.option(
    "--restarts", type=click.IntRange(2, SAMPLES_MAX), help="Close and open the device so many times, and take the samples each time."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The new file; one that is there stays as it is."
)
def capture(*, samples: int | None, restarts: int | None, out: Path, sample_bits: int, **options: object) -> None:
    """Write raw samples of a device to a file, for `qrngd assess` or a laboratory.

    The form is that of the SP 800-90B suite: one sample a byte, in its low bits; of more than 8 bits, two bytes a sample, the low byte
    first. Samples of one bit are unpacked, so each takes a byte. No header.

    With --restarts the file is the matrix of SP 800-90B §3.1.4, row after row: row i is what came first after the i-th opening. Opening a
    device anew is not the same as taking its power away: whether it restarts the noise source, its maker must say.

    The device is read by this command alone. Where qrngd reads it, stop qrngd first (E-DEV-LOCKED).
    """
    choice = DeviceChoice.of(sample_bits=sample_bits, **options)  # type: ignore[arg-type]  # click has checked them
    rows, columns = restarts or 1, samples or (RESTART_SAMPLES if restarts else SAMPLES)
    if rows * columns > SAMPLES_MAX:
        raise click.UsageError(f"{rows} × {columns} samples; at most {SAMPLES_MAX}")
    click.echo(WARNING, err=True)
    with _new_file(out) as handle:
        progress = _Progress(rows * columns)
        told = False
        for _ in range(rows):
            for part in _samples(choice, columns):
                if not told:
                    choice.warn_of_others()
                    told = True
                _write(handle, part, out)
                progress.show(len(part) // (1 if choice.sample_bits <= 8 else 2))
    size = f"{rows} rows of {columns}" if restarts else f"{columns}"
    click.echo(f"{out}: {size} raw samples of {choice.sample_bits} bits. Next: qrngd assess {out} --sample-bits {choice.sample_bits}")


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """A file for its owner alone, which stays if all goes well. Errors: E-FILE, also when something is there; E-DISK-FULL."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise fault("E-FILE", f"{path} is there already, and nothing is ever overwritten") from None
    except OSError as error:
        raise file_fault(path, error) from None
    try:
        yield handle
        try:
            os.fsync(handle)
        except OSError as error:
            raise file_fault(path, error) from None
    except BaseException:
        os.unlink(path)  # a part of a capture is no capture
        raise
    finally:
        os.close(handle)


def _write(handle: int, part: bytes, path: Path) -> None:
    rest = memoryview(part)
    while rest:
        try:
            rest = rest[os.write(handle, rest) :]
        except OSError as error:
            raise file_fault(path, error) from None


def _samples(choice: DeviceChoice, wanted: int) -> Iterator[bytes]:
    """Open the device, and give `wanted` samples in the file's form, in parts. Errors: those of the device."""
    device, layout = choice.device, Layout(choice.sample_bits)
    buffer = memoryview(bytearray(READ_BYTES))
    cell = max(1, layout.stored_bits // 8)
    choice.open()
    try:
        begun = 0  # bytes of a sample that a read has cut
        while wanted:
            size = begun + read_some(device, buffer[begun:])
            begun = size % cell
            found = layout.samples(np.frombuffer(buffer[: size - begun], dtype=np.uint8))[:wanted]
            wanted -= found.size
            yield found.tobytes()
            buffer[:begun] = buffer[size - begun : size]
    finally:
        device.close()
        buffer[:] = bytes(len(buffer))


class _Progress:
    """How much is taken, where a person looks on."""

    def __init__(self, wanted: int) -> None:
        self._wanted, self._done = wanted, 0
        self._line = ProgressLine()

    def show(self, more: int) -> None:
        self._done += more
        self._line.show(f"{100 * self._done // self._wanted} % of {self._wanted} samples", is_last=self._done == self._wanted)
