"""`qrngd alert` as a process: it looks at status pages and tells webhooks and a real Alertmanager, whatever these do meanwhile."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.alert_pages import device, page
from support.appliance import Authority
from support.daemon import PATIENCE_S, until
from support.network import BIN
from support.pages import Pages, garbled, pages
from support.places import free_port, host
from support.pusher import Alertmanager, Pusher
from support.qrng_server import Server, node_key
from support.receiver import Receiver

pytestmark = pytest.mark.e2e
NODE = node_key(1)
FAILED = page(device(state="failed", code="E-DEV-LATCHED", reason="window 9: stuck"))
GOOD = page()
TOKEN, KEY = b"token-of-this-test", b"key of this test"


def watch(*addresses: str) -> str:
    return "".join(f'[[watch]]\nurl = "http://{each}"\n' for each in addresses)


def webhook(receiver: Receiver, *lines: str, path: str = "/hook") -> str:
    return "\n".join(["[[receiver]]", 'name = "hook"', 'kind = "webhook"', f'url = "{receiver.address}{path}"', *lines, ""])


def alertmanager(manager: Alertmanager) -> str:
    return f'[[receiver]]\nname = "manager"\nkind = "alertmanager"\nurl = "http://{manager.address}"\nrenew_s = 1\n'


def test_a_webhook_hears_of_a_failure_and_of_its_end(tmp_path: Path) -> None:
    shown: Pages = {"/v1/status": (200, GOOD)}
    with pages(shown) as server, Receiver().serving() as receiver:
        config = 'labels = {site = "lab"}\n' + watch(server) + webhook(receiver, "renew_s = 2")
        with Pusher(tmp_path, config).running() as pusher:
            shown["/v1/status"] = (200, FAILED)
            until(lambda: ("renewed", "QrngdDeviceFailed") in receiver.statuses())
            shown["/v1/status"] = (200, GOOD)
            until(lambda: ("resolved", "QrngdDeviceFailed") in receiver.statuses())
            assert receiver.statuses()[0] == ("raised", "QrngdDeviceFailed")
            assert [line["level"] for line in pusher.events("alert raised")] == ["error"]
            assert len(pusher.events("alert over")) == 1
        first, last = receiver.taken[0].alerts[0], receiver.taken[-1].alerts[0]
        assert (first["instance"], first["device"], first["cause"], first["severity"]) == (server, "card", "E-DEV-LATCHED", "critical")
        assert (first["detail"], first["server"]) == ("window 9: stuck", "qr1xyz")
        assert first["started_ms"] < first["expires_ms"]
        assert first["ended_ms"] is None
        assert last["ended_ms"] > last["started_ms"] == first["started_ms"]
        assert json.loads(receiver.taken[0].body)["labels"] == {"site": "lab"}
        assert {each.path for each in receiver.posted} == {"/hook"}


@pytest.mark.parametrize("mode", ["500", "close", "redirect"])
def test_nothing_is_lost_while_a_webhook_is_unwell(tmp_path: Path, mode: str) -> None:
    shown: Pages = {"/v1/status": (200, FAILED)}
    with pages(shown) as server, Receiver(mode).serving() as receiver:
        with Pusher(tmp_path, watch(server) + webhook(receiver, path="/hook/secret-path")).running() as pusher:
            until(lambda: len(receiver.posted) >= 2)
            # Raised and over before it hears of anything: it hears of both.
            shown["/v1/status"] = (200, GOOD)
            until(lambda: pusher.events("alert over"))
            receiver.mode = "ok"
            until(lambda: receiver.statuses()[-1:] == [("resolved", "QrngdDeviceFailed")])
            # The first word of it may have been on its way when the webhook got well.
            assert [status for status, _ in receiver.statuses()] in (["resolved"], ["raised", "resolved"])
            assert receiver.taken[-1].alerts[0]["started_ms"] < receiver.taken[-1].alerts[0]["ended_ms"]
            until(lambda: pusher.events("push good again"))
            [line] = pusher.events("push")  # said once, not at every attempt
            assert (line["code"], line["receiver"], line["level"]) == ("E-ALERT-PUSH", "hook", "error")
        assert "secret-path" not in pusher.log_path.read_text()
        assert all(each.path == "/hook/secret-path" for each in receiver.posted)  # nobody followed the redirect


def test_a_webhook_that_hangs_holds_up_no_other_receiver(tmp_path: Path) -> None:
    with pages({"/v1/status": (200, FAILED)}) as server, Receiver("hang").serving() as slow, Receiver().serving() as quick:
        other = webhook(quick).replace('"hook"', '"quick"')
        with Pusher(tmp_path, watch(server) + webhook(slow) + other).running():
            until(lambda: quick.statuses() and slow.posted)
            assert slow.taken == []
            slow.mode = "ok"
            slow.over.set()
            until(lambda: slow.statuses() == [("raised", "QrngdDeviceFailed")])


def test_what_still_fires_is_told_again_after_a_restart(tmp_path: Path) -> None:
    with pages({"/v1/status": (200, FAILED)}) as server, Receiver().serving() as receiver:
        pusher = Pusher(tmp_path, watch(server) + webhook(receiver))
        for count in (1, 2):
            with pusher.running():
                until(lambda count=count: receiver.statuses() == [("raised", "QrngdDeviceFailed")] * count)


def test_a_server_that_is_silent_or_strange_is_an_alert(tmp_path: Path) -> None:
    gone = f"{host(9)}:{free_port(9)}"
    with garbled(b"SSH-2.0\r\n") as strange, pages({"/v1/status": (200, b'{"colour": "blue"}')}) as other, Receiver().serving() as receiver:
        with Pusher(tmp_path, watch(gone, strange, other) + webhook(receiver)).running():
            until(lambda: len(receiver.statuses()) == 3)
        found = {each["instance"]: each["cause"] for post in receiver.taken for each in post.alerts}
        assert found == {gone: "E-PEER-UNREACHABLE", strange: "E-PEER-UNREACHABLE", other: "E-PEER-VERSION"}
        assert {name for _, name in receiver.statuses()} == {"QrngdUnreachable"}


def test_token_and_signature_go_along_and_nowhere_else(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with pages({"/v1/status": (200, FAILED)}) as server, Receiver("500").serving(authority.server()) as receiver:
        config = webhook(receiver, "bearer = true", "sign = true", f'authority_file = "{authority.file}"')
        pusher = Pusher(tmp_path / "pusher", 'log_level = "debug"\n' + watch(server) + config, hook_bearer=TOKEN + b"\n", hook_sign=KEY)
        with pusher.running():
            until(lambda: receiver.posted)
            receiver.mode = "ok"
            until(lambda: receiver.taken)
        for posted in receiver.posted:
            assert posted.headers["Authorization"] == "Bearer " + TOKEN.decode()
            assert posted.headers["X-QuStream-Signature"] == "sha256=" + hmac.new(KEY, posted.body, hashlib.sha256).hexdigest()
            assert TOKEN not in posted.body
            assert KEY not in posted.body
        log = pusher.log_path.read_bytes()
        assert TOKEN not in log
        assert KEY not in log


def test_a_token_file_may_be_replaced_while_it_runs(tmp_path: Path) -> None:
    token = tmp_path / "token"

    def replace(text: str) -> None:
        token.with_suffix(".new").write_text(text)
        token.with_suffix(".new").chmod(0o600)
        token.with_suffix(".new").rename(token)

    replace("the-old-one\n")
    with pages({"/v1/status": (200, FAILED)}) as server, Receiver("401").serving() as receiver:
        with Pusher(tmp_path / "pusher", watch(server) + webhook(receiver, "renew_s = 1", f'bearer_file = "{token}"')).running():
            until(lambda: receiver.posted)
            replace("the-new-one\n")
            receiver.mode = "ok"
            until(lambda: any(each.headers["Authorization"] == "Bearer the-new-one" for each in receiver.taken))
        assert receiver.posted[0].headers["Authorization"] == "Bearer the-old-one"


def test_a_certificate_of_nobody_known_gets_neither_token_nor_alert(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with pages({"/v1/status": (200, FAILED)}) as server, Receiver().serving(authority.server()) as receiver:
        pusher = Pusher(tmp_path / "pusher", watch(server) + webhook(receiver, "bearer = true"), hook_bearer=TOKEN)
        with pusher.running():
            until(lambda: pusher.events("push"))
        assert receiver.posted == []
        assert "certificate" in pusher.events("push")[0]["detail"]


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ("bearer = true", "E-SECRET-MISSING", "hook.bearer"),
        ('sign_file = "open.key"', "E-KEYSTORE-MODE", "open.key"),
        ('bearer_file = "two.words"', "E-CONFIG", "token of receiver hook"),
        ('authority_file = "missing.pem"', "E-FILE", "missing.pem"),
        ("tokens = 5", "E-CONFIG", "tokens"),
        ('[[watch]]\nurl = "https://127.0.0.1:2"\nauthority_file = "missing.pem"', "E-FILE", "missing.pem"),
    ],
)
def test_what_a_receiver_needs_is_asked_for_at_the_start(tmp_path: Path, lines: str, code: str, words: str) -> None:
    (tmp_path / "open.key").write_bytes(KEY)
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "two.words").write_bytes(b"two\r\nwords")
    (tmp_path / "two.words").chmod(0o600)
    config = tmp_path / "alert.toml"
    config.write_text(watch("127.0.0.1:1") + f'[[receiver]]\nname = "hook"\nkind = "webhook"\nurl = "https://127.0.0.1:1"\n{lines}\n')
    environment = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    done = subprocess.run(
        [BIN / "qrngd", "alert", "--config", config], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, code in done.stderr, words in done.stderr) == (78, True, True), done.stderr


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager, pages({"/v1/status": (200, FAILED)}) as server:
        service_manager.bind(str(tmp_path / "notify"))
        service_manager.settimeout(PATIENCE_S)
        said: list[str] = []
        pusher = Pusher(tmp_path / "pusher", watch(server))
        with pusher.running(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000"):
            while not ({"READY=1", "STATUS=1 alerts"} <= set(said) and said.count("WATCHDOG=1") >= 3):
                said += service_manager.recv(4096).decode().splitlines()
        while "STOPPING=1" not in said:
            said += service_manager.recv(4096).decode().splitlines()


GONE = {"QrngdDeviceNotLive", "QrngdNotReady"}


def plug_in(recording: Path) -> None:
    """Whole or not at all; two minutes of an idle server's reading."""
    recording.with_suffix(".new").write_bytes(os.urandom(16 << 20))
    recording.with_suffix(".new").rename(recording)


