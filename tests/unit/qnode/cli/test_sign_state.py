"""`qnode validator sign-state` and the file that `qnode validator keys` begins, as an operator moves a validator."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import click.testing
import pytest

from qnode.cli import cli
from qnode.core.consensus_events import OwnVotes, SignState
from qnode.store.sign_state import SignStateFile
from qustream.errors import QuStreamError
from qustream.identity import voting
from qustream.identity.voting import VoteKey
from qustream.model.ids import IdKind, to_text

PASSPHRASE = b"correct horse"


def run(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments])


def code_of(result: click.testing.Result) -> str:
    return result.exception.code if isinstance(result.exception, QuStreamError) else f"exit {result.exit_code}"


class Machine:
    """A computer with a configuration, and perhaps a vote keystore."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        (folder / "passphrase").write_bytes(PASSPHRASE)
        (folder / "passphrase").chmod(0o600)
        values = {
            "chain": "c",
            "genesis_file": "g",
            "data_dir": "data",
            "keystore": "k",
            "listen": ["127.0.0.1:1"],
            "passphrase_file": "passphrase",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        server = f'[[qrngd]]\naddress = "127.0.0.1:9"\nid = "{to_text(IdKind.QRNG, bytes(32))}"'
        (folder / "qnode.toml").write_text("\n".join([*lines, '[validator]\nvote_keystore = "votes.keystore"', server]))

    def keys(self) -> click.testing.Result:
        return run("validator", "keys", self.folder / "votes.keystore", "--links", "10", "--passphrase-file", self.folder / "passphrase")

    @property
    def memory(self) -> SignStateFile:
        key = VoteKey(voting.read(self.folder / "votes.keystore", PASSPHRASE).seed)
        return SignStateFile(self.folder / "sign-state", key.id)

    def __call__(self, *arguments: object) -> click.testing.Result:
        return run("validator", "sign-state", *arguments, "--config", self.folder / "qnode.toml")


@pytest.fixture
def old(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "old")
    assert made.keys().exit_code == 0
    made.memory.save(SignState(3, 40, {41: OwnVotes(notarised=b"n" * 32)}))
    return made


@pytest.fixture
def new(tmp_path: Path, old: Machine) -> Machine:
    made = Machine(tmp_path / "new")
    for name in ("votes.keystore",):
        (made.folder / name).write_bytes((old.folder / name).read_bytes())
        (made.folder / name).chmod(0o600)
    return made


def test_a_new_key_remembers_that_it_has_signed_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m")
    assert machine.keys().exit_code == 0
    assert machine.memory.load() == SignState()
    said = machine("show").stdout
    assert "rotation 0" in said
    assert str(machine.folder / "sign-state") in said


def test_keys_that_are_there_stay_and_so_does_what_is_remembered(old: Machine) -> None:
    before = {path.name: path.read_bytes() for path in old.folder.iterdir() if path.is_file()}
    assert code_of(old.keys()) == "E-KEYSTORE-EXISTS"
    assert {path.name: path.read_bytes() for path in old.folder.iterdir() if path.is_file()} == before


def test_a_new_key_does_not_take_the_place_of_another_keys_memory(old: Machine) -> None:
    (old.folder / "votes.keystore").unlink()
    before = (old.folder / "sign-state").read_bytes()
    assert code_of(old.keys()) == "E-FILE-EXISTS"
    assert not (old.folder / "votes.keystore").exists()
    assert (old.folder / "sign-state").read_bytes() == before


def test_a_validator_moves_whole_and_the_old_machine_votes_no_more(tmp_path: Path, old: Machine, new: Machine) -> None:
    state = old.memory.load()
    assert old("export", tmp_path / "out").exit_code == 0
    assert code_of(old("show")) == "E-DATA-CORRUPT"  # as `qnode run` would say
    assert (old.folder / "sign-state.moved").exists()
    assert new("import", tmp_path / "out").exit_code == 0
    assert new.memory.load() == state


def test_what_is_not_newer_is_refused(tmp_path: Path, old: Machine, new: Machine) -> None:
    assert old("export", tmp_path / "out").exit_code == 0
    assert new("import", tmp_path / "out").exit_code == 0
    assert code_of(new("import", tmp_path / "out")) == "E-FILE-EXISTS"
    new.memory.save(SignState(3, 50, {}))
    assert code_of(new("import", tmp_path / "out")) == "E-FILE-EXISTS"
    assert new.memory.load() == SignState(3, 50, {})


def test_an_export_overwrites_nothing_and_then_takes_nothing_away(tmp_path: Path, old: Machine) -> None:
    (tmp_path / "out").write_text("mine")
    assert code_of(old("export", tmp_path / "out")) == "E-FILE-EXISTS"
    assert (tmp_path / "out").read_text() == "mine"
    assert old.memory.load().rotation == 3


@pytest.mark.parametrize("command", ["export", "import"])
def test_while_the_node_runs_nothing_is_moved(tmp_path: Path, old: Machine, command: str) -> None:
    before = (old.folder / "sign-state").read_bytes()
    with (old.folder / "data" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert code_of(old(command, tmp_path / "out")) == "E-DATA-LOCKED"
    assert ((old.folder / "sign-state").read_bytes(), (tmp_path / "out").exists()) == (before, False)


def test_another_keys_memory_is_not_taken_over(tmp_path: Path, old: Machine) -> None:
    other = Machine(tmp_path / "other")
    assert other.keys().exit_code == 0
    assert old("export", tmp_path / "out").exit_code == 0
    (other.folder / "sign-state").unlink()
    assert code_of(other("import", tmp_path / "out")) == "E-DATA-CORRUPT"
    assert not (other.folder / "sign-state").exists()


def test_a_node_that_does_not_vote_has_nothing_to_move(tmp_path: Path, old: Machine) -> None:
    text = (old.folder / "qnode.toml").read_text()
    (old.folder / "qnode.toml").write_text(text.replace('[validator]\nvote_keystore = "votes.keystore"\n', ""))
    assert code_of(old("export", tmp_path / "out")) == "E-CONFIG"
