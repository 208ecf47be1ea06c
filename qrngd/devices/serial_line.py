"""Serial lines (termios(3)), and the devices that stream raw bytes over one (`proto/spec/entropy-feed.md`, "Serial lines").

A line is held alone: flock(2) against whoever locks, TIOCEXCL against whoever merely opens (root gets past that one, hence both). Its
settings are not put back at the end: a serial line has none that are anybody's own, every program sets what it needs, and a
process that is killed could not put anything back either.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import termios
from typing import NoReturn

from msgspec.structs import replace

from qrngd.devices.descriptor_file import coded
from qrngd.devices.device import Device, DeviceFlags
from qustream.errors import fault
from qustream.model.entropy import DeviceDescriptor

__all__ = ["BAUD_RATES", "LINE_BUFFER_BYTES", "RETRY_AFTER_MS", "SerialDevice", "SerialLine"]

# Rates this system's termios can set, the ones POSIX does not know included.
BAUD_RATES = {int(name[1:]): int(getattr(termios, name)) for name in dir(termios) if name[0] == "B" and name[1:].isdigit() and name != "B0"}
# Slaves of pseudo-terminals (Documentation/admin-guide/devices.txt): behind them is a program.
_PTY_MAJORS = range(136, 144)
# Of TIOCGSERIAL's struct serial_struct (linux/serial.h): the word with the flags, and the flag that makes an adapter hand over what it
# has at once. FTDI's otherwise keeps the last bytes of an answer for 16 ms.
_SERIAL_STRUCT_WORDS, _FLAGS_WORD, _LOW_LATENCY = 32, 4, 0x2000
# For whoever does not wait on the descriptor: a line of 4 Mbaud fills half of the buffer below in this time.
RETRY_AFTER_MS = 5
# What a line keeps for a reader that is late (N_TTY_BUF_SIZE of Linux).
LINE_BUFFER_BYTES = 4096


class SerialLine:
    """An open line: raw bytes both ways, 8N1, no flow control, non-blocking, what came before thrown away."""

    def __init__(self, path: str, *, baud: int) -> None:
        """Raises E-CONFIG when it is no serial line or cannot run at `baud`, else as `Device.open`."""
        self.path = path
        if baud not in BAUD_RATES:
            raise fault("E-CONFIG", f"baud: {baud} is no rate that a serial line here can be set to")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._failed(error)
        self._is_ours = False
        try:
            self._claim()
            self._settle(BAUD_RATES[baud])
            self.is_pseudo = os.major(os.fstat(self._fd).st_rdev) in _PTY_MAJORS
        except BaseException:
            self.close()
            raise

    def _claim(self) -> None:
        try:
            termios.tcgetattr(self._fd)
        except termios.error as error:
            if error.args[0] != errno.ENOTTY:
                self._failed(OSError(*error.args))
            raise fault("E-CONFIG", f"{self.path} is no serial line") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.ioctl(self._fd, termios.TIOCEXCL)
        except BlockingIOError:
            raise fault("E-DEV-LOCKED", f"{self.path} is held by another process") from None
        except OSError as error:
            self._failed(error)
        self._is_ours = True

    def _settle(self, speed: int) -> None:
        # VMIN 1, not 0: a read of an empty line is then EAGAIN, and 0 bytes mean that the line was hung up. CLOCAL: no modem decides
        # whether we hear anything. HUPCL: DTR falls at close, and a stick that streams while somebody listens stops.
        try:
            characters = termios.tcgetattr(self._fd)[6]
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
            modes = termios.CS8 | termios.CREAD | termios.CLOCAL | termios.HUPCL
            termios.tcsetattr(self._fd, termios.TCSANOW, [0, 0, modes, 0, speed, speed, characters])
            # tcsetattr succeeds when it could do any part of what was asked.
            if termios.tcgetattr(self._fd)[4:6] != [speed, speed]:
                raise fault("E-CONFIG", f"baud: {self.path} cannot run at this rate")
            with contextlib.suppress(OSError):  # not every line has an adapter that waits
                settings = array.array("i", [0] * _SERIAL_STRUCT_WORDS)
                fcntl.ioctl(self._fd, termios.TIOCGSERIAL, settings)
                settings[_FLAGS_WORD] |= _LOW_LATENCY
                fcntl.ioctl(self._fd, termios.TIOCSSERIAL, settings)
            termios.tcflush(self._fd, termios.TCIOFLUSH)
        except termios.error as error:
            self._failed(OSError(*error.args))

    def _failed(self, error: OSError) -> NoReturn:
        if error.errno == errno.EIO:  # a terminal's word for "hung up"
            raise fault("E-DEV-ABSENT", f"{self.path} was unplugged") from None
        raise coded(error, self.path) from None

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: memoryview) -> int:
        """Bytes read, 0 when nothing is there now. Raises E-DEV-ABSENT, E-DEV-READ."""
        try:
            size = os.readv(self._fd, [buffer])
        except BlockingIOError:
            return 0
        except OSError as error:
            self._failed(error)
        if size == 0 and len(buffer):
            self._failed(OSError(errno.EIO, ""))
        return size

    def write(self, data: bytes) -> None:
        """All of `data`, a few bytes: a line that does not take them at once is broken. Raises E-DEV-ABSENT, E-DEV-READ."""
        try:
            taken = os.write(self._fd, data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self._failed(error)
        if taken < len(data):
            raise fault("E-DEV-READ", f"{self.path} takes no more bytes")

    def close(self) -> None:
        """Let go; does nothing when it is closed."""
        if self._fd >= 0:
            if self._is_ours:
                with contextlib.suppress(OSError):  # hung up: then it is nobody's
                    fcntl.ioctl(self._fd, termios.TIOCNXCL)
            os.close(self._fd)
            self._fd = -1


class SerialDevice(Device):
    """See `Device`. A stick that streams raw bytes as long as its line is open, as most with a CDC-ACM interface do."""

    pollable = True
    retry_after_ms = RETRY_AFTER_MS

    def __init__(self, path: str, expected: DeviceDescriptor, *, baud: int = 115_200) -> None:
        """Raises E-CONFIG."""
        if baud not in BAUD_RATES:
            raise fault("E-CONFIG", f"baud: {baud} is no rate that a serial line here can be set to")
        if expected.sample_bits > 8:
            raise fault("E-CONFIG", "sample_bits: nothing in a stream without frames says where a sample of two bytes begins")
        self._path, self._expected, self._baud = path, expected, baud
        self._line: SerialLine | None = None

    @property
    def flags(self) -> DeviceFlags:
        return ()

    @property
    def _opened(self) -> SerialLine:
        assert self._line is not None, "the device is closed"
        return self._line

    def open(self) -> DeviceDescriptor:
        assert self._line is None, "the device is open already"
        self._line = SerialLine(self._path, baud=self._baud)
        # A pseudo-terminal has a program behind it, whatever it says.
        return replace(self._expected, emulated=self._line.is_pseudo)

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._opened.readinto(buffer)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._opened.fileno()

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
