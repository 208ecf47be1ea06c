"""The reader's loop: while qrngd reads the FIFO and there is room in it, ask the appliance, check what it answers, hand it on.

What cannot be had is not replaced by anything: qrngd sees a FIFO that is silent, and says so. Nothing here ends the loop but the operator;
whatever is wrong with the appliance is told once, counted, and tried again with growing pauses.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from qrngd.appliance.client import ApplianceClient, Stopped, tls_context
from qrngd.appliance.config import ReaderConfig
from qrngd.appliance.freshness import BlockMemory
from qrngd.appliance.output import OutputFifo
from qrngd.appliance.pace import Backoff, RateLimit
from qrngd.appliance.quota import DayQuota
from qrngd.appliance.report import Figures, write_metrics
from qrngd.appliance.shapes import answer_max_bytes, read_answer, request_for
from qustream.aio.logs import logger
from qustream.aio.systemd import notify
from qustream.errors import QuStreamError, fault
from qustream.identity import keystore

__all__ = ["CREDENTIAL", "ApplianceReader", "fetch_once", "find_token"]

CREDENTIAL = "qrngd-reader"
# How soon a stop, or somebody who opens the FIFO, is noticed; four looks a second cost nothing that can be measured.
LOOK_INTERVAL_S = 0.25
# Between two writes of the metrics file: Prometheus asks every 15 s to 60 s.
METRICS_INTERVAL_S = 10.0

_log = logger("reader")


def find_token(file: Path | None) -> bytes:
    """The bearer token: the systemd credential `qrngd-reader`, else `file`. Raises E-APPLIANCE-TOKEN, E-KEYSTORE-MODE, E-FILE."""
    try:
        token = keystore.find_passphrase(CREDENTIAL, file=file, prompt=False).strip()
    except QuStreamError as error:
        if error.code != "E-SECRET-MISSING":
            raise
        raise fault("E-APPLIANCE-TOKEN", f"there is neither a credential {CREDENTIAL} nor a token_file with a token in it") from None
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):
        raise fault("E-APPLIANCE-TOKEN", "the token has characters that no bearer token has")
    return token


def fetch_once(config: ReaderConfig, client: ApplianceClient) -> list[bytes]:
    """Ask for one answer; its blocks, checked but for whether they were seen before. Raises E-APPLIANCE-…, `Stopped`."""
    shape = {"block_bytes": config.block_bytes, "blocks": config.blocks_per_request}
    request = request_for(config.api, config.target.path, **shape)
    body = client.fetch(request, body_max_bytes=answer_max_bytes(**shape))
    try:
        return read_answer(config.api, body, **shape)
    finally:
        body[:] = bytes(len(body))


class ApplianceReader:
    """`run` until `stopping` says so. Everything that is wrong with the configuration is found here, before anything is asked."""

    def __init__(self, config: ReaderConfig, *, stopping: Callable[[], bool]) -> None:
        """Raises E-CONFIG, E-FILE, E-APPLIANCE-TLS, E-APPLIANCE-TOKEN, E-KEYSTORE-MODE, E-DATA-LOCKED, E-DATA-CORRUPT."""
        self.figures = Figures(quota_limit_bytes=config.quota_bytes_per_day)
        self._config, self._stopping = config, stopping
        find_token(config.token_file)
        self._client = ApplianceClient(
            config.target, tls_context(config.authority_file), token=lambda: find_token(config.token_file), stopping=stopping
        )
        self._output = OutputFifo(config.output)
        self._quota = DayQuota(config.state_dir, config.quota_bytes_per_day, time.time)
        self._memory = BlockMemory()
        self._rate = RateLimit(config.rate_max_bytes_per_s)
        self._backoff = Backoff(random.SystemRandom().random)
        self._metrics_due_s = 0.0
        self._status = ""

    def run(self) -> None:
        """Until it is to stop."""
        notify(READY="1")
        _log.info("reading", host=self._config.target.host, api=self._config.api, output=str(self._config.output))
        try:
            while not self._stopping():
                self._tick()
                if self._wanted():
                    self._serve()
        except Stopped:
            pass  # while waiting for the appliance
        finally:
            notify(STOPPING="1")
            self._client.close()
            self._output.close()
            self.figures.reading = False
            self._quota.close()
            self._show()

    # -- demand

    def _wanted(self) -> bool:
        """Whether bytes could be handed on now, and may be asked for; waits a moment if not."""
        room = self._output.open() and self._output.has_room(LOOK_INTERVAL_S)
        self._note_reader()
        if not self._output.has_reader:
            self._pause(LOOK_INTERVAL_S)
        early_s = self._rate.wait_s(time.monotonic())
        if room and early_s:
            self._pause(min(early_s, LOOK_INTERVAL_S))  # and look again: whoever reads may have left until then
        return room and not early_s

    def _serve(self) -> None:
        """One answer, from the appliance into the FIFO; a failure and the pause after it."""
        try:
            blocks = self._fetch()
        except QuStreamError as error:
            self._failed(error)
            self._pause(self._backoff.pause_s(error))
            return
        self._succeeded()
        data = bytearray().join(blocks)
        try:
            self._hand_on(memoryview(data))
        finally:
            data[:] = bytes(len(data))

    def _fetch(self) -> list[bytes]:
        size = self._config.request_bytes
        self._quota.take(size)
        try:
            blocks = fetch_once(self._config, self._client)
        except QuStreamError as error:
            if error.code != "E-APPLIANCE-ANSWER":  # what answers with a body has counted it, too
                self._quota.give_back(size)
            raise
        finally:
            self.figures.connections = self._client.connections
            self.figures.quota_used_bytes = self._quota.used_bytes
        self._rate.took(size, time.monotonic())
        self._memory.admit(blocks)
        return blocks

    def _hand_on(self, data: memoryview) -> None:
        """All of `data`, as there is room for it; what is left when the reader leaves is dropped."""
        done = 0
        while done < len(data) and not self._stopping():
            self._tick()
            if self._output.has_room(LOOK_INTERVAL_S):
                done += self._output.write(data[done:])
            if not self._output.has_reader:
                break
        self._note_reader()
        self.figures.delivered_bytes += done

    # -- what is told

    def _note_reader(self) -> None:
        if self._output.has_reader != self.figures.reading:
            self.figures.reading = self._output.has_reader
            _log.info("qrngd reads" if self.figures.reading else "qrngd has stopped reading")

    def _failed(self, error: QuStreamError) -> None:
        self.figures.failures[error.code] += 1
        if error.code != self.figures.code:
            _log.error("no entropy", code=error.code, detail=error.detail, remedy=error.remedy)
            self.figures.code = error.code
            self._metrics_due_s = 0.0
        self._say(f"{error.code}: {error.detail}")

    def _succeeded(self) -> None:
        self._backoff.succeeded()
        if self.figures.code or not self.figures.answers:
            _log.info("entropy comes", after=self.figures.code)
            self._metrics_due_s = 0.0
        self.figures.code = ""
        self.figures.answers += 1
        self.figures.last_answer_s = time.time()
        self._say("the appliance delivers")

    def _say(self, status: str) -> None:
        if status != self._status:
            self._status = status
            notify(STATUS=status)

    def _pause(self, seconds: float) -> None:
        ends_s = time.monotonic() + seconds
        while (left_s := ends_s - time.monotonic()) > 0 and not self._stopping():
            time.sleep(min(left_s, LOOK_INTERVAL_S))
            self._tick()

    def _tick(self) -> None:
        """At least every few seconds, but for the limits of `client`: tell the service manager, write the metrics when it is time."""
        notify(WATCHDOG="1")
        if time.monotonic() >= self._metrics_due_s:
            self._metrics_due_s = time.monotonic() + METRICS_INTERVAL_S
            self._show()

    def _show(self) -> None:
        if self._config.metrics_file is None:
            return
        try:
            write_metrics(self._config.metrics_file, self.figures)
        except QuStreamError as error:
            # Numbers that cannot be written must not stop what they speak of.
            _log.warning("metrics not written", code=error.code, detail=error.detail)
