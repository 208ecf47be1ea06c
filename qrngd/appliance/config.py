"""The configuration of the reader, qrngd-reader.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from qrngd.appliance.shapes import KIB_BLOCK_BYTES, Api
from qrngd.devices.device import SILENCE_LIMIT_MS
from qrngd.target import Target, parse_target
from qustream import settings
from qustream.errors import QuStreamError, fault

__all__ = ["ReaderConfig", "load_reader_config"]

# The shortest block of which "all bytes are equal" and "seen before" are signs of a fault and not of chance (2^-120).
_BLOCK_MIN_BYTES = 16
# No appliance is known to give longer ones.
_BLOCK_MAX_BYTES = 1 << 16
# What both documented interfaces give at most.
_BLOCKS_MAX = 512
# One answer is in memory as text and as bytes; a window of the health tests is a sixteenth of this.
_REQUEST_MAX_BYTES = 1 << 20
# How long qrngd may hear nothing while all is well: half of what it takes for a fault.
_ANSWER_INTERVAL_MAX_S = SILENCE_LIMIT_MS // 2000


class ReaderConfig(settings.Section, frozen=True):
    """The whole file.

    `url`, `api`: the appliance, and which of the two documented interfaces it has. `authority_file`: the certificates that may vouch for
    it, PEM; the system's if not given. `token_file`: the bearer token, mode 0600, where there is no credential `qrngd-reader`. `output`:
    the FIFO, made if it is not there; qrngd reads it as kind "appliance". `rate_max_bytes_per_s`, `quota_bytes_per_day`: 0 is no limit; a
    quota needs `state_dir`. `metrics_file`: for the textfile collector of Prometheus' node exporter.
    """

    url: str
    output: Path
    api: Api = "blocks"
    authority_file: Path | None = None
    token_file: Path | None = None
    block_bytes: Annotated[int, Meta(ge=_BLOCK_MIN_BYTES, le=_BLOCK_MAX_BYTES)] = 1024
    blocks_per_request: Annotated[int, Meta(ge=1, le=_BLOCKS_MAX)] = 64
    rate_max_bytes_per_s: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    quota_bytes_per_day: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    state_dir: Path | None = None
    metrics_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def target(self) -> Target:
        """`url` in parts. Raises E-CONFIG for anything but an https address."""
        try:
            target = parse_target(self.url)
            if target.scheme != "https":
                raise ValueError("a token goes nowhere without TLS")
        except ValueError as error:
            example = "https://appliance.example/api/v1/get_entropy"
            raise fault("E-CONFIG", f"url: an https address is needed, such as {example}: {error}") from None
        return target

    @property
    def request_bytes(self) -> int:
        """Entropy one answer holds."""
        return self.block_bytes * self.blocks_per_request


def load_reader_config(path: Path) -> ReaderConfig:
    """Read and check the file at `path`. Raises `E-CONFIG`, `E-FILE`."""
    config = settings.load(path, ReaderConfig)
    if config.api == "kib" and config.block_bytes != KIB_BLOCK_BYTES:
        raise fault("E-CONFIG", f"{path}: block_bytes: the api 'kib' gives blocks of {KIB_BLOCK_BYTES} bytes and no others")
    if config.request_bytes > _REQUEST_MAX_BYTES:
        raise fault("E-CONFIG", f"{path}: block_bytes times blocks_per_request is above {_REQUEST_MAX_BYTES}")
    if config.rate_max_bytes_per_s * _ANSWER_INTERVAL_MAX_S < config.request_bytes and config.rate_max_bytes_per_s:
        what = f"at rate_max_bytes_per_s an answer of {config.request_bytes} bytes comes less often than every {_ANSWER_INTERVAL_MAX_S} s"
        raise fault("E-CONFIG", f"{path}: blocks_per_request: {what}, and qrngd would take the silence for a fault")
    if config.quota_bytes_per_day and config.state_dir is None:
        raise fault("E-CONFIG", f"{path}: state_dir: a quota that a restart forgets is none; name a directory to keep it in")
    if 0 < config.quota_bytes_per_day < config.request_bytes:
        raise fault("E-CONFIG", f"{path}: quota_bytes_per_day: less than the {config.request_bytes} bytes of one answer")
    try:
        _ = config.target
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{path}: {error.detail}") from None
    return config
