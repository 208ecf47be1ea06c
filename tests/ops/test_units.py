"""What holds of every service unit, as systemd sees it."""

from __future__ import annotations

import pytest
from support.units import DEPLOY, Unit

# The exposure that `systemd-analyze security` may find, 0 to 10.
EXPOSURE_MAX = {"qnode.service": 1.4, "qrngd.service": 0.8, "qrngd-alert.service": 1.5, "qrngd-reader.service": 1.2}
EVERYWHERE = {
    "Type": "notify",
    "Restart": "always",
    "RestartPreventExitStatus": "78",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "yes",
    "UMask": "0077",
    "ProtectSystem": "strict",
    "DevicePolicy": "closed",
    "SystemCallErrorNumber": "EPERM",
}

units = pytest.mark.parametrize("unit", [Unit(name) for name in EXPOSURE_MAX], ids=list(EXPOSURE_MAX))


def test_no_service_is_forgotten() -> None:
    assert {path.name for path in (DEPLOY / "systemd").glob("*.service")} == set(EXPOSURE_MAX)


@units
@pytest.mark.needs("systemd-analyze")
def test_it_is_hardly_exposed(unit: Unit) -> None:
    assert unit.exposure() <= EXPOSURE_MAX[unit.name]


@units
@pytest.mark.needs("systemd-analyze")
def test_it_has_no_setting_that_systemd_does_not_know(unit: Unit) -> None:
    assert unit.complaints() == []


@units
def test_it_ends_starts_and_is_shut_in_as_all_are(unit: Unit) -> None:
    assert {name: unit.settings(name) for name in EVERYWHERE} == {name: [value] for name, value in EVERYWHERE.items()}
