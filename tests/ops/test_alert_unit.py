"""The unit of `qrngd alert`: how much it is exposed, and that what it forbids the process never does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.alert_pages import device, page
from support.appliance import Authority
from support.daemon import until
from support.pages import pages
from support.pusher import Pusher
from support.receiver import Receiver
from support.units import DEPLOY, NO_NEW_CODE, Unit, calls_of

UNIT = Unit("qrngd-alert.service")


def test_the_unit_and_the_command_agree() -> None:
    assert UNIT.settings("ExecStart") == ["/usr/bin/qrngd alert --config /etc/qustream/qrngd-alert.toml"]
    # The server has no network, and this has no device; neither is a part of the other.
    assert not UNIT.settings("DeviceAllow")
    assert "PrivateNetwork=yes" in (DEPLOY / "systemd" / "qrngd.service").read_text()


def watched(tmp_path: Path, server: str, receiver: Receiver, authority: Authority) -> Pusher:
    config = f'[[watch]]\nurl = "{server}"\n[[receiver]]\nname = "hook"\nkind = "webhook"\nurl = "{receiver.address}"\n'
    return Pusher(tmp_path / "pusher", config + f'sign = true\nauthority_file = "{authority.file}"\n', hook_sign=b"key")


@pytest.mark.e2e
@pytest.mark.needs("mdwe")
def test_it_runs_where_memory_is_written_or_executed_and_never_both(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with pages({"/v1/status": (200, page(device(state="failed")))}) as server, Receiver().serving(authority.server()) as receiver:
        pusher = watched(tmp_path, server, receiver, authority)
        pusher.command_line = [sys.executable, "-c", NO_NEW_CODE]
        with pusher.running():
            until(receiver.statuses)


@pytest.mark.e2e
@pytest.mark.needs("systemd-analyze", "strace")
def test_every_system_call_of_it_is_allowed(tmp_path: Path) -> None:
    authority, trace = Authority(tmp_path), tmp_path / "trace"
    with pages({"/v1/status": (200, page(device(state="failed")))}) as server, Receiver().serving(authority.server()) as receiver:
        pusher = watched(tmp_path, server, receiver, authority)
        pusher.command_line = ["strace", "-D", "-f", "-qq", "-o", str(trace)]
        with pusher.running():
            until(receiver.statuses)
    text = trace.read_text(errors="replace")
    made = calls_of(trace)
    assert {"openat", "mmap", "epoll_wait", "connect"} <= made
    # numpy's OpenBLAS, loaded with the command, asks once where its memory should lie, and takes a no.
    assert made - UNIT.allowed_calls() <= {"mbind"}
    families = set(re.findall(r"socket\((AF_\w+)", text))
    assert families <= set(UNIT.settings("RestrictAddressFamilies")[0].split()) | {"AF_NETLINK"}
    assert not re.search(r"\bbind\(\d+, \{sa_family=AF_INET", text)
