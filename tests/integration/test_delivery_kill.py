"""kill -9 at random points: whatever left the process holds after every restart, and no index is ever answered twice differently."""

import random
import socket
import struct
import subprocess
import sys
from pathlib import Path

import msgpack
import support.delivery_child as child

ROUNDS = 20
INDICES = 48
LENGTH = struct.Struct(">I")


class Process:
    """One life of the child."""

    def __init__(self, directory: Path) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, child.__file__, str(directory), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self._sock, self._stream = ours, ours.makefile("rb")
        ours.settimeout(30)
        self._number = 0
        self.open: dict[int, tuple[str, int, str]] = {}

    def send(self, what: str, index: int, letter: str = "A") -> None:
        self._number += 1
        self.open[self._number] = (what, index, letter)
        body = msgpack.packb([self._number, what, index, letter])
        self._sock.sendall(LENGTH.pack(len(body)) + body)

    def receive(self) -> tuple[tuple[str, int, str], str, bytes] | None:
        """The next answer that left, in full, with what it answers; None when there are no more."""
        try:
            header = self._stream.read(LENGTH.size)
            body = self._stream.read(LENGTH.unpack(header)[0]) if len(header) == LENGTH.size else b""
        except ConnectionResetError:  # it died with requests unread
            return None
        if not body or len(body) < LENGTH.unpack(header)[0]:
            return None
        number, outcome, data = msgpack.unpackb(body)
        return self.open.pop(number), outcome, data

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._stream.close()
        self._sock.close()


class Witness:
    """Everything that was ever told, and whether a further answer contradicts it."""

    def __init__(self) -> None:
        self.answers: dict[int, tuple[str, bytes]] = {}
        self.erasures: dict[int, bytes] = {}
        self.gone: set[int] = set()
        self.heard = 0

    def hear(self, asked: tuple[str, int, str], outcome: str, data: bytes, *, ordered: bool) -> None:
        what, index, letter = asked
        self.heard += 1
        if outcome == "answer":
            # Answers in flight together may overtake an erasure; those asked for afterwards may not.
            assert not (ordered and index in self.gone), f"{what} of {index} after its erasure"
            known = self.answers.setdefault(index, (letter if what == "ask" else "?", data))
            assert known[1] == data, f"index {index} was answered with two different blocks"
            if what == "ask":
                assert known[0] in ("?", letter), f"index {index} was given to two different requests"
                self.answers[index] = (letter, data)
        elif outcome == "erasure":
            assert self.erasures.setdefault(index, data) == data
            self.gone.add(index)
        elif outcome == "erased":
            self.gone.add(index)
        else:
            assert outcome in ("noted", "E-GRANT-SPENT", "E-NOT-HELD", "E-NODE-FULL"), outcome


def settle(process: Process, witness: Witness) -> None:
    """Ask for everything that was ever told once more, one at a time."""
    for index, (letter, _) in list(witness.answers.items()):
        for what, with_letter in (("ask", letter), ("ask", "Z"), ("collect", "A")):
            process.send(what, index, with_letter)
            received = process.receive()
            assert received is not None
            asked, outcome, data = received
            if with_letter == "Z":
                assert outcome == "E-GRANT-SPENT", f"index {index} went to a second request"
            witness.hear(asked, outcome, data, ordered=True)
    for index in witness.erasures:
        process.send("revoke", index)
        received = process.receive()
        assert received is not None
        witness.hear(*received, ordered=True)


def test_kill_9(tmp_path):
    chance = random.Random(2026)  # the points of death are the clock's all the same
    witness, kept = Witness(), 0
    for _ in range(ROUNDS):
        process = Process(tmp_path / "data")
        try:
            settle(process, witness)
            for _ in range(60):
                what = chance.choice(["ask"] * 6 + ["collect", "ack", "got", "revoke"])
                process.send(what, chance.randrange(INDICES), chance.choice("AB"))
            for _ in range(chance.randrange(50)):
                received = process.receive()
                assert received is not None
                witness.hear(*received, ordered=False)
            process.kill()
            while (received := process.receive()) is not None:
                witness.hear(*received, ordered=False)
            kept += len(process.open)
        finally:
            process.close()
    last = Process(tmp_path / "data")
    try:
        settle(last, witness)
    finally:
        last.close()
    assert len(witness.answers) > INDICES // 2, "too few answers to show anything"
    assert witness.gone
    assert kept > ROUNDS, "no process died with work in hand"
