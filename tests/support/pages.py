"""A server whose pages a test decides: what a command meets where a daemon's pages should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.places import host

__all__ = ["Pages", "garbled", "pages"]

Pages = dict[str, tuple[int, bytes]]


@contextmanager
def pages(shown: Pages) -> Iterator[str]:
    """A server with these pages; yields its address, at which nobody is afterwards. `shown` may change meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = shown.get(self.path, (404, b""))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((host(7), 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{host(7)}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def garbled(answer: bytes) -> Iterator[str]:
    """A server that answers one connection with `answer`, whatever it is asked; yields its address."""

    def serve() -> None:
        with listening.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(answer)

    with socket.create_server((host(7), 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{host(7)}:{listening.getsockname()[1]}"
        thread.join()
