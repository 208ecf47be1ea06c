"""The emulator: each fault does what its script says, however the stream is read, and the pipeline notices."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrngd.devices.emulator import Emulator
from qrngd.health.samples import Layout
from qrngd.health.state import DeviceState
from qrngd.pipeline import Conditioned, Pipeline
from qustream.errors import OperatorFault

WINDOW = 65_536
Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]


@contextmanager
def opened(script: str = "", sample_bits: int = 8) -> Iterator[Emulator]:
    with closing(Emulator(script, sample_bits=sample_bits)) as device:
        device.open()
        yield device


def read_all(device: Emulator, size: int, step: int = 1 << 20) -> Bytes:
    parts: list[bytes] = []
    while (missing := size - sum(map(len, parts))) > 0:
        parts.append(device.read(min(step, missing)))
    return np.frombuffer(b"".join(parts), dtype=np.uint8)


def raw_of(script: str, size: int, step: int = 1 << 20, sample_bits: int = 8) -> Bytes:
    with opened(script, sample_bits) as device:
        return read_all(device, size, step)


def test_it_says_what_it_is() -> None:
    with closing(Emulator("stuck+torn")) as device:
        descriptor = device.open()
    assert (descriptor.kind, descriptor.model, descriptor.serial) == ("emulator", "urandom", "stuck+torn")
    assert (descriptor.emulated, descriptor.conditioned, descriptor.source) == (True, True, "/dev/urandom")
    assert (descriptor.sample_bits, descriptor.min_entropy_millibits) == (8, 7000)
    with closing(Emulator(sample_bits=1)) as device:
        assert device.open().min_entropy_millibits == 875
    with closing(Emulator("+".join(["correlated"] * 16))) as device:
        assert len(device.open().serial) == 64


def test_without_faults_bytes_come_and_differ() -> None:
    with opened() as device:
        first, second = device.read(4096), device.read(4096)
        assert len(first) == 4096
        assert first != second
        assert len(device.read(100_000_000)) == 4 << 20, "one read is bounded"


def test_stuck_from_its_byte_on() -> None:
    raw = raw_of("stuck@bytes=1000,length=500,value=85", 4000, step=333)
    assert (raw[1000:1500] == 85).all()
    assert (raw[:1000] == 85).sum() < 50
    assert (raw[1500:] == 85).sum() < 50


def test_biased_bytes_are_the_same_for_a_seed_however_they_are_read() -> None:
    def hit(script: str, step: int) -> set[int]:
        return set(np.flatnonzero(raw_of(script, 200_000, step) == 0).tolist())

    script = "biased@bytes=100,permille=300,seed=5"
    sure = hit(script, 1 << 20) & hit(script, 1 << 20)  # a byte is 0 by chance in both once in 65,536
    assert 0.27 < len(sure) / 200_000 < 0.33
    assert len(sure - hit(script, 777)) < 20
    assert len(sure & hit("biased@bytes=100,permille=300,seed=6", 1 << 20)) < 0.4 * len(sure)


@settings(max_examples=15)
@given(lag=st.integers(1, 200), start=st.integers(0, 500), step=st.integers(7, 3000))
def test_correlated_bytes_repeat_what_stands_a_lag_before(lag: int, start: int, step: int) -> None:
    raw = raw_of(f"correlated@bytes={start},lag={lag},permille=1000", 3000, step)
    start = max(start, lag)
    assert (raw[start:] == raw[start - lag : -lag]).all()


def test_correlated_by_chance() -> None:
    raw = raw_of("correlated@lag=3,permille=250,seed=1", 100_000, step=5000)
    assert 0.24 < (raw[3:] == raw[:-3]).mean() < 0.27
    assert (raw[1:] == raw[:-1]).mean() < 0.01


def test_torn_reads_are_short_and_lose_nothing() -> None:
    with opened("torn@most=100,length=5000+stuck@value=7") as device:
        sizes = [len(device.read(4096)) for _ in range(40)]
    assert all(1 <= size <= 100 for size in sizes)
    assert len(set(sizes)) > 5
    with opened("torn@most=100,length=5000") as again:
        assert [len(again.read(4096)) for _ in range(40)] == sizes


def test_slow_gives_its_rate() -> None:
    now = [0]
    with closing(Emulator("slow@bytes=1000,rate=50000,length=2000", clock_ms=lambda: now[0])) as device:
        device.open()
        assert len(device.read(4096)) == 1000
        assert device.read(4096) == b""
        assert device.retry_after_ms > 0
        now[0] += 10
        assert len(device.read(4096)) == 500
        assert device.read(4096) == b""
        now[0] += 1000
        assert len(device.read(4096)) == 1500
        assert len(device.read(4096)) == 4096


def test_vanish_and_return() -> None:
    with opened("vanish@bytes=1000,opens=2+stuck@bytes=1100,value=9") as device:
        assert len(device.read(4096)) == 1000
        with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
            device.read(4096)
        for _ in range(2):
            with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
                device.open()
        device.open()
        raw = np.frombuffer(device.read(200), dtype=np.uint8)
        assert (raw[100:] == 9).all()
        assert (raw[:100] != 9).any()
        device.close()


def test_swapped_is_another_device_after_the_next_open() -> None:
    with opened("swapped@bytes=1000,opens=1+swapped@bytes=2000") as device:
        assert len(device.read(4096)) == 1000
        with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
            device.read(4096)
        with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
            device.open()
        assert device.open().serial == "2/swapped+swapped"
        assert len(device.read(4096)) == 1000
        with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
            device.read(4096)
        assert device.open().serial == "3/swapped+swapped"
        assert len(device.read(4096)) == 4096


def test_swapped_is_refused_where_a_serial_is_configured() -> None:
    device = Emulator("swapped@bytes=10", serial="A-1")
    assert device.open().serial == "A-1"
    device.read(10)
    with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
        device.read(10)
    for _ in range(2):
        with pytest.raises(OperatorFault, match="E-DEV-IDENTITY"):
            device.open()


def test_dead_is_silent_until_it_has_been_opened_again() -> None:
    with opened("dead@bytes=1000,opens=2") as device:
        assert len(device.read(4096)) == 1000
        for _ in range(2):
            assert [device.read(4096) for _ in range(3)] == [b""] * 3
            device.close()
            device.open()
        assert len(device.read(4096)) == 4096
    with opened("dead") as dead:
        for _ in range(5):
            assert dead.read(4096) == b""
            dead.close()
            dead.open()


@pytest.mark.parametrize("sample_bits", [0, 17])
def test_widths_that_no_device_has_are_refused(sample_bits: int) -> None:
    with pytest.raises(OperatorFault, match="E-CONFIG"):
        Emulator(sample_bits=sample_bits)


@pytest.mark.parametrize(("sample_bits", "most"), [(1, 255), (2, 3), (7, 127), (8, 255), (9, 511), (16, 65_535)])
def test_a_value_that_is_no_cell_is_refused(sample_bits: int, most: int) -> None:
    Emulator(f"stuck@value={most}", sample_bits=sample_bits)
    if most < 65_535:
        with pytest.raises(OperatorFault, match="E-CONFIG"):
            Emulator(f"stuck+biased@value={most + 1}", sample_bits=sample_bits)


WIDTHS = range(1, 17)


def cells_of(raw: Bytes, sample_bits: int) -> Bytes | np.ndarray[tuple[int], np.dtype[np.uint16]]:
    return raw if sample_bits <= 8 else raw.view("<u2")


@pytest.mark.parametrize("sample_bits", WIDTHS)
def test_samples_of_every_width_use_all_of_it_and_nothing_above(sample_bits: int) -> None:
    cells = cells_of(raw_of("torn@most=999", 40_000, sample_bits=sample_bits), sample_bits)
    used = int(np.bitwise_or.reduce(cells))
    assert used == (0xFF if sample_bits == 1 else (1 << sample_bits) - 1)


@pytest.mark.parametrize("sample_bits", WIDTHS)
def test_faults_hit_cells_of_every_width_wherever_reads_cut(sample_bits: int) -> None:
    value = 1 if sample_bits == 2 else 5
    script = f"stuck@bytes=2000,length=1000,value={value}+correlated@bytes=5000,lag=3,permille=1000+torn@most=77"
    cells = cells_of(raw_of(script, 8000, sample_bits=sample_bits), sample_bits)
    size = cells.itemsize
    assert (cells[2000 // size : 3000 // size] == value).all()
    assert (cells[: 2000 // size] == value).mean() < 0.5
    sick = cells[5000 // size :]
    assert (sick[3:] == sick[:-3]).all()
    assert int(cells.max()).bit_length() <= max(sample_bits, 8 if sample_bits == 1 else 0)


@pytest.mark.parametrize("start", [1001, 1002])
def test_a_fault_begins_and_ends_between_two_samples(start: int) -> None:
    raw = raw_of(f"stuck@bytes={start},length=1000,value=2748", 4000, sample_bits=12)
    assert (raw.view("<u2")[501:1001] == 2748).all()
    assert (raw.view("<u2")[:501] == 2748).sum() + (raw.view("<u2")[1001:] == 2748).sum() < 12


@settings(max_examples=10)
@given(steps=st.lists(st.integers(1, 50), min_size=1, max_size=20), sample_bits=st.sampled_from([1, 5, 8, 12, 16]))
def test_chances_fall_on_the_same_cells_however_reads_cut(steps: list[int], sample_bits: int) -> None:
    def hit(sizes: list[int]) -> set[int]:
        raw = b""
        with opened("biased@bytes=100,permille=400,seed=3,value=3", sample_bits) as device:
            while len(raw) < 3000:
                raw += device.read(min(sizes[len(raw) % len(sizes)], 3000 - len(raw)))
        return set(np.flatnonzero(cells_of(np.frombuffer(raw, dtype=np.uint8), sample_bits) == 3).tolist())

    sure = set(range(3000))
    for _ in range(8):  # a cell that is 3 by chance is not so eight times
        sure &= hit(steps) & hit([3000])
    whole = set(range(3000))
    for _ in range(16):
        whole &= hit([3000])
    assert sure == whole


@pytest.mark.parametrize("sample_bits", [8, 12])
def test_a_device_that_comes_back_begins_with_a_whole_sample(sample_bits: int) -> None:
    with opened("vanish@bytes=1001+stuck@bytes=1002,value=11", sample_bits) as device:
        assert len(device.read(4096)) == 1001
        with pytest.raises(OperatorFault, match="E-DEV-ABSENT"):
            device.read(4096)
        device.open()
        raw = read_all(device, 100)
    assert (cells_of(raw, sample_bits)[1:] == 11).all()
    assert len(set(raw.tolist()) - {0, 11}) <= 1


def run_through_pipeline(script: str, size: int, sample_bits: int = 8) -> Pipeline:
    with closing(Emulator(script, sample_bits=sample_bits)) as device:
        descriptor = device.open()
        pipeline = Pipeline(descriptor, draw=ssl.RAND_bytes, reseed=lambda seed: ssl.RAND_add(seed, 0.0))
        pipeline.opened(descriptor)
        place = delivered = 0
        while place < size and pipeline.state is not DeviceState.FAILED:
            raw = device.read(size - place)
            place += len(raw)
            delivered += sum(len(event.data) for event in pipeline.feed(raw) if isinstance(event, Conditioned))
    assert delivered == pipeline.measured.conditioned_bytes
    assert 8 * (delivered + pipeline.measured.seed_bytes) == pipeline.measured.credited_bits
    return pipeline


# Each from the middle of window 5 on; the window after it is full of the fault and must fail at the latest.
@pytest.mark.parametrize(
    "script",
    [
        "stuck@bytes=350000",
        "stuck@bytes=350000,value=170+torn@most=9999",
        "biased@bytes=350000,permille=150",
        "correlated@bytes=350000,permille=250",
        "correlated@bytes=350000,permille=500,lag=64",
        "correlated@bytes=350000,permille=1000,lag=128",
    ],
)
def test_a_fault_is_found_in_the_first_window_it_fills_and_nothing_of_it_is_credited(script: str) -> None:
    pipeline = run_through_pipeline(script, 40 * WINDOW)
    assert pipeline.state is DeviceState.FAILED
    assert pipeline.code == "E-DEV-LATCHED"
    assert pipeline.measured.windows_passed in (4, 5), "windows 1 to 4, and 5 if the fault's half of it was too short"
    assert pipeline.measured.windows_startup == 1


def test_stuck_is_found_in_the_window_in_which_it_begins() -> None:
    assert run_through_pipeline("stuck@bytes=350000", 40 * WINDOW).measured.windows_passed == 4


@pytest.mark.parametrize("sample_bits", WIDTHS)
def test_a_sound_stream_in_torn_reads_passes(sample_bits: int) -> None:
    pipeline = run_through_pipeline("torn@most=30000", 5 * 131_072, sample_bits)
    assert pipeline.state is DeviceState.LIVE
    assert pipeline.measured.windows_discarded == 0
    assert pipeline.measured.windows_passed == 5 * 131_072 // pipeline.layout.window_bytes - 1


@pytest.mark.parametrize("sample_bits", WIDTHS)
@pytest.mark.parametrize("kind", ["stuck@value=1", "biased@permille=600", "correlated@permille=900"])
def test_a_gross_fault_of_every_width_is_found_in_the_first_window_it_fills(kind: str, sample_bits: int) -> None:
    window = Layout(sample_bits).window_bytes
    script = kind.replace("@", f"@bytes={3 * window},")
    pipeline = run_through_pipeline(script, 8 * window, sample_bits)
    assert (pipeline.state, pipeline.code) == (DeviceState.FAILED, "E-DEV-LATCHED")
    assert pipeline.measured.windows_passed == 2, "window 0 is the start-up test, and window 3 is the sick one"
