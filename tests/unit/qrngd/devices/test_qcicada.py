"""The QCicada driver against an emulated device on a pseudo-terminal: start-up, reads, and every way to be wrong."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from support.emulated_line import MAKER, qcicada_line, raw_line, read_exactly, read_until_fault, reopened

from qrngd.device_config import DeviceConfig
from qrngd.devices import QCicadaDevice
from qrngd.devices.device import monotonic_ms
from qrngd.devices.qcc_messages import STATUS_BITS, Code
from qrngd.devices.qcicada import IDLE_READ_BYTES, READ_BYTES
from qrngd.devices.serial_line import LINE_BUFFER_BYTES
from qrngd.emulation.maker import Maker
from qrngd.health.state import DeviceState
from qrngd.pipeline import Conditioned, Pipeline
from qustream.errors import QuStreamError
from qustream.identity.device_evidence import check_evidence

AUTHORITY = MAKER.authority.public


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "qcicada"


def driver(path: Path, *, device_authority: bytes = b"", clock_ms: Callable[[], int] = monotonic_ms, **settings: object) -> QCicadaDevice:
    expected = DeviceConfig("qcicada", path=path, **({"min_entropy_millibits": 7000} | settings)).expected  # type: ignore[arg-type]
    return QCicadaDevice(str(path), expected, device_authority=device_authority, clock_ms=clock_ms)


def signing(path: Path, *, clock_ms: Callable[[], int] = monotonic_ms, **settings: object) -> QCicadaDevice:
    return driver(path, device_authority=AUTHORITY, clock_ms=clock_ms, **settings)


def refusal(device: QCicadaDevice) -> QuStreamError:
    with pytest.raises(QuStreamError) as caught:
        device.open()
    with pytest.raises(AssertionError, match="closed"):
        device.fileno()
    return caught.value


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "sha512"}, "source"),
        ({"source": "sha256"}, "conditioned"),
        ({"source": "raw-noise", "conditioned": True}, "conditioned"),
        ({"device_authority": bytes(64)}, "device_authority"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(QuStreamError, match=says) as caught:
        driver(Path("/dev/ttyUSB0"), **settings)
    assert caught.value.code == "E-CONFIG"


def test_a_device_says_what_it_is(link: Path) -> None:
    with qcicada_line(link):
        device = driver(link, nominal_rate_bps=800_000)
        assert not any(is_set for _, is_set in device.flags)
        descriptor = device.open()
        assert (descriptor.kind, descriptor.model, descriptor.serial) == ("qcicada", "CICADA-QRNG-1.1", "QC0000000217")
        assert (descriptor.source, descriptor.conditioned, descriptor.evidence) == ("raw-noise", False, None)
        assert descriptor.emulated, "behind a pseudo-terminal is a program"
        assert [name for name, is_set in device.flags if is_set] == ["initialised"]
        assert [name for name, _ in device.flags] == list(STATUS_BITS)
        assert len(set(read_exactly(device, 100_000))) == 256
        device.close()
        device.close()


@pytest.mark.parametrize(
    ("settings", "source", "conditioned"),
    [({}, "raw-noise", False), ({"source": "raw-samples"}, "raw-samples", False), ({"conditioned": True}, "sha256", True)],
)
def test_the_device_delivers_what_is_configured(link: Path, settings: dict[str, object], source: str, conditioned: bool) -> None:
    with qcicada_line(link) as emulated:
        device = driver(link, **settings)
        for _ in range(2):
            descriptor = device.open()
            assert (descriptor.source, descriptor.conditioned) == (source, conditioned)
            device.close()
        assert emulated._config[0] == {"sha256": 0, "raw-noise": 1, "raw-samples": 2}[source]


def test_evidence_leads_from_the_maker_to_a_read(link: Path) -> None:
    with qcicada_line(link):
        device = signing(link, serial="QC0000000217")
        descriptor = device.open()
        check_evidence(descriptor, [AUTHORITY])
        evidence = descriptor.evidence
        assert evidence
        assert (evidence.serial_number, evidence.hardware, evidence.all_reads_signed) == (217, (1, 1), True)
        delivered = read_exactly(device, 200_000)
        assert evidence.sample not in delivered, "the sample is part of no output"
        device.close()
        again = device.open().evidence
        assert again
        assert again.sample != evidence.sample
        device.close()


@pytest.mark.parametrize("settings", [{}, {"device_authority": AUTHORITY}])
def test_its_bytes_pass_the_pipeline(link: Path, settings: dict[str, object]) -> None:
    with qcicada_line(link):
        device = driver(link, **settings)
        descriptor = device.open()
        pipeline = Pipeline(descriptor, draw=ssl.RAND_bytes, reseed=lambda seed: None)
        pipeline.opened(descriptor)
        made = 0
        while made < 50_000:
            events = pipeline.feed(memoryview(bytearray(read_exactly(device, 1 << 16))))
            made += sum(len(event.data) for event in events if isinstance(event, Conditioned))
        assert pipeline.state is DeviceState.LIVE
        assert pipeline.measured.windows_discarded == 0
        device.close()


def test_reads_may_be_as_small_as_the_reader_likes(link: Path) -> None:
    with qcicada_line(link):
        device = signing(link)
        device.open()
        for size in (1, 7, IDLE_READ_BYTES - 8, IDLE_READ_BYTES + 1, 3 * READ_BYTES + 11):
            assert len(read_exactly(device, size)) == size
        device.close()


def test_reads_are_of_whole_samples_whatever_room_there_is(link: Path) -> None:
    asked: list[int] = []
    with qcicada_line(link) as emulated:
        answer = emulated._signed_read

        def noted(size: int) -> bytes:
            asked.append(size)
            return answer(size)

        emulated._signed_read = noted  # type: ignore[method-assign]
        device = signing(link, sample_bits=16, min_entropy_millibits=14_000)
        device.open()
        for size in (5001, 7777, 20_001, 12_345):
            read_exactly(device, size)
        device.close()
    assert len(set(asked)) > 3
    assert not any(size % 2 for size in asked)


def test_what_nobody_reads_fits_into_the_line(link: Path) -> None:
    throttled_at = LINE_BUFFER_BYTES - 128
    assert throttled_at > 1 + IDLE_READ_BYTES + 64
    assert throttled_at > 6 + IDLE_READ_BYTES


def test_status_is_asked_for_between_signed_reads(link: Path) -> None:
    now_ms = [0]
    with qcicada_line(link, protocol_faults="status@bits=64,reads=4"):
        device = signing(link, clock_ms=lambda: now_ms[0])
        device.open()
        read_exactly(device, IDLE_READ_BYTES)
        read_exactly(device, 5 * READ_BYTES)
        now_ms[0] += 1000
        error, _ = read_until_fault(device)
        assert error.code == "E-DEV-STATUS"
        assert "repetition_count" in error.detail
        assert dict(device.flags)["repetition_count"], "what it said last is still shown"


def test_a_one_shot_read_says_the_status_itself(link: Path) -> None:
    with qcicada_line(link, protocol_faults="status@bits=128,reads=3"):
        device = driver(link)
        device.open()
        error, got = read_until_fault(device)
        assert (error.code, got > 0) == ("E-DEV-STATUS", True)
        assert "adaptive_proportion" in error.detail


@pytest.mark.parametrize("bit", [0, 2, 3, 4, 5, 6, 7])
def test_a_device_that_is_not_sound_is_not_opened(link: Path, bit: int) -> None:
    with qcicada_line(link, protocol_faults=f"status@bits={1 << bit}"):
        error = refusal(driver(link))
        assert error.code == "E-DEV-STATUS"
        assert (STATUS_BITS[bit] if bit else "not initialised") in error.detail


def test_the_devices_own_start_up_test_has_its_time(link: Path) -> None:
    # Acknowledgements of stop and of the settings carry the bits, too.
    with qcicada_line(link, protocol_faults="status@bits=2,times=5"):
        device = driver(link)
        device.open()
        assert not dict(device.flags)["startup_test"]
        device.close()


def test_a_start_up_test_without_end_is_a_fault(link: Path) -> None:
    with qcicada_line(link, protocol_faults="status@bits=2"):
        error = refusal(driver(link))
        assert error.code == "E-DEV-STATUS"
        assert "start-up test" in error.detail


def test_another_serial_is_refused(link: Path) -> None:
    with qcicada_line(link, serial_number=218):
        error = refusal(signing(link, serial="QC0000000217"))
        assert error.code == "E-DEV-IDENTITY"
        assert "QC0000000218" in error.detail


def test_a_device_that_was_swapped_is_noticed_at_reopening(link: Path) -> None:
    with qcicada_line(link, faults="vanish@bytes=100000", protocol_faults="serial@number=218,opens=1"):
        device = signing(link, serial="QC0000000217")
        device.open()
        error, got = read_until_fault(device)
        assert error.code == "E-DEV-ABSENT"
        assert 0 < got <= 100_000
        with pytest.raises(QuStreamError, match="QC0000000218") as caught:
            reopened(device)
        assert caught.value.code == "E-DEV-IDENTITY"


def test_it_is_unplugged_and_plugged_in_again(link: Path) -> None:
    with qcicada_line(link, faults="vanish@bytes=100000+vanish@bytes=250000,opens=1"):
        device = signing(link)
        device.open()
        for _ in range(2):
            error, _ = read_until_fault(device)
            assert error.code == "E-DEV-ABSENT"
            reopened(device)
        read_exactly(device, 50_000)
        device.close()


@pytest.mark.parametrize(
    "faults",
    [
        "certificate",
        f"refuse@command={Code.KEY:d}",
        f"refuse@command={Code.CERTIFICATE:d}",
        f"refuse@command={Code.SIGNED_READ:d}",
        "signature",
    ],
)
def test_a_chain_that_does_not_hold_is_refused(link: Path, faults: str) -> None:
    with qcicada_line(link, protocol_faults=faults):
        assert refusal(signing(link)).code == "E-DEV-CERTIFICATE"


def test_a_foreign_authority_is_refused(link: Path) -> None:
    with qcicada_line(link, maker=Maker(bytes(32))):
        error = refusal(signing(link))
        assert error.code == "E-DEV-CERTIFICATE"
        assert "not by the configured authority" in error.detail


def test_a_certificate_of_another_device_is_refused(link: Path) -> None:
    # The device tells the truth in its information, and shows what its maker gave to another one.
    with qcicada_line(link, protocol_faults="serial@number=218,times=1"):
        assert refusal(signing(link)).code == "E-DEV-CERTIFICATE"


def test_nothing_of_a_read_with_a_wrong_signature_is_handed_out(link: Path) -> None:
    with qcicada_line(link, protocol_faults="signature@reads=3"):
        device = signing(link)
        device.open()
        error, got = read_until_fault(device)
        assert error.code == "E-DEV-CERTIFICATE"
        assert got == IDLE_READ_BYTES + READ_BYTES, "the two reads before it: the first at open, when there was no room"


def test_a_read_that_is_played_back_is_noticed(link: Path) -> None:
    with qcicada_line(link, protocol_faults="replay@reads=5"):
        device = signing(link)
        device.open()
        error, got = read_until_fault(device)
        assert (error.code, got > 0) == ("E-DEV-CERTIFICATE", True)
        assert "signed before" in error.detail


def test_only_so_many_signatures_are_remembered(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qrngd.devices.qcicada.SEEN_MAX", 3)
    with qcicada_line(link):
        device = signing(link)
        device.open()
        read_exactly(device, 8 * READ_BYTES)
        assert len(device._seen) == 3
        device.close()


@pytest.mark.parametrize("settings", [{}, {"device_authority": AUTHORITY}])
@pytest.mark.parametrize(
    "faults", ["refuse@reads=3", "truncate@reads=3", "garbage@reads=3,seed=1", "garbage@reads=3,size=60000", "silence@reads=3"]
)
def test_an_answer_that_is_none_ends_the_conversation(link: Path, faults: str, settings: dict[str, object]) -> None:
    # The clock runs from one look to the next, so that five seconds of silence pass at once.
    now_ms = [0]

    def clock_ms() -> int:
        now_ms[0] += 1 if opening else 1000
        return now_ms[0]

    opening = True
    with qcicada_line(link, protocol_faults=faults):
        device = driver(link, clock_ms=clock_ms, **settings)
        device.open()
        opening = False
        error, got = read_until_fault(device)
        assert error.code == "E-DEV-READ", error
        assert got > 0
        opening = True
        device.open()
        read_exactly(device, 50_000)
        device.close()


BROKEN_OFF = [
    *(("garbage", code) for code in (Code.STATUS, Code.CONFIG, Code.SET_CONFIG, Code.INFO, Code.KEY)),
    *(("silence", code) for code in (Code.STATUS, Code.SET_CONFIG)),
    *(("truncate", code) for code in (Code.INFO, Code.CERTIFICATE)),
]


@pytest.mark.parametrize(("kind", "command"), BROKEN_OFF)
def test_a_start_up_that_is_broken_off_is_refused_and_works_the_next_time(link: Path, kind: str, command: Code) -> None:
    with qcicada_line(link, protocol_faults=f"{kind}@command={command:d}"):
        device = signing(link)
        assert refusal(device).code == "E-DEV-READ"
        device.open()
        device.close()


@pytest.mark.parametrize("command", [Code.STATUS, Code.CONFIG, Code.SET_CONFIG, Code.INFO])
def test_a_command_that_is_refused_at_start_up(link: Path, command: Code) -> None:
    with qcicada_line(link, protocol_faults=f"refuse@command={command:d}"):
        error = refusal(driver(link))
        assert (error.code, f"refuses command {command:#04x}" in error.detail) == ("E-DEV-READ", True)


def test_a_setting_that_is_not_taken_is_noticed(link: Path) -> None:
    with qcicada_line(link, protocol_faults="stubborn"):
        error = refusal(driver(link))
        assert error.code == "E-DEV-READ"
        assert "raw-noise" in error.detail


def test_a_stop_that_is_lost_is_said_again(link: Path) -> None:
    with qcicada_line(link, protocol_faults=f"silence@command={Code.STOP:d}"):
        device = driver(link)
        device.open()
        device.close()


def test_a_device_that_never_answers(link: Path) -> None:
    with qcicada_line(link, protocol_faults="silence@times=100"):
        error = refusal(driver(link))
        assert error.code == "E-DEV-READ"
        assert "answers as a QCicada does" in error.detail


def test_a_stick_that_streams_is_no_qcicada(link: Path) -> None:
    with raw_line(link, rate=100_000):
        error = refusal(driver(link))
        assert error.code == "E-DEV-READ"
        assert "gives bytes without being asked" in error.detail


def test_what_somebody_else_has_left_running_is_stopped(link: Path) -> None:
    with qcicada_line(link, rate=200_000):
        handle = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(handle, b"\x04\x00\x00\x00")
        assert os.read(handle, 100)
        device = driver(link)
        device.open()
        read_exactly(device, 20_000)
        device.close()
        os.write(handle, b"\x51\x20\x4e" + b"\x04\x01")  # a signed read of 20,000 bytes, and half a command
        assert os.read(handle, 100)
        device.open()
        read_exactly(device, 20_000)
        device.close()
        os.close(handle)
