"""`qrngd devices`: cards that work, cards that do not, something else in their place, and serial lines, which are left alone."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.emulated_line import qcicada_line
from support.held_terminal import held, terminal
from support.network import BIN
from support.quantis_card import Card, compile_shim

from qustream.model.ids import IdKind, to_text

CONFIG = """
chain = "test"
data_dir = "data"
listen = ["127.0.0.1:0"]

[[device]]
kind = "{kind}"
path = "{path}"
min_entropy_millibits = 7000

[[allow]]
id = "{node}"
"""


def listed(card: Card, config: Path) -> dict[str, Any]:
    done = subprocess.run(
        [BIN / "qrngd", "devices", "--config", config, "--json"], env=card.environment, capture_output=True, text=True, check=True
    )
    [found] = [each for each in json.loads(done.stdout) if each["path"] == card.path]
    assert isinstance(found, dict)
    return found


@pytest.mark.needs("gcc")
def test_a_configured_card_says_what_it_is(tmp_path: Path) -> None:
    card, config = Card(compile_shim(tmp_path), tmp_path), tmp_path / "qrngd.toml"
    with card.delivering():
        config.write_text(CONFIG.format(kind="quantis", path=card.path, node=to_text(IdKind.NODE, bytes(32))))
        good = listed(card, config)
        assert (good["kind"], good["usable"], good["current"]) == ("quantis", True, "pci 0003:0011")
        # The other end of what stands for the card is held by this process.
        assert good["note"].startswith("board 00010203 driver 2.1, modules present 0111, working 0111, also open in process ")
        card.say(status=0b0011)
        broken = listed(card, config)
        assert (broken["kind"], broken["usable"]) == ("quantis", False)
        assert "module 2" in broken["note"]
        card.say(ioctl_errno=errno.ENOTTY)
        other = listed(card, config)
        assert (other["kind"], other["usable"]) == ("chardev", True)
        assert "does not answer as a Quantis card" in other["note"]


@pytest.mark.parametrize("kind", ["serial", "qcicada"])
def test_a_configured_serial_line_is_listed_and_not_opened(tmp_path: Path, kind: str) -> None:
    link, config = tmp_path / "line", tmp_path / "qrngd.toml"
    config.write_text(CONFIG.format(kind=kind, path=link, node=to_text(IdKind.NODE, bytes(32))))

    def said() -> tuple[bool, str, str]:
        command = [BIN / "qrngd", "devices", "--config", config, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        [found] = [each for each in json.loads(done.stdout) if each["path"] == str(link)]
        return found["usable"], found["kind"], found["note"]

    assert said() == (False, kind, "not there")
    with qcicada_line(link) as emulated:
        assert said() == (True, kind, "")
        assert emulated._faults.opens == 0


@pytest.mark.parametrize(("kind", "usable"), [("chardev", True), ("serial", False)])
def test_it_is_said_who_reads_a_device_without_a_lock(tmp_path: Path, kind: str, usable: bool) -> None:
    config = tmp_path / "qrngd.toml"
    with terminal() as path, held(path) as pid:
        config.write_text(CONFIG.format(kind=kind, path=path, node=to_text(IdKind.NODE, bytes(32))))
        done = subprocess.run([BIN / "qrngd", "devices", "--config", config, "--json"], capture_output=True, text=True, check=True)
    [found] = [each for each in json.loads(done.stdout) if each["path"] == str(path)]
    assert found["usable"] == usable
    assert f"process {pid} (" in found["note"]
