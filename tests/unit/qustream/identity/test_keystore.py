"""Keystores: whole or not at all, private, never overwritten, and a foreign file cannot eat the machine."""

import os
import pty
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import nacl.pwhash.argon2id
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qustream.errors import QuStreamError
from qustream.identity import keystore
from qustream.identity.keystore import find_passphrase
from qustream.wire.codec import decode, encode

SECRET = b"thirty-two bytes of a secret now"
PASSPHRASE = b"correct horse"
CHEAP = {"memory_kib": 8, "operations": 1}


def refused(code, call, *arguments, **named):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    assert SECRET.decode() not in str(caught.value)
    assert PASSPHRASE.decode() not in str(caught.value)
    return caught.value.detail


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "node.keystore"
    keystore.write(made, "node", SECRET, PASSPHRASE, **CHEAP)
    return made


def changed(path, data):
    other = path.with_name("changed")
    other.write_bytes(data)
    other.chmod(0o600)
    return other


def test_the_default_cost_opens_again(tmp_path, monkeypatch):
    # As it is in a process of its own: this one's is changed for all other tests.
    code = "from qustream.identity import keystore; print(keystore.MEMORY_KIB, keystore.OPERATIONS)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["65536", "2"]  # libsodium's INTERACTIVE
    monkeypatch.setattr(keystore, "MEMORY_KIB", 65536)
    monkeypatch.setattr(keystore, "OPERATIONS", 2)
    made = tmp_path / "node.keystore"
    keystore.write(made, "node", SECRET, PASSPHRASE)
    assert keystore.read(made, "node", PASSPHRASE) == SECRET
    assert SECRET not in made.read_bytes()

    def cost() -> tuple[int, int]:
        header = decode(decode(made.read_bytes(), keystore._File, max_bytes=9999).header, keystore._Header, max_bytes=999)
        return header.memory_kib, header.operations

    assert cost() == (65536, 2)
    keystore.replace(made, "node", SECRET, PASSPHRASE)
    assert cost() == (65536, 2)


