"""The configuration file of `qrngd alert` (`proto/spec/monitoring.md`), checked before anything starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from qrngd.target import Target, parse_target
from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.model.base import Label

__all__ = ["AlertConfig", "ReceiverConfig", "WatchConfig", "load_alert_config"]

# Alertmanager takes an alert for over five minutes after it was last told (resolve_timeout): several renewals fit into that, so that one
# that is lost does no harm.
_RENEW_ALERTMANAGER_S = 60
# A webhook mostly ends at people, who are not told each minute.
_RENEW_WEBHOOK_S = 3600
# An alert lasts so many renewals: as Prometheus has it, four.
_LASTS_RENEWALS = 4
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_OWN_LABELS = frozenset({"alertname", "severity", "code", "job", "instance", "device", "flag"})
_STATUS_PATH = "/v1/status"


class WatchConfig(settings.Section, frozen=True):
    """`[[watch]]`: a server to look at. `url`: its status address; `instance`: what alerts call it, else host and port."""

    url: Annotated[str, Meta(max_length=512)]
    instance: Label = ""
    plain_http: bool = False
    authority_file: Path | None = None

    @property
    def target(self) -> Target:
        """Its status page."""
        url = self.url if "://" in self.url else f"http://{self.url}"
        return parse_target(url.rstrip("/").removesuffix(_STATUS_PATH) + _STATUS_PATH)

    @property
    def name(self) -> str:
        """What alerts call the server: as Prometheus' label `instance` would."""
        return self.instance or self.target.authority


class ReceiverConfig(settings.Section, frozen=True):
    """`[[receiver]]`: whom to tell. `url`: of a webhook, whole; of an Alertmanager, its address, to which `/api/v2/alerts` is added.

    `bearer`: a token goes along, from the credential NAME.bearer or `bearer_file`; `sign`: the body's HMAC-SHA-256 does, by the key in the
    credential NAME.sign or `sign_file`. `plain_http`: http without TLS to another machine.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z", description="at most 32 lower-case letters, digits and dashes")]
    kind: Literal["alertmanager", "webhook"]
    url: Annotated[str, Meta(max_length=2048)]
    plain_http: bool = False
    authority_file: Path | None = None
    bearer: bool = False
    bearer_file: Path | None = None
    sign: bool = False
    sign_file: Path | None = None
    renew_s: Annotated[int, Meta(ge=0, le=86_400)] = 0

    @property
    def target(self) -> Target:
        """Where alerts are posted."""
        return parse_target(self.url.rstrip("/") + "/api/v2/alerts" if self.kind == "alertmanager" else self.url)

    @property
    def renew_ms(self) -> int:
        """How often an alert that lasts is told again."""
        return 1000 * (self.renew_s or (_RENEW_ALERTMANAGER_S if self.kind == "alertmanager" else _RENEW_WEBHOOK_S))

    @property
    def lasts_ms(self) -> int:
        """How long an alert lasts after it was told."""
        return _LASTS_RENEWALS * self.renew_ms


class AlertConfig(settings.Section, frozen=True):
    """The whole file. `settle_s`: the minute that most conditions must last before they are told, and must be gone before that is told.
    `labels`: added to every alert."""

    watch: Annotated[tuple[WatchConfig, ...], Meta(min_length=1, max_length=64)]
    receiver: Annotated[tuple[ReceiverConfig, ...], Meta(max_length=16)] = ()
    interval_s: Annotated[int, Meta(ge=1, le=60)] = 5
    settle_s: Annotated[int, Meta(ge=1, le=3600)] = 60
    labels: Annotated[dict[str, Label], Meta(max_length=16)] = {}  # noqa: RUF012 - msgspec copies it
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load_alert_config(path: Path) -> AlertConfig:
    """Read and check the file at `path`. Raises `E-CONFIG`, `E-FILE`."""
    config = settings.load(path, AlertConfig)
    try:
        _check(config)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{path}: {error.detail}") from None
    return config


def _check(config: AlertConfig) -> None:
    for number, watch in enumerate(config.watch):
        _check_url(f"watch[{number}]", watch)
        if watch.name in [each.name for each in config.watch[:number]]:
            raise fault("E-CONFIG", f"watch[{number}]: {watch.name} is watched already; give one of them another instance")
    for number, receiver in enumerate(config.receiver):
        _check_url(f"receiver[{number}]", receiver)
        if receiver.name in [each.name for each in config.receiver[:number]]:
            raise fault("E-CONFIG", f"receiver[{number}].name: {receiver.name} is taken")
        if receiver.kind == "alertmanager" and (receiver.sign or receiver.sign_file):
            raise fault("E-CONFIG", f"receiver[{number}].sign: an Alertmanager checks no signature; a webhook does")
    for name in config.labels:
        if not _LABEL.fullmatch(name) or name in _OWN_LABELS:
            raise fault("E-CONFIG", f"labels.{name}: no name for a label of yours; alerts have {', '.join(sorted(_OWN_LABELS))} already")


def _check_url(key: str, entry: WatchConfig | ReceiverConfig) -> None:
    try:
        target = entry.target
    except ValueError as error:
        raise fault("E-CONFIG", f"{key}.url: {error}") from None
    if target.scheme == "http" and not target.is_local and not entry.plain_http:
        raise fault("E-CONFIG", f"{key}.url: http to another machine; use https, or say plain_http = true if the way there is safe")
