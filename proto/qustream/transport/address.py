"""Where a peer listens: `host:port`, `[v6]:port` or `unix:/path` (`proto/spec/transport.md`, "Addresses")."""

from __future__ import annotations

from dataclasses import dataclass

from qustream.errors import fault

__all__ = ["Address", "parse_address", "show_address"]

# The longest path a Unix socket takes on Linux, without the final zero.
UNIX_PATH_MAX_BYTES = 107
HOST_MAX_CHARS = 253


@dataclass(frozen=True)
class Address:
    """A TCP host (name or number) and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else show_address(self.host, self.port)


def show_address(host: str, port: int) -> str:
    """`host:port`, with brackets where the host has colons."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read an address. Errors: `E-PEER-UNREACHABLE`, for nothing can be reached under what is no address."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > UNIX_PATH_MAX_BYTES or "\0" in path:
            raise _not_an_address(text)
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _not_an_address(text)
    if not colon or not host or len(host) > HOST_MAX_CHARS or not host.isprintable() or " " in host:
        raise _not_an_address(text)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise _not_an_address(text)
    return Address(host=host, port=int(port))


def _not_an_address(text: str) -> Exception:
    shown = "".join(c if c.isprintable() else "?" for c in text[:80])
    return fault("E-PEER-UNREACHABLE", f"{shown!r} is not host:port, [v6]:port or unix:/path")