def test_a_keystore_is_for_its_owner_alone(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for mode in (0o640, 0o604, 0o620, 0o666):
        path.chmod(mode)
        assert f"{mode:04o}" in refused("E-KEYSTORE-MODE", keystore.read, path, "node", PASSPHRASE)
    path.chmod(0o400)
    assert keystore.read(path, "node", PASSPHRASE) == SECRET


def test_no_umask_makes_it_wider(tmp_path):
    before = os.umask(0)
    try:
        keystore.write(tmp_path / "k", "node", SECRET, PASSPHRASE, **CHEAP)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


def test_nothing_is_overwritten(path):
    before = path.read_bytes()
    refused("E-KEYSTORE-EXISTS", keystore.write, path, "node", b"other", PASSPHRASE, **CHEAP)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    dangling = path.with_name("link")
    dangling.symlink_to("nowhere")
    refused("E-KEYSTORE-EXISTS", keystore.write, dangling, "node", SECRET, PASSPHRASE, **CHEAP)


def test_a_file_that_appears_in_between_is_not_overwritten(path, monkeypatch):
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    before = path.read_bytes()
    refused("E-KEYSTORE-EXISTS", keystore.write, path, "node", b"other", PASSPHRASE, **CHEAP)
    assert path.read_bytes() == before


def test_a_wrong_passphrase_or_kind_opens_nothing(path):
    refused("E-KEYSTORE-OPEN", keystore.read, path, "node", b"wrong")
    refused("E-KEYSTORE-OPEN", keystore.read, path, "node", b"")
    assert "another kind" in refused("E-KEYSTORE-OPEN", keystore.read, path, "user", PASSPHRASE)


def test_every_flipped_bit_is_found(path):
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        refused("E-KEYSTORE-OPEN", keystore.read, changed(path, bytes(data)), "node", PASSPHRASE)


def test_every_cut_is_found(path):
    whole = path.read_bytes()
    for size in range(len(whole)):
        refused("E-KEYSTORE-OPEN", keystore.read, changed(path, whole[:size]), "node", PASSPHRASE)
    refused("E-KEYSTORE-OPEN", keystore.read, changed(path, whole + b"\x00"), "node", PASSPHRASE)
    refused("E-FILE", keystore.read, changed(path, whole + bytes(20_000)), "node", PASSPHRASE)


@pytest.mark.parametrize("cost", [(keystore.MEMORY_MAX_KIB + 1, 1), (1 << 40, 1), (8, 17), (8, 1 << 31), (7, 1), (8, 0)])
def test_a_file_that_asks_for_too_much_is_refused_before_any_work(path, cost, monkeypatch):
    def never(*_arguments, **_named):
        raise AssertionError("derived a key for a hostile file")

    monkeypatch.setattr(nacl.pwhash.argon2id, "kdf", never)
    header = keystore._Header("qustream-keystore", 1, "node", *cost, bytes(16), bytes(24))
    hostile = encode(keystore._File(encode(header), bytes(48)))
    refused("E-KEYSTORE-OPEN", keystore.read, changed(path, hostile), "node", PASSPHRASE)


@pytest.mark.parametrize(("magic", "version"), [("another-keystore", 1), ("qustream-keystore", 2)])
def test_other_formats_are_named(path, magic, version):
    header = keystore._Header(magic, version, "node", 8, 1, bytes(16), bytes(24))
    data = encode(keystore._File(encode(header), bytes(48)))
    assert "version 1" in refused("E-KEYSTORE-OPEN", keystore.read, changed(path, data), "node", PASSPHRASE)


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_hostile_files_are_refused(data):
    with tempfile.TemporaryDirectory() as directory:
        refused("E-KEYSTORE-OPEN", keystore.read, changed(Path(directory) / "k", data), "node", PASSPHRASE)


def test_what_is_not_a_file_is_refused(tmp_path):
    refused("E-FILE", keystore.read, tmp_path / "absent", "node", PASSPHRASE)
    refused("E-FILE", keystore.read, tmp_path, "node", PASSPHRASE)
    os.mkfifo(tmp_path / "fifo", 0o600)
    refused("E-FILE", keystore.read, tmp_path / "fifo", "node", PASSPHRASE)
    refused("E-FILE", keystore.write, tmp_path / "absent" / "k", "node", SECRET, PASSPHRASE, **CHEAP)


def test_replacing_needs_the_old_passphrase(path):
    refused("E-KEYSTORE-OPEN", keystore.replace, path, "node", b"new", b"wrong")
    assert keystore.read(path, "node", PASSPHRASE) == SECRET
    keystore.replace(path, "node", b"new", PASSPHRASE)
    assert keystore.read(path, "node", PASSPHRASE) == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_an_empty_passphrase_is_our_own_bug(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        keystore.write(tmp_path / "k", "node", SECRET, b"")


def everything(terminal):
    """What the other end of a terminal still says; Linux ends it with an error when the last process has gone."""
    said = b""
    while True:
        try:
            data = os.read(terminal, 1024)
        except OSError:
            return said
        if not data:
            return said
        said += data


class TestFindingThePassphrase:
    @pytest.fixture(autouse=True)
    def _no_credentials(self, monkeypatch):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def file(self, directory, name, data, mode=0o600):
        (directory / name).write_bytes(data)
        (directory / name).chmod(mode)
        return directory / name

    def test_the_credential_comes_first(self, tmp_path, monkeypatch):
        self.file(tmp_path, "qnode", b"from systemd\n", 0o440)
        other = self.file(tmp_path, "other", b"from a file\n")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert find_passphrase("qnode", file=other, prompt=True) == b"from systemd"
        assert find_passphrase("qrngd", file=other, prompt=True) == b"from a file"

    @pytest.mark.parametrize(("data", "wanted"), [(b"a b", b"a b"), (b"a\n\n", b"a\n"), (b"a\r\n", b"a"), (b" a ", b" a ")])
    def test_one_newline_is_not_part_of_it(self, tmp_path, data, wanted):
        assert find_passphrase("qnode", file=self.file(tmp_path, "f", data), prompt=False) == wanted

    def test_a_file_others_can_read_is_refused(self, tmp_path):
        refused("E-KEYSTORE-MODE", find_passphrase, "qnode", file=self.file(tmp_path, "f", b"a", 0o644), prompt=False)

    def test_an_empty_missing_or_huge_file_is_refused(self, tmp_path):
        refused("E-SECRET-MISSING", find_passphrase, "qnode", file=self.file(tmp_path, "f", b"\n"), prompt=False)
        refused("E-FILE", find_passphrase, "qnode", file=tmp_path / "absent", prompt=True)
        refused("E-FILE", find_passphrase, "qnode", file=self.file(tmp_path, "f", bytes(5000)), prompt=False)

    def test_nobody_to_ask(self, monkeypatch):
        refused("E-SECRET-MISSING", find_passphrase, "qnode", file=None, prompt=False)
        monkeypatch.setattr(os, "isatty", lambda _: False)
        refused("E-SECRET-MISSING", find_passphrase, "qnode", file=None, prompt=True)

    @pytest.mark.parametrize(("typed", "told"), [(b"from a person", b"b'from a person'"), (b"", b"E-SECRET-MISSING")])
    def test_a_person_is_asked_and_not_echoed(self, typed, told):
        script = (
            "from qustream.identity.keystore import find_passphrase\n"
            "try:\n    print(repr(find_passphrase('alice', file=None, prompt=True)))\n"
            "except Exception as error:\n    print(error)\n"
        )
        terminal, other_end = pty.openpty()
        ends = {"stdin": other_end, "stdout": other_end, "stderr": other_end}
        # In its own session, so that the terminal of whoever runs the tests is out of reach.
        child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, **ends)
        os.close(other_end)
        shown = b""
        while not shown.endswith(b"alice: "):
            shown += os.read(terminal, 1024)
        os.write(terminal, typed + b"\n")
        after = everything(terminal)
        assert child.wait() == 0
        os.close(terminal)
        assert told in after
        assert after.count(b"from a person") == (1 if typed else 0)

    @pytest.mark.parametrize("name", ["", "../qnode", "a/b", "-a", "A", "a" * 65])
    def test_a_name_is_no_path(self, name):
        with pytest.raises(ValueError, match="credential"):
            find_passphrase(name, file=None, prompt=False)
