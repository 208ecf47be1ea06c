"""The tasks of `qrngd alert`: one looks at each server, one tells each receiver; they meet in the core and the outboxes."""

from __future__ import annotations

import signal
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import trio

from qrngd.alerts.bodies import alertmanager_body, signature, webhook_body
from qrngd.alerts.config import AlertConfig, ReceiverConfig, WatchConfig
from qrngd.alerts.core import AlertState, Effect, Event, Raise, Resolve, StatusMissed, StatusSeen, step
from qrngd.alerts.exchange import exchange
from qrngd.alerts.outbox import Notice, Outbox
from qrngd.alerts.picture import read_picture
from qrngd.alerts.trust import trust_of
from qrngd.bell import Bell
from qustream.aio.heartbeat import heartbeat
from qustream.aio.logs import logger
from qustream.aio.systemd import notify
from qustream.errors import QuStreamError, fault
from qustream.identity import keystore

__all__ = ["Pusher", "run"]

# A local daemon answers in milliseconds; one that needs longer is not well, and is looked at again soon.
PAGE_DEADLINE_S = 5.0
PAGE_MAX_BYTES = 4 << 20  # the largest is the status of a server with 512 nodes, 150 KB
PUSH_DEADLINE_S = 10.0  # a receiver far away, through a gateway that thinks
PUSH_ANSWER_MAX_BYTES = 65_536  # it is read to be thrown away


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Receiver:
    config: ReceiverConfig
    outbox: Outbox
    trust: ssl.SSLContext | None
    secrets: Callable[[], tuple[bytes, bytes]]
    trouble: str = ""


