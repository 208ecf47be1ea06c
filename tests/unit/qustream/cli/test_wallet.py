"""`qustream wallet` as somebody types it, against a chain that goes on."""

from __future__ import annotations

import itertools
import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest
from support.living_chain import BUYER, OPERATOR, PASSPHRASE, Town, living, peopled

from qustream.cli import cli
from qustream.errors import QuStreamError
from qustream.identity.words import UserSecrets
from qustream.model.ids import IdKind, account_id, from_text, to_text

QUSTREAM = Path(sys.executable).parent / "qustream"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This chain has no block time to wait for."""
    monkeypatch.setattr("qustream.client.chain.LOOK_S", 0.02)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with living(tmp_path_factory.mktemp("town"), peopled()) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, town: Town) -> Path:
    return OPERATOR.wallet(tmp_path / "operator", town)


def qustream(home: Path, *arguments: object, **options: str) -> click.testing.Result:
    words = ["--home", str(home), "--passphrase-file", str(home / "passphrase"), *map(str, arguments)]
    return click.testing.CliRunner().invoke(cli, words, **options)


def refusal(home: Path, *arguments: object) -> str:
    error = qustream(home, *arguments).exception
    assert isinstance(error, QuStreamError), error
    return error.code


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    file = tmp_path / "new" / "passphrase"
    file.write_bytes(PASSPHRASE)
    file.chmod(0o600)
    return tmp_path / "new"


def test_a_new_account_is_shown_with_its_words_once(passphrase: Path) -> None:
    made = qustream(passphrase, "wallet", "new", "--chain", "a-chain", "--words", "24")
    assert made.exit_code == 0, made.exception
    [words] = [line.strip() for line in made.stderr.splitlines() if len(line.split()) == 24]
    account = to_text(IdKind.ACCOUNT, account_id(UserSecrets.from_words(words).account.id))
    assert made.stdout.strip() == account
    kept = b"".join(path.read_bytes() for path in passphrase.iterdir())
    assert not any(" ".join(pair).encode() in kept for pair in itertools.pairwise(words.split()))
    assert stat.S_IMODE((passphrase / "account.keystore").stat().st_mode) == 0o600
    again = qustream(passphrase, "wallet", "new", "--chain", "a-chain")
    assert isinstance(again.exception, QuStreamError)
    assert again.exception.code == "E-KEYSTORE-EXISTS"


def test_words_are_read_from_standard_input_or_a_file_and_never_from_the_command_line(passphrase: Path, town: Town) -> None:
    made = qustream(passphrase, "wallet", "restore", "--chain", town.name, "--api", town.api, input=f"  {OPERATOR.words.upper()}\n")
    assert made.stdout.strip() == OPERATOR.name, made.exception
    file = passphrase / "words"
    file.write_text(BUYER.words + "\n")
    (passphrase / "account.keystore").unlink()
    assert refusal(passphrase, "wallet", "restore", "--chain", town.name, "--words-file", file) == "E-KEYSTORE-MODE"
    file.chmod(0o600)
    assert qustream(passphrase, "wallet", "restore", "--chain", town.name, "--words-file", file).stdout.strip() == BUYER.name
    for command in ("restore", "new"):
        assert qustream(passphrase, "wallet", command, "--words", OPERATOR.words, "--chain", "c").exit_code == 2
    assert refusal(passphrase, "wallet", "restore", "--chain", "c", "--api", "ftp://x") == "E-CONFIG"


def test_wrong_words_make_nothing(passphrase: Path) -> None:
    made = qustream(passphrase, "wallet", "restore", "--chain", "c", input="legal winner\n")
    assert isinstance(made.exception, QuStreamError)
    assert (made.exception.code, "legal" in str(made.exception)) == ("E-PASSPHRASE-WORDS", False)
    assert sorted(path.name for path in passphrase.iterdir()) == ["passphrase"]
    assert refusal(passphrase, "wallet", "restore", "--chain", "c") == "E-SECRET-MISSING"


def test_a_balance(home: Path, town: Town) -> None:
    own, named = qustream(home, "wallet", "balance"), qustream(home, "wallet", "balance", BUYER.name, "--json")
    assert f"account   {OPERATOR.name}" in own.stdout
    assert "QST" in own.stdout
    assert own.stdout.count("idle") == 3
    page = json.loads(named.stdout)
    assert page["account"] == BUYER.name
    assert int(page["balance"]["units"]) > 0


def test_sending_and_what_came_of_it(home: Path, town: Town) -> None:
    before = town.world.liquid(BUYER.account)
    done = qustream(home, "wallet", "send", BUYER.name, "12.5", "--yes", "--json")
    assert done.exit_code == 0, done.exception
    page = json.loads(done.stdout)
    assert (page["state"], page["code"], page["fields"]["amount"]["qst"]) == ("executed", "", "12.500000000")
    assert town.world.liquid(BUYER.account) == before + 12_500_000_000
    text = qustream(home, "wallet", "send", BUYER.name, "0.000000001 QST", "--yes")
    assert text.stdout.startswith("final in block ")
    assert "transferred 0.000000001 QST" in text.stdout
    history = qustream(home, "wallet", "history", "--limit", "2")
    assert history.stdout.count("transferred") == 2
    entries = json.loads(qustream(home, "wallet", "history", BUYER.name, "--json").stdout)["entries"]
    assert [entry["events"][0]["amount"]["units"] for entry in entries[:2]] == ["1", "12500000000"]


def test_nothing_is_sent_that_nobody_has_said_yes_to(home: Path, town: Town) -> None:
    before = town.world.progress.height
    asked = qustream(home, "wallet", "send", BUYER.name, "5", input="y\n")
    assert asked.exit_code == 2
    assert "send 5 QST" in asked.stderr
    assert "--yes" in asked.stderr
    assert town.world.progress.height == before


@pytest.mark.parametrize(
    ("to", "amount"), [("qst1abc", "5"), (OPERATOR.name[:-1], "5"), (BUYER.name, "1,000"), (BUYER.name, "-5"), (BUYER.name, "5.0000000001")]
)
def test_what_cannot_be_meant_is_refused_before_anything_is_signed(home: Path, town: Town, to: str, amount: str) -> None:
    before = town.world.progress.height
    done = qustream(home, "wallet", "send", "--yes", "--", to, amount)
    assert done.exit_code in (1, 2, 78)
    assert town.world.progress.height == before


def test_refusals_have_their_codes_and_cost_nothing(home: Path, town: Town) -> None:
    before = town.world.liquid(OPERATOR.account)
    assert refusal(home, "wallet", "send", BUYER.name, "2000000", "--yes") == "E-LEDGER-FUNDS"
    assert refusal(home, "wallet", "send", OPERATOR.name, "1", "--yes").startswith("E-LEDGER-")
    assert refusal(home, "wallet", "send", BUYER.name, "1", "--yes", "--api", "http://127.0.0.1:9") == "E-PEER-UNREACHABLE"
    assert town.world.liquid(OPERATOR.account) == before


def test_a_node_cannot_make_up_fees(home: Path, town: Town) -> None:
    done = qustream(home, "wallet", "send", BUYER.name, "1", "--yes", "--fee-max", "0.001")
    assert isinstance(done.exception, QuStreamError)
    assert (done.exception.code, "--fee-max" in done.exception.detail) == ("E-LEDGER-FEE", True)


def test_a_wallet_of_another_chain_signs_nothing_for_this_one(passphrase: Path, town: Town) -> None:
    qustream(passphrase, "wallet", "restore", "--chain", "another", "--api", town.api, input=OPERATOR.words + "\n")
    assert refusal(passphrase, "wallet", "send", BUYER.name, "1", "--yes") == "E-PEER-CHAIN"


def test_not_waiting(home: Path, town: Town) -> None:
    town.holds.set()
    try:
        done = qustream(home, "wallet", "send", BUYER.name, "1", "--yes", "--wait", "0", "--json")
        assert json.loads(done.stdout) == {"state": "waiting"}
        assert done.stderr.startswith("sent ")
        assert "waiting   1 transactions" in qustream(home, "wallet", "balance").stdout
        assert refusal(home, "wallet", "send", BUYER.name, "1", "--yes", "--wait", "0.1") == "E-DEADLINE"
    finally:
        town.holds.clear()
    done = qustream(home, "wallet", "send", BUYER.name, "1", "--yes")
    assert done.exit_code == 0


def at_a_terminal(arguments: list[str], typed: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """A real process at a real terminal; `typed`: what is waited for, and what is typed then."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([QUSTREAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True)
    os.close(theirs)
    seen = b""
    try:
        for prompt, answer in typed:
            while prompt not in seen:
                seen += os.read(ours, 4096)
            os.write(ours, answer)
            seen += b"|"
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:
                break  # the process has left the terminal
    finally:
        code = process.wait(60)
        os.close(ours)
    return code, seen