def labels(manager: Alertmanager, name: str) -> dict[str, Any]:
    found: dict[str, Any] = manager.alerts().get(name, {}).get("labels", {})
    return found


@pytest.mark.needs("alertmanager")
def test_a_real_alertmanager_hears_of_a_real_device(tmp_path: Path) -> None:
    """The device is taken away and comes back; the Alertmanager is restarted meanwhile, and has forgotten everything."""
    recording = tmp_path / "recording"
    plug_in(recording)
    real = Server(tmp_path / "qrngd", device=f'kind = "chardev"\npath = "{recording}"\nmin_entropy_millibits = 7000', allow=[NODE])
    with Alertmanager(tmp_path / "manager").running() as manager, real.running() as server:
        told_by = Pusher(tmp_path / "pusher", watch(server.pages) + alertmanager(manager))
        with told_by.running() as pusher:
            until(lambda: server.status().ready)
            os.truncate(recording, 0)  # the daemon has it open
            recording.unlink()
            until(lambda: set(manager.alerts()) >= GONE)
            manager.stop()
            manager.start()
            until(lambda: "QrngdDeviceNotLive" in manager.alerts())
            alert = manager.alerts()["QrngdDeviceNotLive"]
            assert alert["labels"] == {
                "alertname": "QrngdDeviceNotLive", "severity": "warning", "code": "E-DEV-ABSENT", "job": "qrngd", "instance": server.pages,
                "device": "device",
            }  # fmt: skip
            assert alert["status"]["state"] == "active"
            assert alert["annotations"]["server"] == server.status().server
            assert "Remedy: " in alert["annotations"]["description"]
            plug_in(recording)
            until(lambda: len([line for line in pusher.events("alert over") if line["alert"] in GONE]) == 2)
            until(lambda: not GONE & set(manager.alerts()))
            assert server.status().ready


@pytest.mark.needs("alertmanager")
def test_a_real_alertmanager_forgets_what_nobody_tells_any_more(tmp_path: Path) -> None:
    with Alertmanager(tmp_path / "manager").running() as manager, pages({"/v1/status": (200, FAILED)}) as server:
        with Pusher(tmp_path / "pusher", watch(server) + alertmanager(manager)).running():
            until(lambda: labels(manager, "QrngdDeviceFailed").get("device") == "card")
        until(lambda: not manager.alerts())  # four seconds: four renewals of one second
