"""`qrngd alert`: watch QRNG servers and tell their operators, as a process of its own."""

from __future__ import annotations

from pathlib import Path

import click

from qrngd.cli.options import config_file

__all__ = ["alert"]


@click.command()
@config_file("qrngd-alert")
def alert(config_path: Path) -> None:
    """Look at the status pages of QRNG servers, and push alerts to Alertmanagers and webhooks until SIGTERM or SIGINT."""
    # The event loop is loaded for this command alone: the others answer faster without.
    from qrngd.alerts import pusher
    from qrngd.alerts.config import load_alert_config
    from qustream.aio.logs import configure_logs

    config = load_alert_config(config_path)
    configure_logs(config.log_level)
    pusher.run(config)
