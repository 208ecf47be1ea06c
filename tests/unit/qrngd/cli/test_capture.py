"""`qrngd capture`: what the file holds, whose it is, and that it is whole or not there."""

from __future__ import annotations

import fcntl
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import click.testing
import numpy as np
import pytest

from qrngd.cli import cli
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text

CONFIG = """
chain = "test"
data_dir = "{folder}"
listen = ["127.9.0.1:7300"]

[[allow]]
id = "{node}"

[[device]]
kind = "emulator"
name = "left"
faults = "stuck@value=1"

[[device]]
kind = "emulator"
name = "right"
sample_bits = 12
faults = "stuck@value=2748"
"""


def qrngd(*arguments: str | Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments])


def capture(out: Path, *arguments: str | Path) -> bytes:
    done = qrngd("capture", "--out", out, *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return out.read_bytes()


def refusal(*arguments: str | Path) -> QuStreamError:
    error = qrngd(*arguments).exception
    assert isinstance(error, QuStreamError)
    return error


def test_samples_stand_one_a_byte_or_in_two_and_bits_are_unpacked(tmp_path: Path) -> None:
    for bits in (1, 2, 7, 8, 9, 12, 16):
        raw = capture(tmp_path / f"{bits}", "--device", "emulator", "--sample-bits", str(bits), "--samples", "50001")
        samples = np.frombuffer(raw, dtype=np.uint8 if bits <= 8 else np.dtype("<u2"))
        assert samples.size == 50_001
        assert int(np.bitwise_or.reduce(samples)) == (1 << bits) - 1
    stuck = capture(tmp_path / "stuck", "--device", "emulator:stuck@value=6+torn@most=3", "--sample-bits", "1", "--samples", "12")
    assert list(stuck) == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    torn = capture(tmp_path / "torn", "--device", "emulator:stuck@value=2748+torn@most=3", "--sample-bits", "12", "--samples", "900")
    assert torn == (2748).to_bytes(2, "little") * 900


def test_a_million_samples_unless_told_otherwise(tmp_path: Path) -> None:
    assert len(capture(tmp_path / "raw", "--device", "emulator")) == 1_000_000


def test_the_file_is_its_owners_and_says_loudly_what_it_is_not_for(tmp_path: Path) -> None:
    done = qrngd("capture", "--device", "emulator", "--samples", "9", "--out", tmp_path / "raw")
    assert stat.S_IMODE((tmp_path / "raw").stat().st_mode) == 0o600
    assert "NEVER use them" in done.stderr
    assert f"qrngd assess {tmp_path / 'raw'} --sample-bits 8" in done.stdout
    assert "\r" not in done.output, "no progress where nobody looks on"


def test_nothing_is_overwritten_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("there", "link"):
        assert refusal("capture", "--device", "emulator", "--samples", "9", "--out", tmp_path / name).code == "E-FILE"
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()
    assert refusal("capture", "--device", "emulator", "--samples", "9", "--out", tmp_path / "no" / "raw").code == "E-FILE"


@pytest.mark.parametrize(("device", "code"), [("emulator:vanish@bytes=5000", "E-DEV-ABSENT"), ("/dev/urandom", "E-CONFIG")])
def test_a_part_of_a_capture_is_not_left(tmp_path: Path, device: str, code: str) -> None:
    assert refusal("capture", "--device", device, "--samples", "9000", "--out", tmp_path / "raw").code == code
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.write_bytes(os.urandom(5000))
    with recording.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        error = refusal("capture", "--device", recording, "--samples", "100", "--out", tmp_path / "raw")
    assert error.code == "E-DEV-LOCKED"
    assert "stop it first" in error.detail
    assert capture(tmp_path / "raw", "--device", recording, "--samples", "100") == recording.read_bytes()[:100]


def test_restarts_open_the_device_for_each_row(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.write_bytes(os.urandom(1 << 20))
    raw = capture(tmp_path / "raw", "--device", recording, "--restarts", "3", "--samples", "7")
    whole = recording.read_bytes()
    places = [whole.index(raw[row : row + 7]) for row in (0, 7, 14)]
    assert places == sorted(set(places))
    assert places[1] >= 7, "what the first opening has read is never read again"
    assert len(capture(tmp_path / "matrix", "--device", "emulator", "--restarts", "20")) == 20_000
    assert qrngd("capture", "--device", "emulator", "--restarts", "99999", "--samples", "999", "--out", tmp_path / "x").exit_code == 2


def test_a_device_of_a_configuration_is_named_where_there_are_several(tmp_path: Path) -> None:
    config = tmp_path / "qrngd.toml"
    config.write_text(CONFIG.format(folder=tmp_path, node=to_text(IdKind.NODE, bytes(32))))
    assert capture(tmp_path / "left", "--config", config, "--name", "left", "--samples", "3") == b"\1\1\1"
    assert capture(tmp_path / "right", "--config", config, "--name", "right", "--samples", "2") == b"\xbc\x0a\xbc\x0a"
    unnamed = qrngd("capture", "--config", config, "--out", tmp_path / "x")
    assert (unnamed.exit_code, "left, right" in unnamed.output) == (2, True)
    assert refusal("capture", "--config", config, "--name", "middle", "--out", tmp_path / "x").code == "E-CONFIG"
    assert refusal("selftest", "--config", config, "--name", "middle").code == "E-CONFIG"
    assert qrngd("capture", "--out", tmp_path / "x").exit_code == 2


def test_whoever_looks_on_sees_progress(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from qrngd.cli import main; main()", "capture", "--device", "emulator", "--samples", "99"]
    command += ["--out", str(tmp_path / "raw")]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.DEVNULL, timeout=60, check=False)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        assert b"\r100 % of 99 samples" in terminal.read(65_536)
    assert done.returncode == 0


@pytest.mark.needs("mount")
def test_a_full_disk_is_told_by_its_code_and_leaves_nothing(tmp_path: Path) -> None:
    run = "\"$1\" -c 'from qrngd.cli import main; main()' capture --device emulator --out disk/raw"
    inside = f"mount -t tmpfs -o size=64k none disk && {run}; code=$?; ls disk; exit $code"
    (tmp_path / "disk").mkdir()
    command = ["unshare", "-m", "sh", "-c", inside, "sh", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "E-DISK-FULL" in done.stderr, done.stdout) == (78, True, "")
