"""The command on a terminal: what it asks, what it does not echo, what it draws."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.typed import COMMAND, Typed
from support.village import User, Village

# A process with a terminal of its own, as a login gives one; passphrases are read from there.
WITH_TERMINAL = "import fcntl, os, sys, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A command on a terminal: `answers` are typed one by one when the screen shows what each is for."""

    def __init__(self, typed: Typed, *arguments: Any, answers: tuple[tuple[str, str], ...] = ()) -> None:
        self.screen = ""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-c", WITH_TERMINAL, str(COMMAND), *map(str, arguments)]
        process = subprocess.Popen(command, cwd=typed.folder, env=typed.environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        waiting, shown = list(answers), 0
        while data := self._read(ours):
            self.screen += data.decode(errors="replace")
            while waiting and waiting[0][0] in self.screen[shown:]:
                shown = len(self.screen)
                os.write(ours, waiting.pop(0)[1].encode() + b"\n")
        os.close(ours)
        self.code = process.wait(60)
        assert not waiting, self.screen

    @staticmethod
    def _read(terminal: int) -> bytes:
        try:
            return os.read(terminal, 65_536)
        except OSError:  # how Linux says that nobody is at the other end any more
            return b""


@pytest.fixture
def person(net: Village, alice: User, tmp_path: Path) -> Typed:
    typed = Typed(alice, tmp_path / "person")
    typed.environment["QUSTREAM_HOME"] = str(typed.folder / "home")
    del typed.environment["CREDENTIALS_DIRECTORY"]
    return typed


def test_a_passphrase_is_chosen_by_typing_it_twice_and_then_asked_for(net: Village, person: Typed) -> None:
    network = ("--network", net.path, "--network-key", net.network_key)
    new = Terminal(person, "init", *network, answers=(("Choose a passphrase", "open sesame"), ("Repeat", "open sesame")))
    assert new.code == 0, new.screen
    assert "open sesame" not in new.screen
    words = re.search(r"\n    ([a-z]+(?: [a-z]+){11})\r?\n", new.screen)
    assert words
    who = Terminal(person, "whoami", answers=(("Passphrase", "open sesame"),))
    assert who.code == 0, who.screen
    assert "qd1" in who.screen
    assert "open sesame" not in who.screen
    wrong = Terminal(person, "whoami", answers=(("Passphrase", "close sesame"),))
    assert wrong.code == 78
    assert "E-KEYSTORE-OPEN" in wrong.screen

    again = Typed(person.user, person.folder.parent / "again")
    again.environment = person.environment | {"QUSTREAM_HOME": str(again.folder / "home")}
    answers = (("Choose a passphrase", "another one"), ("Repeat", "another one"), ("Your words", words[1]))
    restored = Terminal(again, "init", *network, "--restore", "--stripe", "1", answers=answers)
    assert restored.code == 0, restored.screen
    assert words[1] not in restored.screen


def test_a_passphrase_mistyped_is_asked_for_again(net: Village, person: Typed) -> None:
    short = Terminal(
        person, "init", "--network", net.path, "--network-key", net.network_key,
        answers=(("Choose a passphrase", "seven.."), ("Repeat", "seven..")),
    )  # fmt: skip
    assert short.code == 78
    assert "E-SECRET-WEAK" in short.screen
    answers = (
        ("Choose a passphrase", "one one one"),
        ("Repeat", "two two two"),
        ("Choose a passphrase", "three three"),
        ("Repeat", "three three"),
    )
    new = Terminal(person, "init", "--network", net.path, "--network-key", net.network_key, answers=answers)
    assert new.code == 0, new.screen


def test_a_progress_bar_is_drawn_on_a_terminal_alone(net: Village, alice: User, bob: User, tmp_path: Path) -> None:
    typed = Typed(alice, tmp_path / "alice")
    (typed.folder / "big").write_bytes(bytes(24 << 20))
    shown = Terminal(typed, "encrypt", "big", "--to", bob.text)
    assert shown.code == 0, shown.screen
    assert "encrypting" in shown.screen
    assert "━" in shown.screen
    (typed.folder / "big.qs").unlink()
    _, err = typed("encrypt", "big", "--to", bob.text)
    assert "encrypting" not in err
