"""The configuration that `qrngd init` writes is one that `qrngd run` takes, for every kind of device."""

from __future__ import annotations

from pathlib import Path

import click.testing
import pytest

from qrngd.cli import cli
from qrngd.config import load_config
from qustream.errors import QuStreamError
from qustream.model.ids import IdKind, to_text

PASSPHRASE = "a passphrase for tests only"
CHECKPOINT = to_text(IdKind.CHECKPOINT, bytes(32))
ASKED = f"{to_text(IdKind.NODE, bytes(32))}@node.example:7400"


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--network-key", "qnet1nonsense"], "network_key"),
        (["--checkpoint", CHECKPOINT], "checkpoint and nodes"),
        (["--node", ASKED], "checkpoint and nodes"),
        (["--checkpoint", "qcp1nonsense", "--node", ASKED], "checkpoint"),
        (["--checkpoint", CHECKPOINT, "--node", "qn1x@127.0.0.1:7400"], "nodes[0]"),
        (["--checkpoint", CHECKPOINT, "--node", ASKED, "--network-key", to_text(IdKind.NETWORK, bytes(32))], "network_key"),
        (["--network-key", to_text(IdKind.NODE, bytes(32))], "network_key"),
        (["--listen", "7300"], "listen[0]"),
        (["--status-listen", "nowhere"], "status_listen"),
        (["--name", "Card 1"], "device[0].name"),
        (["--chain", ""], "chain"),
    ],
)
def test_what_run_would_refuse_is_refused_before_there_is_a_key(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = init(tmp_path, "--device", "emulator", *arguments)
    assert isinstance(done.exception, QuStreamError)
    assert done.exception.code == "E-CONFIG"
    assert said in done.exception.detail
    assert not (tmp_path / "server").exists()


def test_a_server_on_a_chain_asks_nodes_who_is_licensed(tmp_path: Path) -> None:
    done = init(tmp_path, "--device", "emulator", "--checkpoint", CHECKPOINT, "--node", ASKED)
    assert done.exit_code == 0, done.output
    config = load_config(tmp_path / "server" / "qrngd.toml")
    assert (config.checkpoint_digest, [each.address for each in config.asked]) == (bytes(32), ["node.example:7400"])
    assert (config.allow, config.network_file) == ((), None)


def test_the_passphrase_that_closed_the_key_opens_it_again(tmp_path: Path) -> None:
    assert init(tmp_path, "--device", "emulator", "--network-key", to_text(IdKind.NETWORK, bytes(32))).exit_code == 0
    config = load_config(tmp_path / "server" / "qrngd.toml")
    assert config.passphrase_file == tmp_path / "passphrase"
