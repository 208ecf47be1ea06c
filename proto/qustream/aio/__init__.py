"""QuStream for trio programs: `qustream.aio.AsyncClient`, and the connections and listeners the daemons are made of. Needs trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qustream.aio.client import AsyncClient

__all__ = ["AsyncClient"]


def __getattr__(name: str) -> Any:
    # Loaded when it is used: a daemon that wants a connection does not pay for the client.
    if name != "AsyncClient":
        raise AttributeError(f"module 'qustream.aio' has no attribute {name!r}")
    from qustream.aio.client import AsyncClient

    return AsyncClient
