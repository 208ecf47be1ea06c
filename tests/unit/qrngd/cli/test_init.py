"""The configuration that `qrngd init` writes is one that `qrngd run` takes, for every kind of device."""

from __future__ import annotations

from pathlib import Path

import click.testing
import pytest

from qrngd.cli import cli
from qrngd.config import load_config

PASSPHRASE = "a passphrase for tests only"


def init(folder: Path, *arguments: str) -> click.testing.Result:
    secret = folder / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    return click.testing.CliRunner().invoke(cli, ["init", "--dir", str(folder / "server"), "--passphrase-file", str(secret), *arguments])


@pytest.mark.parametrize(
    ("device", "kind", "path"),
    [
        ("emulator", "emulator", None),
        ("emulator:stuck@bytes=9", "emulator", None),
        ("/dev/hwrng", "chardev", "/dev/hwrng"),
        ("/dev/qrandom0", "quantis", "/dev/qrandom0"),
        ("quantis:/dev/card", "quantis", "/dev/card"),
        ("serial:/dev/ttyACM0", "serial", "/dev/ttyACM0"),
        ("qcicada:/dev/serial/by-id/usb-FTDI", "qcicada", "/dev/serial/by-id/usb-FTDI"),
        ("appliance:/run/qrngd-reader/fifo", "appliance", "/run/qrngd-reader/fifo"),
    ],
)
def test_every_kind(tmp_path: Path, device: str, kind: str, path: str | None) -> None:
    done = init(tmp_path, "--device", device, "--name", "card1", *([] if kind == "emulator" else ["--min-entropy-millibits", "6000"]))
    assert done.exit_code == 0, done.output
    file = tmp_path / "server" / "qrngd.toml"
    text = file.read_text()
    # Everything is right but whom to allow, which only the operator knows.
    file.write_text(text + '\n[[allow]]\nid = "qn1nobody"\n')
    with pytest.raises(Exception, match=r"allow\[0\]\.id"):
        load_config(file)
    assert f'kind = "{kind}"' in text
    assert 'name = "card1"' in text
    assert (path is None) or f'path = "{path}"' in text
    assert ('faults = "stuck@bytes=9"' in text) == device.endswith("stuck@bytes=9")


def test_the_claim_cannot_be_guessed(tmp_path: Path) -> None:
    done = init(tmp_path, "--device", "serial:/dev/ttyACM0")
    assert done.exit_code == 2
    assert "/dev/ttyACM0" in done.output
