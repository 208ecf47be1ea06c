"""What QCicada devices and their hosts say to each other, byte for byte (`proto/spec/entropy-feed.md`, "QCicada").

A command is one byte and a payload, an answer is one byte and a payload; neither has a length of its own, it follows from the code.
Numbers are little endian. The order of things is `qrngd.devices.qcc`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum

from qustream.errors import fault

__all__ = [
    "ACK",
    "ACK_PAYLOAD_BYTES",
    "ANSWER_MAX_BYTES",
    "BAUD",
    "CERTIFICATE",
    "COMMAND_PAYLOAD_BYTES",
    "CONFIG",
    "CONTINUOUS",
    "INFO",
    "KEY",
    "NACK",
    "ONE_SHOT_MODE",
    "READ_MAX_BYTES",
    "REBOOT",
    "RESET",
    "RESPONSES",
    "SIGNATURE_BYTES",
    "STATISTICS",
    "STATUS",
    "STATUS_BITS",
    "STOP",
    "Code",
    "Config",
    "Info",
    "PostProcess",
    "Request",
    "Statistics",
    "Status",
    "decode_config",
    "decode_info",
    "decode_statistics",
    "decode_status",
    "one_shot",
    "set_config",
    "signed_read",
]

BAUD = 1_000_000
SIGNATURE_BYTES = 64  # r ‖ s of P-256
READ_MAX_BYTES = 65_535  # what the length of a read can say
ACK, NACK = 0x11, 0x12
ACK_PAYLOAD_BYTES = 5  # status (1), bytes ready (4)
ONE_SHOT_MODE = 1  # of a start; 0 is continuous


class Code(IntEnum):
    """The first byte of a command."""

    STATUS = 0x01
    START = 0x04
    STOP = 0x05
    CONFIG = 0x07
    SET_CONFIG = 0x08
    STATISTICS = 0x09
    RESET = 0x0A
    INFO = 0x0B
    SIGNED_READ = 0x51
    KEY = 0xF7
    REBOOT = 0xF8
    CERTIFICATE = 0xF9


# What follows the first byte of a command, and of the answer to it when it is not refused: (its code, bytes).
COMMAND_PAYLOAD_BYTES = dict.fromkeys(Code, 0) | {Code.START: 3, Code.SET_CONFIG: 12, Code.SIGNED_READ: 2, Code.REBOOT: 2}
RESPONSES: dict[Code, tuple[int, int]] = {
    Code.STATUS: (ACK, ACK_PAYLOAD_BYTES),
    Code.START: (ACK, ACK_PAYLOAD_BYTES),
    Code.STOP: (ACK, ACK_PAYLOAD_BYTES),
    Code.CONFIG: (0x17, 12),
    Code.SET_CONFIG: (ACK, ACK_PAYLOAD_BYTES),
    Code.STATISTICS: (0x19, 30),
    Code.RESET: (ACK, ACK_PAYLOAD_BYTES),
    Code.INFO: (0x1B, 56),
    Code.SIGNED_READ: (0x52, 0),
    Code.KEY: (0xF9, 64),
    Code.REBOOT: (0xF8, 0),
    Code.CERTIFICATE: (0xFB, 64),
}
# The longest answer: code, ACK's payload or signature, and the most a read can ask for.
ANSWER_MAX_BYTES = 1 + READ_MAX_BYTES + SIGNATURE_BYTES

# -- what is asked


@dataclass(frozen=True, slots=True)
class Request:
    """A command as it goes over the line. `material_bytes`: random bytes that follow the answer's payload."""

    frame: bytes
    material_bytes: int = 0

    @property
    def code(self) -> Code:
        return Code(self.frame[0])

    @property
    def is_continuous(self) -> bool:
        return self.code is Code.START and not self.material_bytes

    @property
    def answer_bytes(self) -> int:
        """How long the answer is, its code included, when it is not refused."""
        signature = SIGNATURE_BYTES if self.code is Code.SIGNED_READ else 0
        return 1 + RESPONSES[self.code][1] + self.material_bytes + signature


STATUS, STOP, CONFIG, STATISTICS, RESET, INFO, KEY, CERTIFICATE = (
    Request(bytes([code]))
    for code in (Code.STATUS, Code.STOP, Code.CONFIG, Code.STATISTICS, Code.RESET, Code.INFO, Code.KEY, Code.CERTIFICATE)
)
CONTINUOUS = Request(struct.pack("<BBH", Code.START, 0, 0))
REBOOT = Request(bytes([Code.REBOOT, 0xA1, 0x25]))


