"""Whoever alerts are posted to, played by a test over real HTTP(S) on loopback: as helpful or as hostile as the test wants it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["Posted", "Receiver"]


@dataclass(frozen=True)
class Posted:
    """One request that arrived whole."""

    path: str
    headers: dict[str, str]
    body: bytes
    mode: str

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Of a webhook's body."""
        found: list[dict[str, Any]] = json.loads(self.body)["alerts"]
        return found


@dataclass
class Receiver:
    """`mode`: ok, a status such as 500, redirect, close, hang, drip (a byte now and then), huge, garbage. May change meanwhile."""

    mode: str = "ok"
    posted: list[Posted] = field(default_factory=list)
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def taken(self) -> list[Posted]:
        """Those it said yes to."""
        return [each for each in self.posted if each.mode == "ok"]

    def statuses(self) -> list[tuple[str, str]]:
        """Status and name of every alert it said yes to, in order."""
        return [(alert["status"], alert["name"]) for each in self.taken for alert in each.alerts]

    @contextmanager
    def serving(self, certificate: Path | None = None) -> Iterator[Receiver]:
        """`certificate`: a file with key and certificate, for https."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[assignment] # a client that leaves is no news here
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        self.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer()

            def do_POST(self) -> None:
                self.answer()

            def answer(self) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                mode = receiver.mode
                receiver.posted.append(Posted(self.path, dict(self.headers.items()), body, mode))
                with suppress(OSError):
                    self.play(mode)

            def play(self, mode: str) -> None:
                if mode == "hang":
                    receiver.over.wait(60)
                elif mode == "garbage":
                    self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
                elif mode in ("drip", "huge"):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    while not receiver.over.wait(0.05 if mode == "drip" else 0):
                        self.wfile.write(b"x" if mode == "drip" else b"x" * 65_536)
                elif mode == "redirect":
                    self.send_response(302)
                    self.send_header("Location", f"{receiver.address}/elsewhere")
                    self.end_headers()
                elif mode != "close":
                    self.send_response(200 if mode == "ok" else int(mode))
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        return Handler
