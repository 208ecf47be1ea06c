"""The emulated QCicada behaves as the published client expects of the device: the client from PyPI drives it, over a serial line.

What passes here is what our own driver is tested against, so neither is written for the other alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from qcicada import PostProcess, QCicada, QCicadaError
from support.daemon import PATIENCE_S
from support.emulated_line import MAKER, qcicada_line

from qrngd.device_config import DeviceConfig
from qrngd.emulation.maker import Maker

AUTHORITY = MAKER.authority.public
SILENCE_S = 2.0


class Patient(QCicada):
    """The published client, which takes no other patience than its own: half a second for most of what a device says, and a loaded machine
    may take longer. Where it reads until nothing more comes it waits for the whole of its time, so there it gets less."""

    def __init__(self, link: Path) -> None:
        super().__init__(str(link))
        self._patience_s, self._wait = PATIENCE_S, self._transport.set_timeout
        self._transport.set_timeout = lambda _own_s: self._wait(self._patience_s)  # type: ignore[method-assign]

    @contextmanager
    def _until_silence(self) -> Iterator[None]:
        self._patience_s = SILENCE_S
        yield
        self._patience_s = PATIENCE_S

    def _handle_stop(self) -> object:
        with self._until_silence():
            return super()._handle_stop()

    def reboot(self) -> None:
        with self._until_silence():
            super().reboot()


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "qcicada"


@pytest.fixture
def client(link: Path) -> Iterator[QCicada]:
    with qcicada_line(link, rate=200_000), Patient(link) as opened:
        yield opened


def test_the_client_reads_what_the_device_says_of_itself(client: QCicada) -> None:
    info = client.get_info()
    assert (info.serial, info.hw_info, info.fw_version) == ("QC0000000217", "CICADA-QRNG-1.1", 0x5000D)
    status = client.get_status()
    assert status.initialized
    assert not any((status.startup_test_in_progress, status.voltage_low, status.repetition_count, status.adaptive_proportion))
    assert status.ready_bytes > 0
    config = client.get_config()
    assert (config.postprocess, config.startup_test, config.generate_on_error, config.block_size) == (PostProcess.SHA256, True, False, 448)


def test_the_client_sets_it_up_and_counts(client: QCicada) -> None:
    for mode in PostProcess:
        client.set_postprocess(mode)
        assert client.get_config().postprocess is mode
    assert len(client.random(1000)) == 1000
    statistics = client.get_statistics()
    assert (statistics.generated_bytes, statistics.speed, statistics.repetition_count_failures) == (1000, 1_600_000, 0)
    client.reset()
    assert client.get_statistics().generated_bytes == 0
    client.reboot()
    assert client.get_config().postprocess is PostProcess.SHA256


def test_the_client_reads_in_every_way(client: QCicada) -> None:
    assert len(set(client.random(65_535))) == 256
    buffer = bytearray(70_000)
    client.fill_bytes(buffer)
    assert len(set(buffer)) == 256
    client.start_continuous()
    streamed = client.read_continuous(30_000)
    assert len(set(streamed)) == 256
    client.stop()
    assert client.get_status().initialized
    assert client.start_continuous_fresh() >= 0
    client.stop()
    assert client.random(32) not in streamed


def test_the_client_verifies_the_chain_and_every_read(client: QCicada) -> None:
    key = client.get_verified_pub_key(AUTHORITY)
    assert key == MAKER.device.public
    for size in (1, 64, 20_000):
        assert len(client.signed_read_verified(size, key).data) == size
    with pytest.raises(QCicadaError, match="certificate verification failed"):
        client.get_verified_pub_key(Maker(bytes(32)).authority.public)
    with pytest.raises(QCicadaError, match="signature verification failed"):
        client.signed_read_verified(64, AUTHORITY)


def test_the_client_notices_the_faults_that_our_driver_notices(link: Path) -> None:
    with qcicada_line(link, protocol_faults="signature@reads=1+refuse@command=11"), Patient(link) as client:
        with pytest.raises(QCicadaError, match="Failed to get device info"):
            client.get_info()
        key = client.get_verified_pub_key(AUTHORITY)
        client.signed_read_verified(64, key)
        with pytest.raises(QCicadaError, match="signature verification failed"):
            client.signed_read_verified(64, key)


def test_client_and_driver_take_turns_on_one_device(link: Path) -> None:
    driver = DeviceConfig("qcicada", path=link, min_entropy_millibits=7000, device_authority=AUTHORITY.hex(), source="raw-samples").make()
    with qcicada_line(link):
        driver.open()
        driver.close()
        with Patient(link) as client:
            assert client.get_config().postprocess is PostProcess.RAW_SAMPLES
            client.start_continuous()  # and leaves it running
        descriptor = driver.open()
        assert descriptor.serial == "QC0000000217"
        driver.close()
