"""Telling systemd how the daemon is (`sd_notify(3)`): READY, STATUS, WATCHDOG, STOPPING over the datagram socket it names.

Without `$NOTIFY_SOCKET` everything here does nothing: the daemon runs the same outside systemd.
"""

from __future__ import annotations

import os
import socket

__all__ = ["notify", "watchdog_interval_ms"]


def notify(**fields: str) -> None:
    """Send `READY="1"`, `STATUS="..."` and so on in one datagram. A service manager that has gone away is not our trouble."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # a Linux abstract socket
        address = "\0" + address[1:]
    text = "\n".join(f"{name}={value.splitlines()[0] if value else ''}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # a full queue must not stop the event loop
            sender.sendto(text.encode(), address)
    except OSError:
        return


def watchdog_interval_ms() -> int | None:
    """Half of the time after which systemd kills a silent daemon, or None when no watchdog was asked for."""
    pid, microseconds = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return max(1, int(microseconds) // 2000)
