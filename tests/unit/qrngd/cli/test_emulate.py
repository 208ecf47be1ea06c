"""`qrngd emulate` as the program it is: what it prints is what a configuration needs, and it cleans up behind itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.emulated_line import read_exactly, read_until_fault
from support.network import BIN

from qrngd.config import load_config
from qrngd.device_config import DeviceConfig
from qustream.model.ids import IdKind, to_text

PATIENCE_S = 60
NODE = to_text(IdKind.NODE, bytes(32))


@contextmanager
def emulating(*arguments: str | Path) -> Iterator[list[str]]:
    """The command, and what it said before it was ready; it must end well when it is asked to."""
    process = subprocess.Popen([BIN / "qrngd", "emulate", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        said = []
        for line in process.stdout:
            if line.startswith("ready: "):
                break
            said.append(line.strip())
        yield said
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stdout.close()


def configured(folder: Path, text: str) -> DeviceConfig:
    path = folder / "qrngd.toml"
    path.write_text(
        f'chain = "test"\ndata_dir = "data"\nlisten = ["127.0.0.1:7301"]\n[[allow]]\nid = "{NODE}"\nname = "a"\n'
        f"[[device]]\nmin_entropy_millibits = 7000\n{text}\n"
    )
    return load_config(path).device[0]


def test_a_qcicada_for_a_configuration(tmp_path: Path) -> None:
    link = tmp_path / "qcicada"
    for _ in range(2):  # the second time with the seed of the first
        with emulating("pty", link, "--protocol", "qcicada", "--authority", tmp_path / "maker", "--rate", "0") as lines:
            device = configured(tmp_path, f'kind = "qcicada"\npath = "{link}"\n' + "\n".join(lines)).make()
            descriptor = device.open()
            assert descriptor.evidence
            assert descriptor.serial == "QC0000000217"
            read_exactly(device, 100_000)
            device.close()
        assert not os.path.lexists(link)
    assert (tmp_path / "maker").stat().st_mode & 0o777 == 0o600


def test_a_qcicada_that_fails(tmp_path: Path) -> None:
    link = tmp_path / "qcicada"
    with emulating("pty", link, "--protocol", "qcicada", "--protocol-faults", "status@bits=64,reads=2", "--serial-number", "9") as lines:
        device = configured(tmp_path, f'kind = "qcicada"\npath = "{link}"\nserial = "QC0000000009"').make()
        assert "serial = 'QC0000000009'" in lines
        device.open()
        error, _ = read_until_fault(device)
        assert error.code == "E-DEV-STATUS"


def test_a_stick_that_is_unplugged(tmp_path: Path) -> None:
    link = tmp_path / "stick"
    with emulating("pty", link, "--faults", "vanish@bytes=60000,opens=1000", "--rate", "0"):
        device = configured(tmp_path, f'kind = "serial"\npath = "{link}"\nbaud = 921600').make()
        device.open()
        error, got = read_until_fault(device)
        assert (error.code, got <= 60_000) == ("E-DEV-ABSENT", True)


def test_a_fifo(tmp_path: Path) -> None:
    path = tmp_path / "lamp"
    with emulating("fifo", path, "--rate", "1000000"):
        device = configured(tmp_path, f'kind = "chardev"\npath = "{path}"').make()
        device.open()
        read_exactly(device, 100_000)
        device.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pty", "line", "--faults", "broken"), "E-CONFIG"),
        (("pty", "line", "--protocol", "qcicada", "--protocol-faults", "stuck"), "E-CONFIG"),
        (("pty", "line", "--protocol-faults", "signature"), "--protocol-faults"),
        (("pty", "none/line"), "E-FILE"),
        (("fifo", "none/lamp"), "E-FILE"),
    ],
)
def test_what_cannot_be_emulated_is_said(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run(
        [BIN / "qrngd", "emulate", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
