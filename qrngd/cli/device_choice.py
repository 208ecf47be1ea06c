"""Which device a command reads: the options that say so, and reading without an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from qrngd.cli.openers import openers
from qrngd.config import load_config
from qrngd.device_config import DeviceConfig
from qrngd.devices import SILENCE_LIMIT_MS, Device
from qustream.errors import QuStreamError, fault
from qustream.model.entropy import DeviceDescriptor

__all__ = ["DeviceChoice", "device_options", "read_some"]

# Without the maker's claim the tests need one all the same: the emulator's, 7 bits a byte.
CLAIM_PERMILLE = 875
_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), help="Read a device that this file names."),
    click.option("--name", help="Which of them, where it names several."),
    click.option(
        "--device",
        "device_text",
        help="Read this one: PATH, KIND:PATH such as serial:/dev/ttyACM0, emulator, or emulator:FAULTS as in emulator:stuck@bytes=5000000.",
    ),
    click.option(
        "--min-entropy-millibits", type=click.IntRange(1, 16_000), help="The maker's claim for one sample; 7/8 of its width if not given."
    ),
    click.option("--sample-bits", type=click.IntRange(1, 16), default=8, show_default=True, help="The width of a sample of --device."),
)


def device_options(command: _Command) -> _Command:
    """Give a command the options of which `DeviceChoice.of` takes the values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class DeviceChoice:
    """A device, not yet open. `guessed`: nobody has said what its min-entropy is."""

    device: Device
    path: Path | None
    sample_bits: int
    assessed_min_entropy_millibits: int | None
    guessed: bool

    @classmethod
    def of(
        cls, *, config_path: Path | None, name: str | None, device_text: str | None, min_entropy_millibits: int | None, sample_bits: int
    ) -> DeviceChoice:
        """The device the options name. Errors: E-CONFIG, E-FILE; a usage error where they name none, or several."""
        if config_path is not None:
            known = {each.name: each for each in load_config(config_path).device}
            if name is None and len(known) > 1:
                raise click.UsageError(f"{config_path} names several devices; say which with --name: {', '.join(known)}")
            chosen = known.get(name) if name is not None else next(iter(known.values()))
            if chosen is None:
                raise fault("E-CONFIG", f"{config_path}: no device is called {name!r}; there are {', '.join(known)}")
            return cls(chosen.make(), chosen.path, chosen.sample_bits, chosen.assessed_min_entropy_millibits, guessed=False)
        if device_text is None:
            raise click.UsageError("name a device: --device PATH, --device emulator, or --config FILE")
        claim = min_entropy_millibits or CLAIM_PERMILLE * sample_bits
        config = DeviceConfig.from_text(device_text, min_entropy_millibits=claim, sample_bits=sample_bits)
        return cls(config.make(), config.path, sample_bits, None, guessed=min_entropy_millibits is None)

    def open(self) -> DeviceDescriptor:
        """Open the device. Raises what the device raises; of one that is held, by whom, as far as this user may know."""
        try:
            return self.device.open()
        except QuStreamError as error:
            if error.code != "E-DEV-LOCKED":
                raise
            others = self._others()
            raise fault(
                error.code, f"{error.detail}{': ' * bool(others)}{others}; if that is qrngd, stop it first: two must not read one device"
            ) from None

    def warn_of_others(self) -> None:
        """Say who else has the device open: a reader that does not lock, as rngd does not, is stopped by nothing."""
        if others := self._others():
            click.echo(f"WARNING: {self.path} is open in {others}, too. Two readers share its bits: stop the other.", err=True)

    def _others(self) -> str:
        return openers(self.path) if self.path is not None else ""


def read_some(device: Device, buffer: memoryview) -> int:
    """Wait for bytes; how many came. Raises what the device raises, and E-DEV-READ after the longest silence."""
    silent_since = time.monotonic()
    while not (size := device.readinto(buffer)):
        if time.monotonic() - silent_since > SILENCE_LIMIT_MS / 1000:
            raise fault("E-DEV-READ", f"the device gave no byte for {SILENCE_LIMIT_MS // 1000} s")
        time.sleep(device.retry_after_ms / 1000)
    return size
