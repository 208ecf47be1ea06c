"""QuStream: one-time encryption keys made of quantum randomness, by a network no member of which can open anything alone.

    import qustream

    client = qustream.Client.from_home("~/.qustream")
    client.encrypt("report.pdf", "report.pdf.qs", to=["qu1..."])
    client.open("report.pdf.qs", "report.pdf")

Names are loaded when they are first used. Importing this package needs neither trio nor lmdb; `qustream.aio` is for trio programs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qustream.client.chain import ChainClient
    from qustream.client.client import Client
    from qustream.errors import OperatorFault, PeerFault, QuStreamError, Unavailable
    from qustream.identity.user import UserHome
    from qustream.identity.wallet import Wallet
    from qustream.registry import NetworkFileRegistry

__all__ = [
    "ChainClient",
    "Client",
    "NetworkFileRegistry",
    "OperatorFault",
    "PeerFault",
    "QuStreamError",
    "Unavailable",
    "UserHome",
    "Wallet",
    "__version__",
]

_HOMES = {
    "ChainClient": "qustream.client.chain",
    "Client": "qustream.client.client",
    "NetworkFileRegistry": "qustream.registry",
    "OperatorFault": "qustream.errors",
    "PeerFault": "qustream.errors",
    "QuStreamError": "qustream.errors",
    "Unavailable": "qustream.errors",
    "UserHome": "qustream.identity.user",
    "Wallet": "qustream.identity.wallet",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Loaded when it is asked for: it costs as much as everything else here together.
        from importlib import metadata

        return metadata.version("qustream")
    if name not in _HOMES:
        raise AttributeError(f"module 'qustream' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
