"""The process that checks signatures: what it answers, and when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from qnode.service.verify_child import HEAD_BYTES, HYBRID, VOTE, Check, check, pack, unpack
from qustream.identity.signing import SigningKey

KEY = SigningKey(b"k" * 32)
PUBLIC = KEY.public.ed25519 + KEY.public.mldsa
PATIENCE_S = 60.0


def hybrid(message: bytes, *, signed: bytes | None = None) -> Check:
    return Check(HYBRID, PUBLIC, b"receipt", message, KEY.sign("receipt", message if signed is None else signed))


GOOD, BAD = hybrid(b"a"), hybrid(b"a", signed=b"b")


def start(link: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "qnode.service.verify_child", str(link.fileno())], pass_fds=(link.fileno(),), stderr=subprocess.PIPE
    )


@pytest.fixture
def child():
    ours, theirs = socket.socketpair()
    with ours, start(theirs) as process:
        theirs.close()
        ours.settimeout(PATIENCE_S)
        yield ours, process
        process.kill()


def test_a_job_holds_if_all_of_it_does():
    assert check([GOOD])
    assert check([GOOD, hybrid(b"c")])
    assert not check([GOOD, BAD])
    assert not check([Check(VOTE, b"", b"", b"", b"")])
    assert unpack(pack([[GOOD, BAD], [BAD]])[HEAD_BYTES:]) == [[GOOD, BAD], [BAD]]


def test_one_byte_a_job_batch_after_batch(child):
    ours, _ = child
    ours.sendall(pack([[GOOD], [BAD], [GOOD, BAD], [GOOD]]) + pack([[BAD]]))
    answer = b""
    while len(answer) < 5:
        answer += ours.recv(5)
    assert answer == bytes([1, 0, 0, 1, 0])


def test_it_ends_when_the_link_is_gone(child):
    ours, process = child
    ours.sendall(pack([[GOOD]])[:100])
    ours.close()
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == b""


def test_what_ends_the_daemon_by_a_signal_does_not_end_it(child):
    ours, process = child
    ours.sendall(pack([[GOOD]]))
    assert ours.recv(1) == b"\x01"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(process.pid, number)
    ours.sendall(pack([[BAD]]))
    assert ours.recv(1) == b"\x00"


def test_what_no_daemon_says_ends_it(child):
    ours, process = child
    ours.sendall((4).to_bytes(4, "big") + b"\xc1\xc1\xc1\xc1")
    assert ours.recv(1) == b""
    assert process.wait(PATIENCE_S) == 1


def test_it_has_nothing_of_the_event_loop():
    code = (
        "import sys; import qnode.service.verify_child; print([m for m in sys.modules if m.split('.')[0] in ('trio','lmdb','structlog')])"
    )
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
