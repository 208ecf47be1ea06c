"""The device's side of QCC without a line: commands in, answers out, faults on request.

    device.receive(bytes_from_the_host)
    while chunk := device.output(1000):    # at most so many bytes of what it has to say now
        write(chunk)

It answers in order and one at a time, as a device with little memory does; a command that comes while an answer goes out waits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from qrngd.devices import qcc_messages as qcc
from qrngd.devices.qcc_messages import Code
from qrngd.emulation.maker import Maker
from qrngd.emulation.qcc_faults import QccFaults
from qustream.identity.device_evidence import certificate_message, serial_text

__all__ = ["QccDevice"]

# What waits to be understood: hosts send a command and wait, so more than this is no host.
INPUT_MAX_BYTES = 4096
HARDWARE = (1, 1)
CORE_VERSION, FIRMWARE_VERSION = 0x0001_000E, 0x0005_000D
_SOUND = 1  # of the status: initialised, nothing wrong
_READY_BYTES = 4096  # what a device says it has in stock
# As a device comes from its maker: hashed, all tests on, nothing delivered after an error.
_FACTORY_CONFIG = struct.pack("<BfBBBHH", qcc.PostProcess.SHA256, 0.5, 0b1_1111, 4, 64, 448, 2048)


class QccDevice:
    """`draw(n)`: up to n random bytes, fewer or none when there are no more now; what it raises goes through `output`."""

    def __init__(
        self, draw: Callable[[int], bytes], maker: Maker, *, faults: QccFaults | None = None, serial_number: int = 217, speed: int = 0
    ) -> None:
        self._draw, self._maker, self._faults = draw, maker, faults or QccFaults()
        self._serial_number, self._speed = serial_number, speed
        self._config = _FACTORY_CONFIG
        self._generated_bytes = 0
        self._input = bytearray()
        self._output = bytearray()  # of the answer: what comes before and after the random bytes
        self._left = 0  # random bytes the answer still lacks
        self._cut_at = 0  # where an answer that is cut short ends, in random bytes left
        self._signed: bytearray | None = None  # the random bytes of a signed read so far
        self._last = (b"", b"")  # the last signed read and its signature
        self.is_streaming = False
        self._was_stop = False  # the last command

    def receive(self, data: bytes) -> None:
        """What the host sent; what does not fit is lost, as in a device."""
        self._input += data[: INPUT_MAX_BYTES - len(self._input)]

    def output(self, most: int) -> bytes:
        """Up to `most` bytes of what there is to say; b"" when there is nothing now."""
        while not self._output and not self._left and self._obey():
            pass
        if self._output:
            chunk = bytes(self._output[:most])
            del self._output[:most]
            return chunk
        if self._left:
            return self._material(most)
        return self._drawn(most) if self.is_streaming else b""

    def _drawn(self, most: int) -> bytes:
        chunk = self._draw(most)
        self._generated_bytes += len(chunk)
        return chunk

    def _material(self, most: int) -> bytes:
        chunk = self._drawn(min(most, self._left - self._cut_at))
        self._left -= len(chunk)
        if self._signed is not None:
            self._signed += chunk
        if self._left == self._cut_at and self._cut_at:
            self._left = 0
        elif not self._left and self._signed is not None:
            self._output += self._signature(bytes(self._signed))
        if not self._left:
            self._signed, self._cut_at = None, 0
        return chunk

    def _signature(self, message: bytes) -> bytes:
        signature = self._maker.device.sign(message)
        if self._faults.strike("signature"):
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        self._last = (message, signature)
        return signature

    # -- commands

    def _obey(self) -> bool:
        """Take one whole command and prepare the answer to it; False if there is none."""
        if not self._input:
            return False
        code = self._input[0]
        if code not in list(Code):
            del self._input[0]
            self._output.append(qcc.NACK)
            return True
        size = 1 + qcc.COMMAND_PAYLOAD_BYTES[Code(code)]
        if len(self._input) < size:
            return False
        payload = bytes(self._input[1:size])
        del self._input[:size]
        if code == Code.STOP and not self._was_stop:
            self._faults.opens += 1  # whoever opens a device stops it first, and says so again if it answers late
        self._was_stop = code == Code.STOP
        if code in (Code.START, Code.SIGNED_READ):
            self._faults.reads += 1
        self._answer(Code(code), payload)
        return True

    def _answer(self, code: Code, payload: bytes) -> None:
        if code is Code.STOP:
            self.is_streaming = False
        if self._faults.strike("silence", code):
            return
        if struck := self._faults.strike("garbage", code):
            self._output += np.random.default_rng(struck["seed"]).bytes(struck["size"])
            return
        if self._faults.strike("refuse", code):
            self._output.append(qcc.NACK)
            return
        self._output += self._said(code, payload)
        if self._faults.strike("truncate", code):
            self._cut_at = self._left // 2
            if not self._left:
                del self._output[(len(self._output) + 1) // 2 :]

    def _said(self, code: Code, payload: bytes) -> bytes:
        """The answer but for its random bytes, which are only promised."""
        match code:
            case Code.START:
                return self._start(*struct.unpack("<BH", payload))
            case Code.SIGNED_READ:
                return self._signed_read(*struct.unpack("<H", payload))
            case Code.SET_CONFIG:
                if payload[0] not in list(qcc.PostProcess):
                    return bytes([qcc.NACK])
                self._config = self._config if self._faults.strike("stubborn") else payload
            case Code.RESET:
                self._generated_bytes = 0
            case Code.REBOOT:
                if payload != qcc.REBOOT.frame[1:]:
                    return bytes([qcc.NACK])
                self._config, self._generated_bytes = _FACTORY_CONFIG, 0
        return bytes([qcc.RESPONSES[code][0]]) + self._told(code)

    def _told(self, code: Code) -> bytes:
        match code:
            case Code.CONFIG:
                return self._config
            case Code.STATISTICS:
                return struct.pack("<QIIIIHf", self._generated_bytes, 0, 0, 0, self._speed, 512, 0.5)
            case Code.INFO:
                serial, hardware = serial_text(self._number()), f"CICADA-QRNG-{HARDWARE[0]}.{HARDWARE[1]}"
                return struct.pack("<II24s24s", CORE_VERSION, FIRMWARE_VERSION, serial.encode(), hardware.encode())
            case Code.KEY:
                return self._maker.device.public
            case Code.CERTIFICATE:
                authority = self._maker.stranger if self._faults.strike("certificate") else self._maker.authority
                return authority.sign(certificate_message(HARDWARE, self._number(), self._maker.device.public))
            case Code.REBOOT:
                return b""
        return self._status()

    def _number(self) -> int:
        struck = self._faults.strike("serial")
        return struck["number"] if struck else self._serial_number

    def _status(self) -> bytes:
        struck = self._faults.strike("status")
        return struct.pack("<BI", _SOUND ^ (struck["bits"] if struck else 0), _READY_BYTES)

    def _start(self, mode: int, size: int) -> bytes:
        if mode == qcc.ONE_SHOT_MODE and size:
            self._left = size
        elif mode == 0:
            self.is_streaming = True
        else:
            return bytes([qcc.NACK])
        return bytes([qcc.ACK]) + self._status()

    def _signed_read(self, size: int) -> bytes:
        if not size:
            return bytes([qcc.NACK])
        code = bytes([qcc.RESPONSES[Code.SIGNED_READ][0]])
        if len(self._last[0]) == size and self._faults.strike("replay"):
            return code + b"".join(self._last)
        self._left, self._signed = size, bytearray()
        return code
