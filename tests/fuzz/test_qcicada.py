"""The QCicada driver and a device that does anything wrong, in any order: only coded errors, and no byte out of place.

Whatever happens, all that is handed out are whole signed reads, from what the device drew, in its order, and none twice.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from support.emulated_line import MAKER, reading, served_line

from qrngd.device_config import DeviceConfig
from qrngd.devices.qcc_messages import Code
from qrngd.emulation.qcc_device import QccDevice
from qrngd.emulation.qcc_faults import QccFaults
from qustream.errors import QuStreamError

ALLOWED = {"E-DEV-READ", "E-DEV-STATUS", "E-DEV-IDENTITY", "E-DEV-CERTIFICATE"}
# Each ends a conversation that was begun; those that only cost time are left to the unit tests.
BEFORE = 3
READS = 12


def numbers(**keys: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(keys).map(lambda chosen: ",".join(f"{key}={value}" for key, value in chosen.items()))


def fault(kind: str, **keys: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    when = {"reads": st.integers(0, READS), "opens": st.integers(0, BEFORE), "times": st.integers(1, 2)}
    return numbers(**when, **keys).map(lambda text: f"{kind}@{text}")


faults = st.lists(
    st.one_of(
        fault("signature"),
        fault("replay"),
        fault("certificate"),
        fault("stubborn"),
        fault("serial", number=st.sampled_from([217, 218])),
        fault("status", bits=st.sampled_from([1, 4, 64, 128])),
        fault("refuse", command=st.sampled_from([0, *Code])),
        fault("garbage", command=st.just(Code.SIGNED_READ.value), size=st.integers(1, 20_000), seed=st.integers(0, 1 << 20)),
    ),
    min_size=1,
    max_size=5,
).map("+".join)


class Drawn:
    """Random bytes, all of them remembered."""

    def __init__(self) -> None:
        self.data = bytearray()

    def draw(self, most: int) -> bytes:
        chunk = os.urandom(most)
        self.data += chunk
        return chunk

    def return_after_vanishing(self, stop: Callable[[], bool]) -> None:
        raise AssertionError("nothing vanishes here")


@given(faults, st.lists(st.integers(1, 40_000), min_size=1, max_size=6))
@settings(max_examples=15)
def test_what_is_handed_out_was_drawn_and_signed(script: str, sizes: list[int]) -> None:
    drawn = Drawn()
    emulated = QccDevice(drawn.draw, MAKER, faults=QccFaults(script))
    delivered: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder, served_line(Path(folder) / "line", emulated, drawn):
        device = DeviceConfig(
            "qcicada",
            path=Path(folder) / "line",
            min_entropy_millibits=7000,
            serial="QC0000000217",
            device_authority=MAKER.authority.public.hex(),
        ).make()
        for _ in range(BEFORE + 1):
            refusal = None
            try:
                device.open()
                for size in sizes:
                    delivered.append(reading(device, size))
            except QuStreamError as error:
                refusal = error
            device.close()
            assert refusal is None or refusal.code in ALLOWED
    at = 0
    for piece in delivered:
        found = drawn.data.find(piece, at)
        assert found >= 0, "whole, and in the order in which it was drawn"
        at = found + len(piece)
