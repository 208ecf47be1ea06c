"""Where an HTTP request goes: an address that a configuration names, in parts. Nothing in it is looked up or opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

__all__ = ["Target", "parse_target"]

URL_MAX_CHARS = 2048  # what every server takes (RFC 9110 §4.1 asks for 8,000, and many give less)
HOST_MAX_CHARS = 253  # of a name, RFC 1035 §2.3.4; each part of it has at most 63
_HOST = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,62})\.)*[a-z0-9_][a-z0-9_-]{0,62}\.?", re.ASCII)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """`host` is what a certificate must name; `path` has the query with it, and may hold a secret (chat services do that), so `str` shows
    the host alone."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def _name(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"{self._name}:{self.port}"

    @property
    def host_header(self) -> str:
        """The same as HTTP has it: without the port that the scheme implies."""
        return self._name if self.port == _PORTS[self.scheme] else self.authority

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return self.host in ("localhost", "::1") or (self.host.startswith("127.") and self.host.replace(".", "").isdigit())


def parse_target(url: str) -> Target:
    """Raises ValueError, saying what is wrong, if `url` is none that may be asked."""
    if len(url) > URL_MAX_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"a URL is printable ASCII without spaces, at most {URL_MAX_CHARS} characters")
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("a URL that begins with http:// or https:// and names a host is needed")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in a URL: a token has its own file or credential")
    if "#" in url:
        raise ValueError("a URL without # is needed")
    if ":" not in parts.hostname and (len(parts.hostname) > HOST_MAX_CHARS or not _HOST.fullmatch(parts.hostname)):
        raise ValueError("a host is a name of letters, digits and dashes between dots, or an address")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError("nobody listens at port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port, path)
