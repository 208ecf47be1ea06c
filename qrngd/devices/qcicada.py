"""QCicada devices: framed reads over a serial line, status bits, and signatures up to the maker (`proto/spec/entropy-feed.md`, "QCicada").

Every answer is asked for and complete before a byte of it is handed out. With `device_authority` every read is a signed one, and what
a signature does not hold for is not handed out; without it reads are one-shot, whose answer begins with the status bits.

One command is out at a time, because nothing published says that a device keeps a second one. The next goes out as soon as the last
byte of an answer is here, before its signature is verified, so the line rests for one turn-around a read.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from msgspec.structs import replace

from qrngd.devices import qcc_messages as qcc
from qrngd.devices.device import Device, DeviceFlags, monotonic_ms
from qrngd.devices.qcc import Answer, QccHost
from qrngd.devices.qcc_messages import Code, PostProcess, Request
from qrngd.devices.serial_line import LINE_BUFFER_BYTES, RETRY_AFTER_MS, SerialLine
from qustream.errors import QuStreamError, fault
from qustream.identity.device_evidence import SCHEME, certificate_message
from qustream.identity.p256 import is_p256_key, verify_p256
from qustream.model.base import LABEL_MAX_CHARS
from qustream.model.entropy import DeviceDescriptor, DeviceEvidence

__all__ = ["POST_PROCESSES", "QCicadaDevice"]

# What `source` says, in the configuration and in attestations.
POST_PROCESSES = {"sha256": PostProcess.SHA256, "raw-noise": PostProcess.RAW_NOISE, "raw-samples": PostProcess.RAW_SAMPLES}
# The whole conversation at open: a dozen short answers, and what a device was in the middle of sending to whoever had it before (65,535
# bytes take 0.7 s).
OPEN_LIMIT_MS = 2000
# After a stop: no device pauses so long within what it sends, not even behind an adapter that holds bytes back for 16 ms.
DRAIN_SILENCE_MS = 100
# No short answer takes longer; with less time left none is asked for that can be done without.
ONE_ANSWER_MS = 500
# Four times the silence, and time left for the rest.
STOPS_MAX = 4
# Nothing for so long while an answer is due: half the limit for silence, so that a device that stops inside one is called so first.
ANSWER_LIMIT_MS = 5000
# A signature costs the device time, so reads are long; at a tenth of the line's rate one still takes less than two seconds.
READ_BYTES = 16_384
# What is asked for when the reader has no room: it lies in the line's own buffer (throttled 128 bytes before it is full, and a byte lost to
# an adapter that is not heard in time would cost the whole conversation) until somebody comes for it.
IDLE_READ_BYTES = 3840
# The bits are asked for in between when no read has said them for this long.
STATUS_INTERVAL_MS = 1000
SAMPLE_BYTES = 64  # the most that evidence holds
# Signatures remembered, by eight bytes of their r: what is played back within a quarter of a gigabyte is noticed. In as many reads a
# chance match has a probability below 2^-36.
SEEN_MAX = 16_384
_NO_FLAGS = qcc.Status(0, 0).flags


class QCicadaDevice(Device):
    """See `Device`."""

    pollable = True
    retry_after_ms = RETRY_AFTER_MS

    def __init__(
        self, path: str, expected: DeviceDescriptor, *, device_authority: bytes = b"", clock_ms: Callable[[], int] = monotonic_ms
    ) -> None:
        """`expected.conditioned`: whether the device is to hash its samples; `expected.source`: which post-processing exactly
        (`POST_PROCESSES`; raw noise if it is not said). `expected.serial`: the only device that is taken. `device_authority`: the maker's
        key, x ‖ y. Raises E-CONFIG."""
        source = expected.source or ("sha256" if expected.conditioned else "raw-noise")
        if source not in POST_PROCESSES:
            raise fault("E-CONFIG", f"source: a QCicada delivers one of {', '.join(POST_PROCESSES)}")
        if expected.conditioned != (source == "sha256"):
            raise fault("E-CONFIG", f"conditioned: {source} is {'not ' if expected.conditioned else ''}conditioned by the device")
        if device_authority and not is_p256_key(device_authority):
            raise fault("E-CONFIG", "device_authority: no public key of P-256")
        self._path, self._expected, self._source = path, expected, source
        self._authority, self._clock_ms = device_authority, clock_ms
        self._line: SerialLine | None = None
        self._host = QccHost()
        self._scratch = memoryview(bytearray(LINE_BUFFER_BYTES))
        self._flags = _NO_FLAGS
        self._key = b""
        self._seen: dict[bytes, None] = {}  # in the order in which they were seen
        self._ready = bytearray()  # what may be handed out, from `_at` on
        self._at = 0
        self._moved_ms = 0  # when something last went over the line
        self._heard_status_ms = 0
        self._refused = False

    @property
    def flags(self) -> DeviceFlags:
        return self._flags

    @property
    def _opened(self) -> SerialLine:
        assert self._line is not None, "the device is closed"
        return self._line

    # -- opening

    def open(self) -> DeviceDescriptor:
        assert self._line is None, "the device is open already"
        self._line = SerialLine(self._path, baud=qcc.BAUD)
        self._host, self._refused = QccHost(), False
        try:
            deadline_ms = self._clock_ms() + OPEN_LIMIT_MS
            self._stop(deadline_ms)
            info = qcc.decode_info(self._answer(qcc.INFO, deadline_ms).payload)
            if self._expected.serial not in ("", info.serial):
                found = info.serial or "a device without a number"
                raise fault("E-DEV-IDENTITY", f"on {self._path} is {found!r}, not {self._expected.serial!r}")
            self._configure(deadline_ms)
            self._await_sound(deadline_ms)
            evidence = self._prove(info, deadline_ms) if self._authority else None
            self._ask_read(0)
        except BaseException:
            self.close()
            raise
        return replace(
            self._expected,
            model=self._expected.model or info.hardware[:LABEL_MAX_CHARS],
            serial=info.serial,
            emulated=self._opened.is_pseudo,  # a pseudo-terminal has a program behind it, whatever it says
            source=self._source,
            evidence=evidence,
        )

    def _stop(self, deadline_ms: int) -> None:
        """Bring the conversation to a known point. More than once if need be: the device may take a stop for the rest of a command that
        somebody else left half written."""
        for _ in range(STOPS_MAX):
            self._opened.write(self._host.ask(qcc.STOP))
            while self._wait(min(DRAIN_SILENCE_MS, deadline_ms - self._clock_ms())):
                self._host.receive(self._read_line())
            if self._clock_ms() >= deadline_ms:
                raise fault("E-DEV-READ", f"the device on {self._path} gives bytes without being asked and does not stop; is it a QCicada?")
            if self._host.quiet() is not None:
                return
        raise fault("E-DEV-READ", f"nothing on {self._path} answers as a QCicada does")

    def _answer(self, request: Request, deadline_ms: int) -> Answer:
        """What the device answers, by the deadline. Raises E-DEV-READ, E-DEV-ABSENT; for a refusal see `_is_refused`."""
        self._opened.write(self._host.ask(request))
        while self._wait(deadline_ms - self._clock_ms()):
            answers = self._host.receive(self._read_line())
            if answers and answers[0].refused:
                raise self._refusal(request)
            if answers:
                return answers[0]
        raise fault("E-DEV-READ", f"the device on {self._path} leaves command {request.code:#04x} without an answer")

    @staticmethod
    def _refusal(request: Request) -> QuStreamError:
        if request.code in (Code.KEY, Code.CERTIFICATE, Code.SIGNED_READ):
            return fault("E-DEV-CERTIFICATE", "the device gives no key, certificate or signature; is its firmware too old for that?")
        return fault("E-DEV-READ", f"the device refuses command {request.code:#04x}")

    def _wait(self, timeout_ms: int) -> bool:
        poll = select.poll()
        poll.register(self._opened, select.POLLIN)
        return timeout_ms > 0 and bool(poll.poll(timeout_ms))

    def _read_line(self) -> memoryview:
        return self._scratch[: self._opened.readinto(self._scratch)]

    def _configure(self, deadline_ms: int) -> None:
        """Have the device deliver what is configured, and nothing after an error; ask it whether it does."""
        config = qcc.decode_config(self._answer(qcc.CONFIG, deadline_ms).payload)
        wanted = config.changed(POST_PROCESSES[self._source])
        if config == wanted:
            return
        self._answer(qcc.set_config(wanted), deadline_ms)
        if qcc.decode_config(self._answer(qcc.CONFIG, deadline_ms).payload) != wanted:
            raise fault("E-DEV-READ", f"the device took the setting {self._source} and does not have it")

    def _await_sound(self, deadline_ms: int) -> None:
        """Its own start-up test has its time; what is wrong after that is wrong."""
        status = qcc.decode_status(self._answer(qcc.STATUS, deadline_ms).payload)
        while status.is_testing and self._clock_ms() + ONE_ANSWER_MS < deadline_ms:
            if self._wait(DRAIN_SILENCE_MS):
                self._host.receive(self._read_line())
            status = qcc.decode_status(self._answer(qcc.STATUS, deadline_ms).payload)
        self._heard(status)
        if status.is_testing:
            raise fault("E-DEV-STATUS", "the device has not finished its own start-up test")

    def _prove(self, info: qcc.Info, deadline_ms: int) -> DeviceEvidence:
        """The chain from the maker to the device to a read. Raises E-DEV-CERTIFICATE."""
        number, version = info.serial_number, info.version
        if number is None or version is None:
            raise fault("E-DEV-CERTIFICATE", f"no certificate can be for serial {info.serial!r} and hardware {info.hardware!r}")
        key = self._answer(qcc.KEY, deadline_ms).payload
        certificate = self._answer(qcc.CERTIFICATE, deadline_ms).payload
        if not verify_p256(self._authority, certificate_message(version, number, key), certificate):
            raise fault("E-DEV-CERTIFICATE", f"the certificate of {info.serial} is not by the configured authority")
        answer = self._answer(qcc.signed_read(SAMPLE_BYTES), deadline_ms)
        sample = bytes(answer.material or b"")
        self._key = key
        self._check_signature(sample, answer.signature)
        return DeviceEvidence(SCHEME, self._authority, key, certificate, version, number, sample, answer.signature, True)

    # -- reading

    def readinto(self, buffer: memoryview) -> int:
        try:
            if self._at == len(self._ready):
                self._listen(len(buffer))
        except BaseException:
            self.close()
            raise
        size = min(len(buffer), len(self._ready) - self._at)
        buffer[:size] = memoryview(self._ready)[self._at : self._at + size]
        self._at += size
        if self._at == len(self._ready):
            self._wipe()
        return size

    def _listen(self, room: int) -> None:
        """Take what the line has until a read is complete or nothing is left."""
        while self._at == len(self._ready):
            data = self._read_line()
            if not len(data):
                if self._clock_ms() - self._moved_ms > ANSWER_LIMIT_MS:
                    raise fault("E-DEV-READ", f"the device on {self._path} leaves a read without an answer, or stopped inside one")
                return
            self._moved_ms = self._clock_ms()
            for answer in self._host.receive(data):
                self._take(answer, room)
            data[:] = bytes(len(data))

    def _take(self, answer: Answer, room: int) -> None:
        if answer.request.code is Code.STATUS:
            if not answer.refused:
                self._heard(qcc.decode_status(answer.payload))
            if answer.refused or self._refused:
                raise fault("E-DEV-READ", "the device refuses to deliver, and does not say why")
            self._ask_read(room)
        elif answer.refused:
            self._refused = True  # its status bits may say why
            self._ask(qcc.STATUS)
        else:
            material = answer.material or bytearray()
            if answer.payload:
                self._heard(qcc.decode_status(answer.payload))
            if self._clock_ms() - self._heard_status_ms < STATUS_INTERVAL_MS:
                self._ask_read(room - len(material))
            else:
                self._ask(qcc.STATUS)
            if self._authority:
                self._check_signature(material, answer.signature)
            self._ready, self._at = material, 0

    def _ask(self, request: Request) -> None:
        self._opened.write(self._host.ask(request))
        self._moved_ms = self._clock_ms()

    def _ask_read(self, room: int) -> None:
        """Ask for what the reader has room for, or for what the line itself can keep; for whole samples, whatever their width."""
        size = max(IDLE_READ_BYTES, min(READ_BYTES, room - room % 2))
        self._ask(qcc.signed_read(size) if self._authority else qcc.one_shot(size))

    def _heard(self, status: qcc.Status) -> None:
        """Raises E-DEV-STATUS when a bit speaks against the device."""
        self._flags, self._heard_status_ms = status.flags, self._clock_ms()
        if status.trouble:
            raise fault("E-DEV-STATUS", f"the device says of itself: {status.trouble}")

    def _check_signature(self, data: bytes | bytearray, signature: bytes) -> None:
        """Raises E-DEV-CERTIFICATE. The r of a signature is new in every one: whoever plays an old read back cannot change it."""
        if not verify_p256(self._key, data, signature):
            raise fault("E-DEV-CERTIFICATE", "the device's signature over what it delivered does not hold")
        mark = signature[:8]
        if mark in self._seen:
            raise fault("E-DEV-CERTIFICATE", "what was delivered is a read that the device has signed before")
        self._seen[mark] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]

    def fileno(self) -> int:
        return self._opened.fileno()

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        self._host.close()
        self._wipe()

    def _wipe(self) -> None:
        self._ready[:] = bytes(len(self._ready))
        self._ready, self._at = bytearray(), 0
