"""The pipeline: what goes out, what never does, and that cuts and faults change neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from qrngd.conditioning.cbcmac import conditioning_key
from qrngd.health.state import DeviceState, StateChanged
from qrngd.health.verdict import Grade
from qrngd.pipeline import RESEED_INTERVAL_BYTES, SEED_BYTES, Conditioned, Event, Measurement, Pipeline, WindowDiscarded
from qustream.errors import OperatorFault
from qustream.model.entropy import DeviceDescriptor

WINDOW = 65_536


class Drbg:
    """A deterministic stand-in for the DRBG of a shell: SHAKE-256 of everything mixed in so far, and a log of what was asked."""

    def __init__(self) -> None:
        self.state = b""
        self.drawn: list[int] = []
        self.seeds: list[bytes] = []

    def reseed(self, seed: bytes) -> None:
        self.seeds.append(seed)
        self.state = hashlib.sha256(self.state + seed).digest()

    def draw(self, size: int) -> bytes:
        assert self.seeds, "drawn before the device seeded it"
        self.drawn.append(size)
        self.state = hashlib.sha256(self.state).digest()
        return hashlib.shake_256(self.state).digest(size)


def lamp(width: int = 8, millibits: int = 8000, source: str = "") -> DeviceDescriptor:
    return DeviceDescriptor(
        kind="chardev",
        model="lamp",
        serial="1",
        sample_bits=width,
        min_entropy_millibits=millibits,
        nominal_rate_bps=0,
        conditioned=False,
        emulated=False,
        source=source,
    )


def opened(drbg: Drbg | None = None, device: DeviceDescriptor | None = None) -> Pipeline:
    drbg, device = drbg or Drbg(), device or lamp()
    pipeline = Pipeline(device, draw=drbg.draw, reseed=drbg.reseed)
    pipeline.opened(device)
    return pipeline


def good(seed: int, windows: int) -> bytes:
    return np.random.default_rng(seed).bytes(windows * WINDOW)


def zeros_instead_of_pads(size: int) -> bytes:
    return bytes(size)


def output(events: list[Event]) -> bytes:
    return b"".join(bytes(event.data) for event in events if isinstance(event, Conditioned))


def changes(events: list[Event]) -> list[DeviceState]:
    return [event.after for event in events if isinstance(event, StateChanged)]


def macs(raw: bytes) -> bytes:
    """One CBC-MAC for each 32 bytes."""
    result = []
    for at in range(0, len(raw), 32):
        encryptor = Cipher(algorithms.AES256(conditioning_key()), modes.CBC(bytes(16))).encryptor()
        result.append(encryptor.update(raw[at : at + 32])[16:])
    return b"".join(result)


def test_output_is_the_macs_of_the_windows_after_the_start_up_test_and_seeds_are_consumed() -> None:
    raw, drbg = good(1, 3), Drbg()
    pipeline = Pipeline(lamp(), draw=zeros_instead_of_pads, reseed=drbg.reseed)
    pipeline.opened(lamp())
    events = pipeline.feed(raw)
    expected = macs(raw[WINDOW:])
    assert output(events) + b"".join(drbg.seeds) == expected
    assert {len(seed) for seed in drbg.seeds} == {SEED_BYTES}
    assert changes(events) == [DeviceState.LIVE]
    assert len(expected) == 65_536


def test_output_is_masked_by_the_drbg_and_no_pad_is_longer_than_the_interval() -> None:
    raw, drbg = good(2, 17), Drbg()
    data = output(opened(drbg).feed(raw))
    assert sum(drbg.drawn) == len(data)
    assert max(drbg.drawn) == RESEED_INTERVAL_BYTES
    assert len(drbg.seeds) == len(drbg.drawn)
    plain = np.frombuffer(macs(raw[WINDOW : 2 * WINDOW])[:1000], dtype=np.uint8)
    assert (np.frombuffer(data[:1000], dtype=np.uint8) != plain).sum() > 900


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3 * WINDOW), max_size=8), st.booleans())
def test_the_cut_changes_no_verdict_and_no_state(cuts: list[int], faulty: bool) -> None:
    raw = bytearray(good(3, 6))
    if faulty:
        raw[2 * WINDOW - 3 : 2 * WINDOW + 3] = bytes(6)  # a run of six across a window's edge
    whole, cut = opened(), opened()
    all_events = whole.feed(raw)
    cut_events: list[Event] = []
    done = 0
    for size in [*cuts, len(raw)]:
        cut_events += cut.feed(memoryview(raw)[done : done + size])
        done += size
    for kind in (StateChanged, WindowDiscarded):
        assert [e for e in cut_events if isinstance(e, kind)] == [e for e in all_events if isinstance(e, kind)]
    for name in ("samples", "windows", "windows_passed", "windows_discarded", "windows_startup", "alarms", "credited_bits"):
        assert getattr(cut.measured, name) == getattr(whole.measured, name)
    assert cut.state is whole.state is DeviceState.LIVE
    assert whole.measured.windows_discarded == faulty


def test_an_intermittent_window_is_discarded_and_the_next_only_tested() -> None:
    raw = bytearray(good(4, 6))
    raw[2 * WINDOW + 50 : 2 * WINDOW + 56] = bytes(6)
    drbg = Drbg()
    pipeline = Pipeline(lamp(), draw=zeros_instead_of_pads, reseed=drbg.reseed)
    pipeline.opened(lamp())
    events = pipeline.feed(raw)
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["StateChanged", "Conditioned", "WindowDiscarded", "StateChanged", "StateChanged", "Conditioned"]
    spans = [(event.first_window, event.last_window) for event in events if isinstance(event, Conditioned)]
    assert spans == [(1, 1), (4, 5)]
    taken = output(events) + b"".join(drbg.seeds)
    expected = macs(raw[WINDOW : 2 * WINDOW]) + macs(raw[4 * WINDOW :])
    assert sorted(taken) == sorted(expected), "nothing of window 2 (failed) or 3 (the new start-up test)"
    assert pipeline.measured == Measurement(
        samples=6 * WINDOW,
        windows=6,
        windows_passed=3,
        windows_discarded=1,
        windows_startup=2,
        alarms=(1, 0, 0),
        conditioned_bytes=len(output(events)),
        seed_bytes=48 * len(drbg.seeds),
        credited_bits=3 * 2048 * 128,
    )


def test_nothing_is_credited_that_did_not_pass_and_all_that_was_credited_is_accounted_for() -> None:
    pipeline = opened()
    rng = np.random.default_rng(5)
    for number in range(12):
        raw = bytearray(rng.bytes(WINDOW))
        if number % 4 == 3:
            raw[100:106] = bytes(6)
        pipeline.feed(raw)
    measured = pipeline.measured
    assert measured.credited_bits == 128 * 2048 * measured.windows_passed
    assert 8 * (measured.conditioned_bytes + measured.seed_bytes) == measured.credited_bits
    assert measured.windows == 12 == measured.windows_passed + measured.windows_discarded + measured.windows_startup


def test_a_permanent_failure_latches_in_the_middle_of_a_buffer() -> None:
    raw = bytearray(good(6, 8))
    raw[3 * WINDOW + 7 : 3 * WINDOW + 16] = bytes(9)
    pipeline = opened()
    events = pipeline.feed(raw)
    assert isinstance(events[-1], StateChanged)
    assert (events[-1].after, events[-1].code) == (DeviceState.FAILED, "E-DEV-LATCHED")
    assert pipeline.measured.windows_passed == 2
    with pytest.raises(OperatorFault) as caught:
        pipeline.feed(good(7, 1))
    assert caught.value.code == "E-DEV-LATCHED"
    assert pipeline.lost("E-DEV-ABSENT", "pulled out") == []
    assert pipeline.state is DeviceState.FAILED


def test_a_dead_device_never_delivers() -> None:
    for constant in (b"\0", b"\xff"):
        pipeline = opened()
        events = pipeline.feed(constant * (4 * WINDOW))
        assert output(events) == b""
        assert pipeline.state is DeviceState.FAILED
        assert pipeline.measured.credited_bits == 0


def test_what_was_read_before_a_loss_is_not_joined_to_what_comes_after() -> None:
    raw = good(9, 4)
    pipeline = opened()
    pipeline.feed(raw[: WINDOW + 1000])
    events = pipeline.lost("E-DEV-READ", "torn cable")
    assert changes(events) == [DeviceState.ABSENT]
    assert (pipeline.code, pipeline.reason) == ("E-DEV-READ", "torn cable")
    assert changes(pipeline.opened(lamp(source="virtio_rng.1"))) == [DeviceState.TESTING]
    assert pipeline.descriptor.source == "virtio_rng.1"
    assert pipeline.feed(raw[: WINDOW - 1]) == []
    assert changes(pipeline.feed(raw[WINDOW - 1 : WINDOW])) == [DeviceState.LIVE]


def test_a_failure_of_an_earlier_run_stays_until_it_is_cleared_and_then_a_whole_window_is_tested() -> None:
    drbg = Drbg()
    pipeline = Pipeline(lamp(), draw=drbg.draw, reseed=drbg.reseed, latched=("E-DEV-LATCHED", "it was stuck"))
    assert (pipeline.state, pipeline.code, pipeline.reason) == (DeviceState.FAILED, "E-DEV-LATCHED", "it was stuck")
    with pytest.raises(OperatorFault, match="it was stuck"):
        pipeline.feed(good(20, 1))
    assert pipeline.retest("to see") == []
    assert changes(pipeline.clear("mirror cleaned")) == [DeviceState.STARTING]
    assert "mirror cleaned" in pipeline.reason
    assert pipeline.clear("again") == []
    assert changes(pipeline.opened(lamp())) == [DeviceState.TESTING]
    events = pipeline.feed(good(21, 1))
    assert (output(events), changes(events)) == (b"", [DeviceState.LIVE])


def test_a_failure_in_the_middle_of_a_window_can_be_cleared() -> None:
    pipeline = opened()
    pipeline.feed(good(22, 1) + bytes(WINDOW) + b"left over")
    assert pipeline.state is DeviceState.FAILED
    pipeline.clear("examined")
    pipeline.opened(lamp())
    events = pipeline.feed(good(23, 2))
    assert changes(events) == [DeviceState.LIVE]
    assert [(event.first_window, event.last_window) for event in events if isinstance(event, Conditioned)] == [(3, 3)]
    assert pipeline.measured.windows == 4


def test_windows_are_numbered_as_they_are_counted_whatever_stood_behind_one_that_failed() -> None:
    pipeline = opened()
    pipeline.feed(good(27, 1) + bytes(WINDOW) + good(28, 3))
    assert (pipeline.state, pipeline.measured.windows) == (DeviceState.FAILED, 2)
    pipeline.clear("examined")
    pipeline.opened(lamp())
    events = pipeline.feed(good(29, 2))
    assert [(event.first_window, event.last_window) for event in events if isinstance(event, Conditioned)] == [(3, 3)]


def test_a_test_on_demand_throws_the_unfinished_window_away_and_uses_up_a_whole_one() -> None:
    raw, drbg = good(24, 4), Drbg()
    pipeline = Pipeline(lamp(), draw=zeros_instead_of_pads, reseed=drbg.reseed)
    assert pipeline.retest("too early") == []
    pipeline.opened(lamp())
    assert pipeline.retest("too early") == []
    pipeline.feed(raw[: WINDOW + 1000])
    before = pipeline.measured
    assert changes(pipeline.retest("monthly")) == [DeviceState.TESTING]
    assert "monthly" in pipeline.reason
    assert pipeline.feed(raw[2 * WINDOW : 3 * WINDOW - 1]) == []
    events = pipeline.feed(raw[3 * WINDOW - 1 :])
    assert changes(events) == [DeviceState.LIVE]
    assert output(events) + b"".join(drbg.seeds) == macs(raw[3 * WINDOW :])
    since = pipeline.measured.since(before)
    assert (since.windows, since.windows_startup, since.windows_passed) == (2, 1, 1)


@pytest.mark.parametrize("fed", [0, 1, 2, 1001])
def test_a_test_on_demand_does_not_cut_a_sample_of_two_bytes(fed: int) -> None:
    device = lamp(12, 11_000)
    pipeline = opened(device=device)
    samples = np.random.default_rng(25).integers(0, 1 << 12, 3 * pipeline.layout.window_samples, dtype=np.uint16)
    raw, window = samples.astype("<u2").tobytes(), pipeline.layout.window_bytes
    pipeline.feed(raw[: window + fed])
    pipeline.retest("in the middle of a sample")
    events = pipeline.feed(raw[window + fed :])  # halves exchanged would be wider than 12 bits: E-DEV-READ
    assert changes(events) == [DeviceState.LIVE]


def test_feeding_a_device_that_is_not_open_is_our_own_bug() -> None:
    drbg = Drbg()
    pipeline = Pipeline(lamp(), draw=drbg.draw, reseed=drbg.reseed)
    with pytest.raises(AssertionError):
        pipeline.feed(b"x")
    pipeline.opened(lamp())
    pipeline.lost("E-DEV-ABSENT", "gone")
    with pytest.raises(AssertionError):
        pipeline.feed(b"x")


@pytest.mark.parametrize(
    ("width", "millibits", "assessed", "lane", "per_bit"),
    [(8, 8000, None, 32, 1000), (8, 8000, 4000, 48, 500), (8, 6000, 7000, 32, 750), (1, 900, None, 32, 900), (12, 9000, None, 48, 562)],
)
def test_the_smaller_of_claim_and_assessment_counts(width: int, millibits: int, assessed: int | None, lane: int, per_bit: int) -> None:
    drbg = Drbg()
    pipeline = Pipeline(lamp(width, millibits), draw=drbg.draw, reseed=drbg.reseed, assessed_min_entropy_millibits=assessed)
    report = pipeline.conditioning_report()
    assert (report.raw_bytes, report.out_bytes, report.min_entropy_millibits_per_bit) == (lane, 16, per_bit)
    assert pipeline.min_entropy_millibits == min(millibits, assessed or millibits)


@pytest.mark.parametrize("width", [1, 4, 12])
def test_other_widths_go_through(width: int) -> None:
    device = lamp(width, 1000 * width)
    pipeline = opened(device=device)
    size = pipeline.layout.window_bytes
    raw = np.frombuffer(np.random.default_rng(width).bytes(3 * size), dtype=np.uint8).copy()
    if width == 4:
        raw &= 0x0F
    if width == 12:
        raw[1::2] &= 0x0F
    data = output(pipeline.feed(raw.tobytes()))
    lane = pipeline.conditioning_report().raw_bytes
    assert len(data) + pipeline.measured.seed_bytes == 2 * (size // lane) * 16


def test_a_sample_wider_than_configured_is_the_devices_fault() -> None:
    with pytest.raises(OperatorFault) as caught:
        opened(device=lamp(4, 4000)).feed(b"\x10" * WINDOW)
    assert caught.value.code == "E-DEV-READ"


def test_what_came_before_a_sample_that_is_too_wide_is_told_first() -> None:
    pipeline = opened(device=lamp(4, 4000))
    narrow = (np.frombuffer(good(26, 1), dtype=np.uint8) & 0x0F).tobytes()
    pipeline.feed(narrow[:-1])
    assert changes(pipeline.feed(narrow[-1:] + b"\x10" * WINDOW)) == [DeviceState.LIVE]
    with pytest.raises(OperatorFault, match="E-DEV-READ"):
        pipeline.feed(narrow)
    assert changes(pipeline.lost("E-DEV-READ", "too wide")) == [DeviceState.ABSENT]
    pipeline.opened(lamp(4, 4000))
    assert changes(pipeline.feed(narrow)) == [DeviceState.LIVE]


def test_reports_say_what_was_measured_between_two_moments() -> None:
    pipeline = opened()
    pipeline.feed(good(10, 2))
    before = pipeline.measured
    raw = bytearray(good(11, 3))
    raw[:6] = bytes(6)
    pipeline.feed(raw)
    report = pipeline.health_report(pipeline.measured.since(before))
    assert (report.samples, report.windows, report.windows_failed) == (3 * WINDOW, 3, 1)
    assert (report.rct_cutoff, report.apt_cutoff, report.apt_window, report.alpha_exponents) == (6, 19, 512, (40, 60))


def test_a_chunk_says_what_stands_behind_it_and_shows_none_of_it() -> None:
    pipeline = opened()
    chunk = next(event for event in pipeline.feed(good(12, 3)) if isinstance(event, Conditioned))
    assert chunk.measured == pipeline.measured
    assert repr(chunk) == f"Conditioned({len(chunk.data)} bytes, windows 1-2)"
    chunk.data[:] = bytes(len(chunk.data))
    assert not any(chunk.data)


def test_min_entropy_is_estimated_when_asked_for_and_forgotten_when_another_device_may_answer() -> None:
    pipeline = opened()
    pipeline.feed(good(30, 2))
    assert pipeline.min_entropy_estimate_millibits is None
    pipeline.estimate_next()
    pipeline.feed(good(31, 1))
    perfect = pipeline.min_entropy_estimate_millibits
    assert perfect is not None
    assert 7400 < perfect < 7700
    narrow = np.frombuffer(good(32, 1), dtype=np.uint8) & 0x7F
    pipeline.feed(narrow.tobytes())
    assert pipeline.min_entropy_estimate_millibits == perfect, "once for each time it is asked for"
    pipeline.estimate_next()
    pipeline.feed(narrow.tobytes())
    assert pipeline.min_entropy_estimate_millibits is not None
    assert 6500 < pipeline.min_entropy_estimate_millibits < 6900
    pipeline.lost("E-DEV-ABSENT", "pulled out")
    pipeline.opened(lamp())
    assert pipeline.min_entropy_estimate_millibits is None


def test_a_window_that_fails_is_not_estimated() -> None:
    pipeline = opened()
    pipeline.feed(good(33, 1))
    pipeline.estimate_next()
    raw = bytearray(good(34, 1))
    raw[50:56] = bytes(6)
    pipeline.feed(raw)
    assert pipeline.min_entropy_estimate_millibits is None
    pipeline.feed(good(35, 2))
    assert pipeline.min_entropy_estimate_millibits is not None


def test_chunks_handed_out_are_not_touched_again() -> None:
    pipeline = opened()
    first = next(event for event in pipeline.feed(good(13, 2)) if isinstance(event, Conditioned))
    copy = bytes(first.data)
    pipeline.feed(good(14, 20))
    pipeline.wipe()
    assert bytes(first.data) == copy


FAULTS: dict[str, Callable[[np.random.Generator, np.ndarray[tuple[int], np.dtype[np.uint8]]], None]] = {
    "stuck": lambda rng, raw: raw.__setitem__(slice(None), 0x5A),
    "biased": lambda rng, raw: raw.__setitem__(rng.random(raw.size) < 0.15, 0),
    "periodic": lambda rng, raw: raw.__setitem__(slice(None), np.resize(raw[:100].copy(), raw.size)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_stops_the_output_within_the_window_it_fills(fault: str) -> None:
    rng = np.random.default_rng(15)
    pipeline = opened(device=lamp(millibits=7000))
    pipeline.feed(rng.bytes(4 * WINDOW))
    before = pipeline.measured
    sick = np.frombuffer(rng.bytes(4 * WINDOW), dtype=np.uint8).copy()
    FAULTS[fault](rng, sick)
    events = pipeline.feed(sick.data)
    assert output(events) == b""
    assert pipeline.measured.since(before).credited_bits == 0
    discarded = [event.verdict for event in events if isinstance(event, WindowDiscarded)]
    assert discarded[0].window == 4
    assert discarded[0].grade is Grade.PERMANENT
    assert pipeline.state is DeviceState.FAILED
