"""`[[device]]`: what the configuration says of one device, its one-word form on a command line, and the driver that this makes.

The same text goes to the process that reads the device, so a driver is made from nothing but this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast, get_args

from msgspec import Meta

from qrngd.devices import (
    EMULATOR_MIN_ENTROPY_MILLIBITS,
    CharacterDevice,
    Device,
    Emulator,
    QCicadaDevice,
    QuantisDevice,
    SerialDevice,
)
from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.model.base import LABEL_MAX_CHARS, Label
from qustream.model.entropy import DeviceDescriptor

__all__ = ["DeviceConfig", "DeviceKind", "usual_kind"]

DeviceKind = Literal["chardev", "serial", "qcicada", "quantis", "appliance", "emulator"]
_MILLIBITS = Meta(ge=1, le=16_000)
# A name is part of file names, metrics and commands.
_NAME = Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z", description="at most 32 lower-case letters, digits and dashes, no dash first")
# A P-256 public key, x ‖ y in hexadecimal.
_AUTHORITY = Meta(pattern=r"^([0-9a-f]{128})?\Z", description="the maker's public key, 128 lower-case hexadecimal digits")
# The slowest and the fastest a serial line of a QRNG is known to run at.
_BAUD = Meta(ge=9600, le=4_000_000)
# How a device is called where nobody says its model, instead of by its path; a QCicada tells its own.
_MODELS: dict[str, str] = {"quantis": "Quantis", "qcicada": ""}


def usual_kind(path: Path) -> DeviceKind:
    """What is taken to be at `path` where nobody says its kind: Quantis' driver calls its cards qrandom0, qrandom1 and so on."""
    return "quantis" if path.name.startswith("qrandom") else "chardev"


class DeviceConfig(settings.Section, frozen=True):
    """`[[device]]`: a source of this server. `emulator` reads /dev/urandom and says so in every attestation.

    `name`: how commands, metrics and files call it. `min_entropy_millibits` is what the maker claims a sample;
    `assessed_min_entropy_millibits` what a laboratory found, if one did: the smaller counts. `serial`, `source`: if given and the device
    says another of itself, it is refused (E-DEV-IDENTITY); to a QCicada `source` says what to deliver. `baud`: of kind `serial`.
    `device_authority`: the maker's public key, of devices that sign what they deliver. `faults`: how an emulator misbehaves, for
    rehearsals (`qrngd.devices.faults`).
    """

    kind: DeviceKind
    name: Annotated[str, _NAME] = "device"
    path: Path | None = None
    model: Label = ""
    serial: Label = ""
    source: Label = ""
    sample_bits: Annotated[int, Meta(ge=1, le=16)] = 8
    min_entropy_millibits: Annotated[int, _MILLIBITS] | None = None
    assessed_min_entropy_millibits: Annotated[int, _MILLIBITS] | None = None
    nominal_rate_bps: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    conditioned: bool = False
    baud: Annotated[int, _BAUD] = 115_200
    device_authority: Annotated[str, _AUTHORITY] = ""
    faults: Annotated[str, Meta(max_length=4096)] = ""

    @classmethod
    def from_text(cls, text: str, *, min_entropy_millibits: int | None = None, sample_bits: int = 8) -> DeviceConfig:
        """`emulator`, `emulator:<fault script>`, a path, or a path with its kind before it (`serial:/dev/ttyACM0`). Raises E-CONFIG."""
        word, colon, rest = text.partition(":")
        if word not in get_args(DeviceKind) or not (colon or word == "emulator"):
            kind, rest = usual_kind(Path(text)), text
        else:
            kind = cast(DeviceKind, word)
        if not rest and text != "emulator":
            raise fault("E-CONFIG", f"{text!r} names no device; `emulator`, a path, or a path with its kind before it does")
        path, faults = (None, rest) if kind == "emulator" else (Path(rest), "")
        return cls(kind, path=path, min_entropy_millibits=min_entropy_millibits, sample_bits=sample_bits, faults=faults)

    def make(self) -> Device:
        """The device this speaks of, not yet open. Raises E-CONFIG."""
        if self.kind == "emulator":
            return Emulator(
                self.faults,
                min_entropy_millibits=self.min_entropy_millibits,
                sample_bits=self.sample_bits,
                nominal_rate_bps=self.nominal_rate_bps,
                serial=self.serial,
            )
        assert self.path is not None, "a checked configuration has a path here"
        path, expected = str(self.path), self.expected
        if self.min_entropy_millibits is None:
            raise fault("E-CONFIG", f"min_entropy_millibits is missing: what does the maker of {path} claim for one sample?")
        match self.kind:
            case "quantis":
                return QuantisDevice(path, expected)
            case "serial":
                return SerialDevice(path, expected, baud=self.baud)
            case "qcicada":
                return QCicadaDevice(path, expected, device_authority=bytes.fromhex(self.device_authority))
        return CharacterDevice(path, expected)

    @property
    def expected(self) -> DeviceDescriptor:
        """What is known of the device before it is opened; `serial`, `source`: if given, what it must say of itself."""
        default = EMULATOR_MIN_ENTROPY_MILLIBITS * self.sample_bits // 8
        return DeviceDescriptor(
            kind=self.kind,
            model=self.model or _MODELS.get(self.kind, self.path.name[:LABEL_MAX_CHARS] if self.path else self.kind),
            serial=self.serial,
            sample_bits=self.sample_bits,
            min_entropy_millibits=default if self.min_entropy_millibits is None else self.min_entropy_millibits,
            nominal_rate_bps=self.nominal_rate_bps,
            conditioned=self.conditioned,
            emulated=self.kind == "emulator",
            source=self.source,
        )

    def check(self, key: str) -> None:
        """Raise E-CONFIG, naming the setting below `key`, if this cannot be a device."""
        if self.kind == "emulator" and self.path is not None:
            raise fault("E-CONFIG", f'{key}.path: an emulator has no path; is kind = "chardev" meant?')
        if self.kind != "emulator" and self.path is None:
            raise fault("E-CONFIG", f"{key}.path: a device of kind {self.kind!r} needs its path")
        if self.kind != "qcicada" and self.device_authority:
            raise fault("E-CONFIG", f'{key}.device_authority: only devices of kind "qcicada" sign what they deliver')
        if self.kind != "emulator" and self.faults:
            raise fault("E-CONFIG", f"{key}.faults: only an emulator misbehaves on request")
        if self.kind == "serial" and self.source:
            raise fault("E-CONFIG", f"{key}.source: a device that only streams does not say what it is")
        if self.kind == "appliance" and self.source:
            raise fault("E-CONFIG", f"{key}.source: an appliance is behind its reader, where nothing can say what it is")
        most = 1000 * self.sample_bits
        for name in ("min_entropy_millibits", "assessed_min_entropy_millibits"):
            if (getattr(self, name) or 0) > most:
                raise fault("E-CONFIG", f"{key}.{name}: a sample of {self.sample_bits} bits has at most {most} thousandths of a bit")
        try:
            self.make()
        except QuStreamError as error:
            raise fault("E-CONFIG", f"{key}: {error.detail}") from None
