"""The script of a QCicada's faults: when they strike, how often, and what is refused."""

from __future__ import annotations

import pytest

from qrngd.emulation.qcc_faults import KINDS, QccFaults
from qustream.errors import QuStreamError


def test_a_fault_strikes_from_its_read_on_and_so_often() -> None:
    faults = QccFaults("signature@reads=2,times=2")
    faults.opens = 1
    struck = []
    for number in range(6):
        faults.reads += 1
        if faults.strike("signature"):
            struck.append(number)
    assert struck == [2, 3]


def test_a_fault_waits_for_its_opening() -> None:
    faults = QccFaults("serial@number=9,opens=2")
    struck = []
    for number in range(4):
        faults.opens += 1
        struck += [number] if faults.strike("serial") == {"reads": 0, "opens": 2, "times": 1 << 62, "number": 9} else []
    assert struck == [2, 3]


def test_a_fault_means_its_command() -> None:
    faults = QccFaults("refuse@command=81+refuse@command=11,times=2")
    faults.opens = 1
    assert not faults.strike("refuse", 1)
    assert faults.strike("refuse", 81)
    assert not faults.strike("refuse", 81)
    assert [bool(faults.strike("refuse", 11)) for _ in range(3)] == [True, True, False]


def test_every_kind_can_be_written_bare() -> None:
    faults = QccFaults("+".join(KINDS))
    faults.opens = faults.reads = 1
    assert all(faults.strike(kind) for kind in KINDS)


@pytest.mark.parametrize("script", ["signatures", "signature@bytes=1", "refuse@command=256", "serial@number=4294967296", "status@bits=0"])
def test_what_is_no_script_is_refused(script: str) -> None:
    with pytest.raises(QuStreamError) as caught:
        QccFaults(script)
    assert caught.value.code == "E-CONFIG"