def test_at_a_terminal_it_asks_and_takes_no_for_an_answer(home: Path, town: Town) -> None:
    send = ["--home", str(home), "wallet", "send", BUYER.name, "3"]
    before = town.world.liquid(BUYER.account)
    code, seen = at_a_terminal(send, [(b"Passphrase", PASSPHRASE + b"\n"), (b"[y/N]", b"n\n")])
    assert (code, town.world.liquid(BUYER.account)) == (130, before), seen
    assert b"send 3 QST" in seen
    assert b"fee 0.0" in seen
    code, seen = at_a_terminal(send, [(b"Passphrase", PASSPHRASE + b"\n"), (b"[y/N]", b"y\n")])
    assert (code, town.world.liquid(BUYER.account)) == (0, before + 3 * 10**9), seen
    assert PASSPHRASE not in seen


def test_words_typed_at_a_terminal_are_not_shown(passphrase: Path) -> None:
    restore = ["--home", str(passphrase), "--passphrase-file", str(passphrase / "passphrase"), "wallet", "restore", "--chain", "c"]
    code, seen = at_a_terminal(restore, [(b"The words", OPERATOR.words.encode() + b"\n")])
    assert code == 0
    assert OPERATOR.name.encode() in seen
    assert OPERATOR.words.split()[0].encode() not in seen


def test_names_are_what_they_say() -> None:
    assert from_text(OPERATOR.name, IdKind.ACCOUNT) == OPERATOR.account
