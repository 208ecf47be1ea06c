"""Asking about what may not be known."""

from __future__ import annotations

import pytest

from qustream.errors import QuStreamError, fault
from qustream.registry import if_known


def test_what_is_not_known_is_none_and_any_other_trouble_passes() -> None:
    def look(name: bytes) -> str:
        if name == b"known":
            return "found"
        raise fault("E-REGISTRY-UNKNOWN" if name == b"unknown" else "E-CHAIN-STALE")

    assert if_known(look, b"known") == "found"
    assert if_known(look, b"unknown") is None
    with pytest.raises(QuStreamError, match="E-CHAIN-STALE"):
        if_known(look, b"")
