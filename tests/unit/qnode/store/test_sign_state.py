"""What a validator has signed is kept whole, or nothing is signed."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qnode.core.consensus_events import OwnVotes, SignState
from qnode.store.sign_state import SignStateFile, forbids_all_of
from qustream.errors import QuStreamError

A, B = b"a" * 32, b"b" * 32
STATE = SignState(3, 7, {8: OwnVotes(b"", A, False, A), 9: OwnVotes(B, B, True, b"")})
DIGESTS = st.sampled_from([b"", A, B])
VOTES = st.dictionaries(st.integers(1, 6), st.builds(OwnVotes, DIGESTS, DIGESTS, st.booleans(), DIGESTS), max_size=4)
STATES = st.builds(SignState, st.integers(0, 2), st.integers(0, 5), VOTES)


def code(call, *arguments):
    with pytest.raises(QuStreamError) as caught:
        call(*arguments)
    return caught.value.code


def test_what_was_saved_is_there_again(tmp_path):
    file = SignStateFile(tmp_path / "votes", b"key")
    file.begin()
    assert file.load() == SignState()
    file.save(STATE)
    assert SignStateFile(tmp_path / "votes", b"key").load() == STATE
    assert stat.S_IMODE(os.stat(tmp_path / "votes").st_mode) == 0o600
    assert os.listdir(tmp_path) == ["votes"]


def test_a_missing_file_is_never_taken_for_an_empty_one(tmp_path):
    file = SignStateFile(tmp_path / "votes")
    assert code(file.load) == "E-DATA-CORRUPT"
    file.begin()
    file.save(STATE)
    os.unlink(file.path)
    assert code(file.load) == "E-DATA-CORRUPT"


def test_a_key_that_has_signed_does_not_begin_again(tmp_path):
    file = SignStateFile(tmp_path / "votes")
    file.begin()
    file.save(STATE)
    assert code(file.begin) == "E-FILE-EXISTS"
    assert file.load() == STATE


def test_every_flipped_bit_and_every_torn_end_is_noticed(tmp_path):
    file = SignStateFile(tmp_path / "votes")
    file.save(STATE)
    whole = file.path.read_bytes()
    for at in range(len(whole)):
        file.path.write_bytes(whole[:at])
        assert code(file.load) == "E-DATA-CORRUPT", f"the first {at} bytes"
        file.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert code(file.load) == "E-DATA-CORRUPT", f"byte {at}"
    file.path.write_bytes(whole.ljust(4096, b"\0"))
    assert code(file.load) == "E-DATA-CORRUPT"
    file.path.write_bytes(whole)
    assert file.load() == STATE


def test_another_key_s_file_is_refused(tmp_path):
    SignStateFile(tmp_path / "votes", b"one").begin()
    assert code(SignStateFile(tmp_path / "votes", b"two").load) == "E-DATA-CORRUPT"


def test_others_may_not_read_it(tmp_path):
    file = SignStateFile(tmp_path / "votes")
    file.begin()
    os.chmod(file.path, 0o644)
    assert code(file.load) == "E-KEYSTORE-MODE"


def test_a_failed_save_leaves_the_old_one(tmp_path, monkeypatch):
    file = SignStateFile(tmp_path / "votes")
    file.save(STATE)

    def no_sync(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_sync)
    assert code(file.save, SignState(9)) == "E-DISK-FULL"
    monkeypatch.undo()
    assert file.load() == STATE


def test_file_and_directory_are_on_the_disk_before_save_returns(tmp_path, monkeypatch):
    """The order that makes a rename safe: the file, then the name."""
    file, done = SignStateFile(tmp_path / "votes"), []
    real_sync, real_rename = os.fsync, os.rename

    def sync(handle):
        done.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_sync(handle)

    def rename(source, target):
        done.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    file.save(STATE)
    assert done == ["file", "rename", "directory"]


def test_moving(tmp_path):
    old, new = SignStateFile(tmp_path / "old", b"key"), SignStateFile(tmp_path / "new", b"key")
    old.save(STATE)
    old.export_to(tmp_path / "moved")
    assert code(old.export_to, tmp_path / "moved") == "E-FILE-EXISTS"
    assert new.import_from(tmp_path / "moved") == STATE
    assert new.load() == STATE
    assert code(new.import_from, tmp_path / "moved") == "E-FILE-EXISTS"  # equal is not newer
    new.save(SignState(3, 8, {9: STATE.votes[9]}))
    assert code(new.import_from, tmp_path / "moved") == "E-FILE-EXISTS"
    assert code(SignStateFile(tmp_path / "third", b"other").import_from, tmp_path / "moved") == "E-DATA-CORRUPT"
    assert not (tmp_path / "third").exists()


def test_importing_over_a_damaged_file_is_refused(tmp_path):
    """What it forbade is not known: it may have been more than what comes."""
    file = SignStateFile(tmp_path / "votes")
    file.save(STATE)
    file.export_to(tmp_path / "moved")
    file.path.write_bytes(b"damaged")
    assert code(file.import_from, tmp_path / "moved") == "E-DATA-CORRUPT"


def allowed(state: SignState, rotation: int, view: int) -> set[str]:
    """What may still be signed in a view by the rules C2 to C5."""
    if rotation < state.rotation or (rotation == state.rotation and view <= state.final_view):
        return set()
    own = state.votes.get(view, OwnVotes()) if rotation == state.rotation else OwnVotes()
    out = {f"proposal {name!r}" for name in (A, B) if own.proposed in (b"", name)}
    out |= {f"notar {name!r}" for name in (A, B) if own.notarised in (b"", name) and not own.skipped}
    out |= {f"final {name!r}" for name in (A, B) if own.finalised in (b"", name) and not own.skipped and own.notarised in (b"", name)}
    return out | ({"skip"} if not own.finalised else set())


@given(STATES, STATES)
def test_newer_allows_nothing_that_older_forbids(newer, older):
    if forbids_all_of(newer, older):
        for rotation in range(4):
            for view in range(1, 8):
                assert allowed(newer, rotation, view) <= allowed(older, rotation, view)


@given(STATES)
def test_every_state_forbids_what_it_forbids(state):
    assert forbids_all_of(state, state)
