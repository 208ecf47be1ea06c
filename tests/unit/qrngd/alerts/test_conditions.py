"""What is found in pictures."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.alert_pages import device, picture

from qrngd.alerts.conditions import CONDITIONS, Finding, ServerHistory, is_more_than_chance
from qrngd.alerts.picture import StatusPicture
from qrngd.status import StatusFlag
from qustream.errors import CODES

MINUTE = 60_000
HOUR = 60 * MINUTE


def found(*pictures: StatusPicture, every_ms: int = MINUTE) -> list[Finding]:
    """What is wrong in the last one."""
    history = ServerHistory()
    findings: list[Finding] = []
    for number, each in enumerate(pictures):
        findings = list(history.findings(each, number * every_ms))
    return findings


def names(*pictures: StatusPicture, every_ms: int = MINUTE) -> list[str]:
    return [each.condition.name for each in found(*pictures, every_ms=every_ms)]


def test_nothing_is_wrong_with_a_sound_server() -> None:
    assert names(picture()) == []
    assert names(*[picture(device(windows=1000 * n), wanted=3, attestations=n) for n in range(120)]) == []


@pytest.mark.parametrize(
    ("devices", "changes", "name", "code"),
    [
        ([device(state="failed", code="E-DEV-LATCHED")], {}, "QrngdDeviceFailed", "E-DEV-LATCHED"),
        ([device(state="absent", code="E-DEV-LOCKED")], {}, "QrngdDeviceNotLive", "E-DEV-LOCKED"),
        ([device(state="testing", code="")], {}, "QrngdDeviceNotLive", ""),
        ([device(state="suspect", code="E-OF-TOMORROW")], {}, "QrngdDeviceNotLive", ""),
        ([device(flags=(StatusFlag("initialised", True), StatusFlag("voltage_low", True)))], {}, "QrngdDeviceFlag", ""),
        ([device(min_entropy_estimate_millibits=4199)], {}, "QrngdDeviceMinEntropyLow", ""),
        ([], {"ready": False, "code": "E-DEV-ABSENT", "reason": "no device"}, "QrngdNotReady", "E-DEV-ABSENT"),
        ([], {"memory_locked": False}, "QrngdMemoryNotLocked", ""),
        ([], {"registry_trouble": "E-REGISTRY-VERSION: older"}, "QrngdRegistryTrouble", "E-REGISTRY-VERSION"),
        ([], {"leaf_log_trouble": "E-DISK-FULL: no space"}, "QrngdLeafLogTrouble", "E-DISK-FULL"),
        ([device(stock_bytes=262_397)], {"wanted": 1}, "QrngdStockEmpty", ""),
    ],
)
def test_one_picture_tells(devices: list[Any], changes: dict[str, Any], name: str, code: str) -> None:
    [finding] = found(picture(*devices, **changes))
    assert (finding.condition.name, finding.code) == (name, code)
    assert finding.detail
    assert finding.device == ("card" if name.startswith("QrngdDevice") else "")


@pytest.mark.parametrize(
    ("devices", "changes"),
    [
        ([device(min_entropy_estimate_millibits=4200)], {}),
        ([device(min_entropy_estimate_millibits=None)], {}),
        ([device(sample_bits=16, min_entropy_millibits=16_000, min_entropy_estimate_millibits=12_000)], {}),  # as a perfect one shows
        ([device(stock_bytes=0, rate_bps=0)], {}),  # nobody waits
        ([device(rate_bps=1)], {"wanted": 1}),  # it has stock
        ([device(rate_bps=1, stock_bytes=262_398)], {"wanted": 1}),  # one unit
        ([device(name="a", stock_bytes=200_000), device(name="b", stock_bytes=200_000)], {"wanted": 1}),
        ([device(flags=tuple(StatusFlag(n, True) for n in ("initialised", "startup_test", "module_0_present", "module_3_working")))], {}),
    ],
)
def test_one_picture_does_not_tell(devices: list[Any], changes: dict[str, Any]) -> None:
    assert names(picture(*devices, **changes)) == []


def test_a_slow_device_is_slow_only_while_nodes_wait_for_it() -> None:
    slow = device(stock_bytes=0, rate_bps=499_999)
    assert names(picture(slow, wanted=1)) == ["QrngdDeviceSlow", "QrngdStockEmpty"]
    assert names(picture(device(stock_bytes=0, rate_bps=500_000), wanted=1)) == ["QrngdStockEmpty"]
    assert names(picture(device(stock_bytes=0, rate_bps=1, nominal_rate_bps=0), wanted=1)) == ["QrngdStockEmpty"]


def test_more_windows_are_discarded_than_chance_explains() -> None:
    slow = [picture(device(windows=1000 + n, windows_discarded=50 + n // 2)) for n in range(7)]
    assert names(*slow[:6]) == []  # two in an hour
    assert names(*slow) == ["QrngdDeviceWindowsDiscarded"]  # three
    # An hour later they are history.
    assert names(*slow, *[slow[-1]] * 62) == []
    fast = [picture(device(windows=430_000 * n, windows_discarded=n // 6)) for n in range(61)]
    assert names(*fast) == []  # ten in an hour, of 25.8 million


def test_a_restart_of_the_server_is_no_alarm() -> None:
    before = picture(device(windows=10_000, windows_discarded=40, worker_restarts=9), attestations=900)
    after = picture(device(windows=1, windows_discarded=0, worker_restarts=0), attestations=0, started_ms=5, wanted=1)
    assert names(before, after) == []


def test_what_a_restarted_server_has_counted_is_all_new() -> None:
    before = picture(device(windows=10_000, windows_discarded=2))
    assert names(before, picture(device(windows=10_000, windows_discarded=3))) == []
    assert names(before, picture(device(windows=10_000, windows_discarded=3), started_ms=5)) == ["QrngdDeviceWindowsDiscarded"]


def test_a_worker_that_was_started_again_shows_for_a_quarter_of_an_hour() -> None:
    restarted = picture(device(worker_restarts=3))
    assert names(restarted) == []
    assert names(picture(device(worker_restarts=2)), restarted) == ["QrngdDeviceWorkerRestarted"]
    assert names(picture(device(worker_restarts=2)), *[restarted] * 18) == []
    other = picture(device(name="other", worker_restarts=3))
    assert names(picture(device(worker_restarts=2)), other) == []


def test_nothing_is_attested_though_nodes_wait() -> None:
    stuck = picture(wanted=2)
    assert names(*[stuck] * 10) == []
    assert names(*[stuck] * 11) == ["QrngdNoAttestations"]
    assert names(*[stuck] * 11, picture(wanted=2, attestations=5)) == []
    assert names(*[picture(wanted=0)] * 30) == []
    assert "QrngdNoAttestations" not in names(*[picture(wanted=2, ready=False)] * 30)


@given(st.integers(-3, 3), st.one_of(st.integers(0, 1 << 34), st.integers(0, 1 << 24)))
def test_chance_in_integers_is_chance_in_figures(beside: int, windows: int) -> None:
    mean = windows / (1 << 23)
    limit = 2 + mean + 5 * sqrt(mean)
    discarded = max(0, round(limit) + beside)
    if abs(discarded - limit) > 1e-6:
        assert is_more_than_chance(discarded, windows) == (discarded > limit)


def test_every_condition_is_told_in_known_words() -> None:
    assert len({each.name for each in CONDITIONS}) == len(CONDITIONS)
    for each in CONDITIONS:
        assert each.code in CODES
        assert each.summary