class Pusher:
    """All that `qrngd alert` does. Raises E-SECRET-MISSING, E-KEYSTORE-MODE, E-FILE, E-CONFIG when a receiver lacks what it needs."""

    def __init__(self, config: AlertConfig) -> None:
        self._config = config
        self._log = logger("alert")
        self._bell = Bell()
        self._state = AlertState(config.settle_s * 1000)
        self._pages = {watch.name: f"{watch.target}{watch.target.path}" for watch in config.watch}
        self._receivers = [_receiver(each) for each in config.receiver]
        self._watched = [(each, trust_of(each.target, each.authority_file)) for each in config.watch]

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                for watch, trust in self._watched:
                    nursery.start_soon(self._watch, watch, trust)
                for receiver in self._receivers:
                    nursery.start_soon(self._tell, receiver)
                nursery.start_soon(heartbeat, self._status)
                told = [each.config.name for each in self._receivers]
                self._log.info("watching", version=version("qustream"), servers=list(self._pages), receivers=told)
                notify(READY="1", STATUS=self._status())
                async for _ in signals:
                    break
                self._log.info("stopping")
                notify(STOPPING="1")
                nursery.cancel_scope.cancel()

    # --- looking

    async def _watch(self, watch: WatchConfig, trust: ssl.SSLContext | None) -> None:
        while True:
            self._take(step(self._state, await self._look(watch, trust), _now_ms()))
            await trio.sleep(self._config.interval_s)

    async def _look(self, watch: WatchConfig, trust: ssl.SSLContext | None) -> Event:
        try:
            code, body = await exchange(watch.target, trust=trust, answer_max_bytes=PAGE_MAX_BYTES, deadline_s=PAGE_DEADLINE_S)
            return StatusSeen(watch.name, read_picture(body))
        except ValueError as error:
            return StatusMissed(watch.name, "E-PEER-VERSION", f"what answers is no qrngd that this version knows (HTTP {code}: {error})")
        except QuStreamError as error:
            return StatusMissed(watch.name, "E-PEER-UNREACHABLE", error.detail)

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._note(effect)
            for receiver in self._receivers:
                receiver.outbox.take(effect)
        if effects:
            self._bell.ring()

    def _note(self, effect: Effect) -> None:
        """The journal is told, too: it may be all that somebody looks at."""
        alert = effect.alert
        words = {"alert": alert.key.name, "instance": alert.key.instance, "device": alert.key.device, "code": alert.cause}
        if isinstance(effect, Raise):
            log = self._log.error if alert.condition.severity == "critical" else self._log.warning
            log("alert raised", **words, flag=alert.key.flag, summary=alert.summary, detail=alert.detail)
        elif isinstance(effect, Resolve):
            self._log.info("alert over", **words, flag=alert.key.flag)

    # --- telling

    async def _tell(self, receiver: _Receiver) -> None:
        outbox = receiver.outbox
        while True:
            now_ms = _now_ms()
            if notices := outbox.due(now_ms):
                await self._push(receiver, notices)
                continue
            due_ms = outbox.next_due_ms()
            # At least once a minute: the clock may have been set meanwhile.
            with trio.move_on_after(60 if due_ms is None else min(60, max(0.001, (due_ms - now_ms) / 1000))):
                await self._bell.wait()

    async def _push(self, receiver: _Receiver, notices: list[Notice]) -> None:
        outbox, config = receiver.outbox, receiver.config
        try:
            await self._post(receiver, notices)
        except QuStreamError as error:
            pause_ms = outbox.failed(_now_ms())
            if str(error) != receiver.trouble:
                self._log.error("push", code="E-ALERT-PUSH", receiver=config.name, cause=error.code, detail=error.detail, retry_ms=pause_ms)
            receiver.trouble = str(error)
            return
        outbox.acknowledged(notices, _now_ms())
        self._log.debug("told", receiver=config.name, alerts=len(notices))
        if receiver.trouble:
            receiver.trouble = ""
            self._log.info("push good again", receiver=config.name, dropped=outbox.dropped)

    async def _post(self, receiver: _Receiver, notices: list[Notice]) -> None:
        """Raises E-ALERT-PUSH for an answer other than 2xx, and what `exchange` and the reading of secrets raise."""
        config, now_ms = receiver.config, _now_ms()
        until_ms = now_ms + config.lasts_ms
        bearer, key = receiver.secrets()
        headers: tuple[tuple[str, str], ...] = (("Authorization", f"Bearer {bearer.decode('ascii')}"),) if bearer else ()
        if config.kind == "alertmanager":
            body = alertmanager_body(notices, self._config.labels, self._pages, until_ms)
        else:
            dropped = receiver.outbox.dropped
            body = webhook_body(notices, self._config.labels, sent_ms=now_ms, lasts_until_ms=until_ms, dropped=dropped)
        if key:
            headers += (("X-QuStream-Signature", signature(key, body)),)
        status, _ = await exchange(
            config.target, trust=receiver.trust, headers=headers, body=body,
            answer_max_bytes=PUSH_ANSWER_MAX_BYTES, deadline_s=PUSH_DEADLINE_S,
        )  # fmt: skip
        if not 200 <= status < 300:
            raise fault("E-ALERT-PUSH", f"{config.target}: HTTP {status}" + ("; redirects are not followed" if 300 <= status < 400 else ""))

    # --- telling systemd

    def _status(self) -> str:
        silent = [each.config.name for each in self._receivers if each.trouble]
        too_many = f"; {self._state.unraised} findings beyond what may fire at once" if self._state.unraised else ""
        return f"{len(self._state.firing)} alerts" + too_many + (f"; not told: {', '.join(silent)}" if silent else "")


def _receiver(config: ReceiverConfig) -> _Receiver:
    def secrets() -> tuple[bytes, bytes]:
        # Read anew for each push: tokens are replaced while the process runs.
        bearer = keystore.find_passphrase(f"{config.name}.bearer", file=config.bearer_file, prompt=False) if _wants_bearer(config) else b""
        if not bearer.isascii() or not bearer.decode("ascii", "replace").isprintable() or b" " in bearer:
            raise fault("E-CONFIG", f"the token of receiver {config.name} is not printable ASCII in one word")
        wants_key = config.sign or config.sign_file is not None
        key = keystore.find_passphrase(f"{config.name}.sign", file=config.sign_file, prompt=False) if wants_key else b""
        return bearer, key

    secrets()
    return _Receiver(config, Outbox(config.renew_ms), trust_of(config.target, config.authority_file), secrets)


def _wants_bearer(config: ReceiverConfig) -> bool:
    return config.bearer or config.bearer_file is not None


def run(config: AlertConfig) -> None:
    """Watch and tell until told to stop."""
    trio.run(Pusher(config).serve, strict_exception_groups=True)
