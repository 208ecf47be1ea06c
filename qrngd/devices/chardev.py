"""A device that is a stream of bytes: any character device, FIFO or file (`proto/spec/entropy-feed.md`, "Devices").

The driver of a card and the stream of an appliance's reader are of this kind too: `kind` says what must stand at the path for them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from msgspec.structs import replace

from qrngd.devices.descriptor_file import DescriptorFile
from qrngd.devices.device import Device, DeviceFlags
from qustream.errors import fault
from qustream.model.base import LABEL_MAX_CHARS
from qustream.model.entropy import DeviceDescriptor

__all__ = ["CharacterDevice", "kind_of"]

# (major, minor) of /dev/hwrng, and of the kernel's own streams: null, zero, full, random, urandom. The latter are no device; who
# wants them says `emulator`, and the attestation says so too.
HWRNG = (10, 183)
KERNEL_STREAMS = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)}
# What a kind of the configuration is on this machine; 'chardev' may be anything that `kind_of` knows.
_FORMS = {"appliance": "fifo", "quantis": "chardev"}


def kind_of(path: str, status: os.stat_result, *, is_terminal: bool) -> str:
    """What stands at `path`: 'hwrng', 'chardev', 'fifo' or 'file'. Raises E-CONFIG for anything else."""
    if stat.S_ISFIFO(status.st_mode):
        return "fifo"
    if stat.S_ISREG(status.st_mode):
        return "file"
    if not stat.S_ISCHR(status.st_mode):
        raise fault("E-CONFIG", f"{path} is not a character device, a FIFO or a file")
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if number in KERNEL_STREAMS:
        raise fault("E-CONFIG", f"{path} is a stream of the kernel and no device; the emulator is kind = 'emulator'")
    if is_terminal:
        raise fault("E-CONFIG", f"{path} is a serial line; that is kind = 'serial', or 'qcicada' if it is one")
    return "hwrng" if number == HWRNG else "chardev"


class CharacterDevice(Device):
    """See `Device`. Keeps its place in a regular file from one `open` to the next: no byte of a file is ever used twice."""

    def __init__(self, path: str, expected: DeviceDescriptor, *, hwrng_folder: Path = Path("/sys/class/misc/hw_random")) -> None:
        """`expected.source`: what /dev/hwrng's `rng_current` must say, if anything. `expected.kind`: as configured; E-CONFIG at `open` when
        the path is something else."""
        self._path, self._expected, self._hwrng_folder = path, expected, hwrng_folder
        self._file: DescriptorFile | None = None
        self._kind = ""
        self._delivered_bytes = 0

    @property
    def pollable(self) -> bool:
        # A FIFO to which nobody has written yet is at its end all the time, so waiting for it would return at once for ever.
        waiting_for_writer = self._kind == "fifo" and not self._delivered_bytes
        return self._opened.pollable and not waiting_for_writer

    @property
    def flags(self) -> DeviceFlags:
        return ()

    @property
    def retry_after_ms(self) -> int:
        return self._opened.retry_after_ms

    @property
    def _opened(self) -> DescriptorFile:
        assert self._file is not None, "the device is closed"
        return self._file

    def open(self) -> DeviceDescriptor:
        assert self._file is None, "the device is open already"
        self._file = DescriptorFile(self._path, lock=True)
        try:
            self._kind = kind_of(self._path, os.fstat(self._file.fileno()), is_terminal=os.isatty(self._file.fileno()))
            form = _FORMS.get(self._expected.kind, self._kind)
            if self._kind != form:
                what = f"{self._path} is a {self._kind}, and a device of kind {self._expected.kind!r} is a {form}"
                raise fault("E-CONFIG", what)
            source = self.rng_current() if self._kind == "hwrng" else ""
            if self._expected.source not in ("", source):
                found = source or "nothing with a name"
                raise fault("E-DEV-IDENTITY", f"behind {self._path} is {found!r}, not {self._expected.source!r}")
            if self._kind == "file":
                os.lseek(self._file.fileno(), self._delivered_bytes, os.SEEK_SET)
            else:
                self._delivered_bytes = 0
        except BaseException:
            self.close()
            raise
        # A recording is not a live device, whatever made it.
        return replace(self._expected, kind=self._descriptor_kind, emulated=self._kind == "file", source=source)

    @property
    def _descriptor_kind(self) -> str:
        if self._expected.kind in _FORMS:
            return self._expected.kind
        return "chardev" if self._kind == "hwrng" else self._kind

    def rng_current(self) -> str:
        """The kernel's name of what is behind /dev/hwrng. Raises E-DEV-ABSENT when nothing is."""
        try:
            name = (self._hwrng_folder / "rng_current").read_text(errors="replace").strip()
        except OSError as error:
            raise fault("E-DEV-ABSENT", f"rng_current cannot be read: {error.strerror}") from None
        if name in ("", "none"):
            raise fault("E-DEV-ABSENT", f"{self._path} has no hardware generator behind it")
        return name[:LABEL_MAX_CHARS]

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._read_open(buffer)
        except BaseException:
            self.close()
            raise

    def _read_open(self, buffer: memoryview) -> int:
        """As `readinto`, without closing on errors."""
        size = self._opened.readinto(buffer)
        if size == 0 and len(buffer) and not (self._kind == "fifo" and not self._delivered_bytes):
            raise fault("E-DEV-ABSENT", f"{self._path} has come to its end after {self._delivered_bytes} bytes")
        self._delivered_bytes += size or 0
        return size or 0

    def fileno(self) -> int:
        return self._opened.fileno()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
