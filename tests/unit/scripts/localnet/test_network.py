"""The network file of a local network: users are entered side by side, and none is refused."""

from __future__ import annotations

import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qustream.errors import fault

SCRIPTS = Path(__file__).parents[4] / "scripts"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("localnet.network")


class Writer:
    """As `NetworkFileWriter`: it refuses to write over what it has not read."""

    version = 1

    def __init__(self) -> None:
        self._loaded = Writer.version

    def enrol(self, _enrolment: object) -> None:
        time.sleep(0.02)  # whoever comes beside has read the same version by then

    def write(self) -> int:
        if self._loaded != Writer.version:
            raise fault("E-REGISTRY-VERSION", "was changed since it was loaded")
        Writer.version += 1
        return Writer.version


def test_users_who_are_entered_side_by_side_wait_for_each_other(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "amend", lambda layout: Writer())
    monkeypatch.setattr(network, "decode_enrolment", lambda enrolment: enrolment)
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: network.enrol(None, b""), range(4)))
    assert sorted(versions) == [2, 3, 4, 5]
