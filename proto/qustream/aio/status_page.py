"""Reading a daemon's own pages from outside, for its commands (the daemon's end is `qustream.aio.http`). Blocking."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from qustream.errors import fault

__all__ = ["fetch", "page_address"]

PAGE_MAX_BYTES = 4 << 20  # the largest is the status of a QRNG server with 512 nodes, 150 KB; more is no daemon of ours
PAGE_TIMEOUT_S = 5.0  # a local daemon answers in milliseconds


def page_address(text: str) -> str | None:
    """`text` (`host:port`, with or without `http://`) as an address to which paths are added; None if it is no http address."""
    address = text.rstrip("/") if "://" in text else f"http://{text.rstrip('/')}"
    return address if address.startswith(("http://", "https://")) else None


def fetch(url: str) -> tuple[int, bytes]:
    """Status and body of a page; `url` begins as `page_address` makes it. Errors: `E-PEER-UNREACHABLE`."""
    try:
        with urllib.request.urlopen(url, timeout=PAGE_TIMEOUT_S) as answer:  # noqa: S310 - `page_address` checked the scheme
            return answer.status, answer.read(PAGE_MAX_BYTES)
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read(PAGE_MAX_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise fault("E-PEER-UNREACHABLE", f"no daemon answers at {url}: {getattr(error, 'reason', error)}") from None
