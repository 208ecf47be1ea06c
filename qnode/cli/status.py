"""`qnode status` and `qnode wait`: a running node seen from outside, by its own pages."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from qnode.api.status import StatusSnapshot, status_text
from qnode.cli.options import config_option, status_url, url_option
from qustream.aio.status_page import fetch
from qustream.errors import QuStreamError, fault

__all__ = ["status", "wait"]

POLL_S = 0.1  # how often a waiting command looks
SAY_EVERY_S = 5.0  # how often it says why it still waits


@click.command()
@config_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="The status as JSON, as the page /v1/status gives it.")
def status(config_path: Path, url: str | None, as_json: bool) -> None:
    """One screen about the running node. Exit 0 when it is ready, 1 when it is not, 75 when it does not answer."""
    code, body = fetch(status_url(url, config_path) + "/v1/status")
    try:
        snapshot = StatusSnapshot.from_json(body)
    except ValueError:
        raise fault("E-PEER-VERSION", f"what answers there is not a node of this version (HTTP {code})") from None
    click.echo(body.decode() if as_json else status_text(snapshot))
    sys.exit(0 if snapshot.ready else 1)


@click.command()
@config_option
@url_option
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds to wait at most.")
def wait(config_path: Path, url: str | None, timeout_s: float) -> None:
    """Wait until the node is ready; say what it waits for meanwhile. Exit 0 when ready, 1 when the time is over."""
    page = status_url(url, config_path) + "/readyz"
    started = said = time.monotonic()
    while True:
        ready, why = _readiness(page)
        if ready:
            return
        now = time.monotonic()
        if now - started >= timeout_s:
            click.echo(f"not ready after {timeout_s:g} s: {why}", err=True)
            sys.exit(1)
        if now - said >= SAY_EVERY_S:
            said = now
            click.echo(f"waiting: {why}", err=True)
        time.sleep(POLL_S)


def _readiness(page: str) -> tuple[bool, str]:
    try:
        code, body = fetch(page)
    except QuStreamError as error:
        return False, error.detail
    if code == 200:
        return True, ""
    try:
        reasons = json.loads(body)["reasons"]
        return False, "; ".join(f"{r['code']} {r['detail']}" for r in reasons) or "starting"
    except (ValueError, KeyError, TypeError):
        return False, f"HTTP {code} from {page}"
