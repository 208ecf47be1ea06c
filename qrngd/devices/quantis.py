"""ID Quantique's Quantis cards: a character device whose driver answers a few questions (`proto/spec/entropy-feed.md`, "Quantis").

The numbers are those of the vendor's `quantis_pci.h`, as the PyPI package `quantix-rng` gives them too. Nothing here changes the card:
no module is enabled or disabled and no board is reset, for that is the operator's decision.
"""

from __future__ import annotations

import array
import errno
import fcntl
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from qrngd.devices.chardev import CharacterDevice
from qrngd.devices.descriptor_file import coded
from qrngd.devices.device import DeviceFlags, monotonic_ms
from qustream.errors import QuStreamError, fault
from qustream.model.base import LABEL_MAX_CHARS
from qustream.model.entropy import DeviceDescriptor

__all__ = ["MODULES", "QuantisCard", "QuantisDevice", "read_card"]

# A card has places for so many modules, each a light source with its detectors; masks have a bit for each.
MODULES = 4
_MAGIC = ord("q")
_WORD_BYTES = 4  # every answer is one unsigned int
# The driver fills the whole request before it returns, whatever O_NONBLOCK says: this much takes the slowest card 8 ms. It is also
# what the card's own buffer holds.
READ_MAX_BYTES = 4096
# Between two questions about the modules: soon enough for a health display, and far from what would disturb the card.
STATUS_INTERVAL_MS = 2000


def _ior(number: int) -> int:
    """The request that reads one unsigned int: Linux's _IOR (asm-generic/ioctl.h): direction 2, size, type, number."""
    return 2 << 30 | _WORD_BYTES << 16 | _MAGIC << 8 | number


GET_DRIVER_VERSION = _ior(0)  # in tenths
GET_CARD_COUNT = _ior(1)
GET_MODULES_MASK = _ior(2)  # which modules are there
GET_BOARD_VERSION = _ior(3)
GET_MODULES_STATUS = _ior(8)  # which of them are enabled and work
GET_PCI_BUS_DEVICE_ID = _ior(9)  # bus in the upper half; old drivers do not know it


@dataclass(frozen=True, slots=True)
class QuantisCard:
    """What a card's driver says. `pci`: bus and device, None if the driver does not know that question. Masks have a bit a module."""

    driver_tenths: int
    board: int
    mask: int
    status: int
    pci: tuple[int, int] | None

    @property
    def flags(self) -> DeviceFlags:
        """A pair for each place, also for an empty one."""
        pairs = []
        for number in range(MODULES):
            pairs.append((f"module_{number}_present", bool(self.mask & 1 << number)))
            pairs.append((f"module_{number}_working", bool(self.mask & self.status & 1 << number)))
        return tuple(pairs)

    @property
    def trouble(self) -> str:
        """What the card reports of itself that forbids reading it, '' if nothing."""
        if not self.mask:
            return "the card reports no module"
        broken = [str(number) for number in range(MODULES) if self.mask & ~self.status & 1 << number]
        if broken:
            return f"module {', '.join(broken)} is present and does not work (it failed, or somebody disabled it)"
        return ""

    @property
    def versions(self) -> str:
        """Of board and driver, for people."""
        return f"board {self.board:08x} driver {self.driver_tenths // 10}.{self.driver_tenths % 10}"

    @property
    def source(self) -> str:
        """Which card of the machine this is; '' if the driver does not say."""
        return "" if self.pci is None else f"pci {self.pci[0]:04x}:{self.pci[1]:04x}"


def _ask(handle: int, request: int) -> int:
    """The driver's answer to one question. Raises OSError."""
    word = array.array("I", [0])
    fcntl.ioctl(handle, request, word, True)
    return word[0]


def _modules(handle: int, request: int) -> int:
    value = _ask(handle, request)
    if value >> MODULES:
        raise fault("E-DEV-READ", f"the driver's mask of modules is {value:#x}; a Quantis card has {MODULES} modules at most")
    return value


def read_card(handle: int, path: str) -> QuantisCard:
    """What the driver says of the card behind the open descriptor `handle`. Raises E-DEV-READ, E-DEV-ABSENT; E-CONFIG if it is none."""
    try:
        driver = _ask(handle, GET_DRIVER_VERSION)
        board = _ask(handle, GET_BOARD_VERSION)
        mask, status = _modules(handle, GET_MODULES_MASK), _modules(handle, GET_MODULES_STATUS)
        try:
            place = _ask(handle, GET_PCI_BUS_DEVICE_ID)
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise
            return QuantisCard(driver, board, mask, status, None)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            raise fault("E-CONFIG", f'{path} does not answer as a Quantis card; is kind = "chardev" meant?') from None
        raise coded(error, path) from None
    return QuantisCard(driver, board, mask, status, (place >> 16, place & 0xFFFF))


class QuantisDevice(CharacterDevice):
    """See `Device`. Refuses a card with a module that does not work, at `open` and while it is read."""

    def __init__(self, path: str, expected: DeviceDescriptor, *, clock_ms: Callable[[], int] = monotonic_ms) -> None:
        """`expected.source`: where the card must be, as in "pci 0003:0000", if that matters."""
        super().__init__(path, replace(expected, source=""))
        self._expected_source, self._clock_ms = expected.source, clock_ms
        self._card: QuantisCard | None = None
        self._asked_ms = 0

    @property
    def flags(self) -> DeviceFlags:
        return QuantisCard(0, 0, 0, 0, None).flags if self._card is None else self._card.flags

    def open(self) -> DeviceDescriptor:
        descriptor = super().open()
        try:
            card = self._examine()
            if self._expected_source not in ("", card.source):
                found = card.source or "a card whose driver does not say where it is"
                raise fault("E-DEV-IDENTITY", f"behind {self._path} is {found}, not {self._expected_source!r}")
        except BaseException:
            self.close()
            raise
        model = f"{descriptor.model[: LABEL_MAX_CHARS - len(card.versions) - 1]} {card.versions}"
        return replace(descriptor, model=model, source=card.source)

    def _read_open(self, buffer: memoryview) -> int:
        if self._clock_ms() - self._asked_ms >= STATUS_INTERVAL_MS:
            self._examine()
        try:
            return super()._read_open(buffer[:READ_MAX_BYTES])
        except QuStreamError as error:
            # The driver says EIO for a module that fails and for a card that gives nothing; the card itself knows which.
            if error.code == "E-DEV-READ":
                self._examine()
            raise

    def _examine(self) -> QuantisCard:
        """Ask the card, keep what it says. Raises E-DEV-STATUS when it says that something is wrong."""
        self._asked_ms = self._clock_ms()
        self._card = read_card(self.fileno(), self._path)
        if self._card.trouble:
            raise fault("E-DEV-STATUS", f"{self._path}: {self._card.trouble}")
        return self._card