def one_shot(size: int) -> Request:
    """Read `size` bytes, 1 to 65,535."""
    assert 1 <= size <= READ_MAX_BYTES
    return Request(struct.pack("<BBH", Code.START, ONE_SHOT_MODE, size), size)


def signed_read(size: int) -> Request:
    """Read `size` bytes, 1 to 65,535, and the device's signature over them."""
    assert 1 <= size <= READ_MAX_BYTES
    return Request(struct.pack("<BH", Code.SIGNED_READ, size), size)


# -- what is answered


class PostProcess(IntEnum):
    """What the device does to its samples before it delivers them."""

    SHA256 = 0
    RAW_NOISE = 1
    RAW_SAMPLES = 2


STATUS_BITS = (
    "initialised",
    "startup_test",
    "voltage_low",
    "voltage_high",
    "voltage_undefined",
    "bit_count",
    "repetition_count",
    "adaptive_proportion",
)


@dataclass(frozen=True, slots=True)
class Status:
    """`bits` as in `STATUS_BITS`, the lowest first."""

    bits: int
    ready_bytes: int

    @property
    def flags(self) -> tuple[tuple[str, bool], ...]:
        return tuple((name, bool(self.bits >> place & 1)) for place, name in enumerate(STATUS_BITS))

    @property
    def is_testing(self) -> bool:
        """The device's own start-up test runs."""
        return bool(self.bits & 2)

    @property
    def trouble(self) -> str:
        """The bits that speak against using the device, '' if none does."""
        wrong = [name for name, is_set in self.flags[2:] if is_set]
        return ", ".join(wrong if self.bits & 1 else ["not initialised", *wrong])


@dataclass(frozen=True, slots=True)
class Config:
    """The settings as they travel: they are changed and sent back byte for byte, whatever else stands in them."""

    raw: bytes

    @property
    def post_process(self) -> PostProcess:
        return PostProcess(self.raw[0])

    @property
    def generate_on_error(self) -> bool:
        """Whether the device goes on delivering after one of its own tests has failed."""
        return bool(self.raw[5] & 0x20)

    def changed(self, post_process: PostProcess) -> Config:
        """The same with another post-processing, and nothing delivered after an error."""
        return Config(bytes([post_process]) + self.raw[1:5] + bytes([self.raw[5] & ~0x20]) + self.raw[6:])


@dataclass(frozen=True, slots=True)
class Info:
    """`serial` and `hardware` as text; `serial_number` and `version` if they have the form a certificate can name."""

    core_version: int
    firmware_version: int
    serial: str
    hardware: str

    @property
    def serial_number(self) -> int | None:
        match = re.fullmatch(r"QC([0-9]{10})", self.serial, re.ASCII)
        return int(match[1]) if match and int(match[1]) < 1 << 32 else None

    @property
    def version(self) -> tuple[int, int] | None:
        match = re.fullmatch(r"CICADA-QRNG-([0-9]{1,3})\.([0-9]{1,3})", self.hardware, re.ASCII)
        found = (int(match[1]), int(match[2])) if match else (256, 0)
        return found if max(found) < 256 else None


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the device's last reset; `speed` in bits a second as the device says it."""

    generated_bytes: int
    repetition_count_failures: int
    adaptive_proportion_failures: int
    bit_count_failures: int
    speed: int


def decode_status(payload: bytes) -> Status:
    """Of any ACK."""
    return Status(*struct.unpack("<BI", payload))


def decode_config(payload: bytes) -> Config:
    """Raises E-DEV-READ for a post-processing nobody knows."""
    if payload[0] not in list(PostProcess):
        raise fault("E-DEV-READ", f"the device has an unknown post-processing, {payload[0]}")
    return Config(payload)


def set_config(config: Config) -> Request:
    """Make these the settings."""
    return Request(bytes([Code.SET_CONFIG]) + config.raw)


def decode_info(payload: bytes) -> Info:
    """Raises E-DEV-READ for texts with anything but visible ASCII in them."""
    core, firmware, serial, hardware = struct.unpack("<II24s24s", payload)
    texts = [field.split(b"\x00")[0].decode("latin-1") for field in (serial, hardware)]
    if not all(re.fullmatch(r"[!-~ ]*", text) for text in texts):
        raise fault("E-DEV-READ", "the device's name of itself is no text")
    return Info(core, firmware, *texts)


def decode_statistics(payload: bytes) -> Statistics:
    """Without the two figures that only the maker can read."""
    return Statistics(*struct.unpack("<QIIIIHf", payload)[:5])
