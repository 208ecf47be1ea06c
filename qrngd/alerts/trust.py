"""Which certificates hold on the other end of a connection."""

from __future__ import annotations

import ssl
from pathlib import Path

from qrngd.target import Target
from qustream.errors import fault

__all__ = ["trust_of"]


def trust_of(target: Target, authority_file: Path | None) -> ssl.SSLContext | None:
    """The standard's checks of name, time and chain, up to the system's authorities or those in `authority_file` alone. None: no TLS there.

    Raises E-FILE.
    """
    if target.scheme != "https":
        return None
    try:
        return ssl.create_default_context(cafile=authority_file)
    except OSError as error:
        raise fault("E-FILE", f"{authority_file}: {error.strerror or 'no certificate in it'}") from None
