"""`qustream user` and `qustream grant`: a user is entered in the chain and buys requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest
from support.living_chain import BUYER, OPERATOR, PASSPHRASE, Holder, Town, living, peopled

from qustream.cli import cli
from qustream.client.settings import now_ms
from qustream.errors import QuStreamError
from qustream.identity import consents
from qustream.identity.user import UserHome
from qustream.model.ids import IdKind, from_text, to_text
from qustream.rules.pricing import grant_price

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This chain has no block time to wait for."""
    monkeypatch.setattr("qustream.client.chain.LOOK_S", 0.02)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with living(tmp_path_factory.mktemp("town"), peopled()) as going:
        yield going


def made(folder: Path, town: Town, holder: Holder) -> Path:
    """A user who is his own payer: one directory, one passphrase, the same words."""
    UserHome.create(folder, holder.words, "laptop", PASSPHRASE, now_ms=now_ms())
    return holder.wallet(folder, town)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, town: Town) -> Path:
    """A user that the chain knows."""
    folder = made(tmp_path_factory.mktemp("user"), town, BUYER)
    done = qustream(folder, "user", "register", "--yes", input=BUYER.words)
    assert done.exit_code == 0, done.exception
    return folder


def qustream(home: Path, *arguments: object, **options: str) -> click.testing.Result:
    words = ["--home", str(home), "--passphrase-file", str(home / "passphrase"), *map(str, arguments)]
    return click.testing.CliRunner().invoke(cli, words, **options)


def refusal(home: Path, *arguments: object, **options: str) -> str:
    error = qustream(home, *arguments, **options).exception
    assert isinstance(error, QuStreamError), error
    return error.code


def test_a_user_is_registered(tmp_path: Path, town: Town) -> None:
    home = made(tmp_path / "user", town, OPERATOR)
    user = UserHome.load(home, PASSPHRASE)
    assert refusal(home, "grant", "buy", "5", "--yes") == "E-LEDGER-UNKNOWN"
    assert list((home / "grants").glob("*.grant")) == []  # an offer that came to nothing is forgotten
    assert refusal(home, "user", "register", "--yes", input=BUYER.words) == "E-PASSPHRASE-WORDS"
    other = to_text(IdKind.DEVICE, bytes([7]) * 32)
    done = qustream(home, "user", "register", "--device", other, "--yes", "--json", input=OPERATOR.words)
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["action"] == "register-user"
    assert refusal(home, "user", "register", "--yes", input=OPERATOR.words) == "E-LEDGER-KNOWN"
    shown = json.loads(qustream(home, "user", "show", "--json").stdout)
    assert shown["id"] == to_text(IdKind.USER, user.user)
    assert set(shown["devices"]) == {other, to_text(IdKind.DEVICE, user.device.id)}


def test_requests_are_bought(home: Path, town: Town) -> None:
    before = town.world.liquid(BUYER.account)
    done = qustream(home, "grant", "buy", "5", "--lifetime", "12h", "--yes", "--json")
    assert done.exit_code == 0, (done.exception, done.stderr)
    bought = json.loads(done.stdout)
    price = grant_price(town.world.parameters, 5, DAY_MS // 2)
    assert town.world.liquid(BUYER.account) == before - price - int(bought["fee"]["units"])
    [line] = [each for each in json.loads(qustream(home, "grant", "list", "--json").stdout) if each["count"] == 5]
    assert (line["id"], line["left"], line["lifetime_max_ms"]) == (bought["grant"], 5, DAY_MS // 2)
    user = UserHome.load(home, PASSPHRASE)
    [record] = [each for each in user.grants.records() if each.count == 5]
    assert record.grant is not None
    assert to_text(IdKind.GRANT, record.grant.grant) == bought["grant"]
    assert user.next_index(record.grant.grant) == 0
    assert "4 left on this device" in qustream(home, "grant", "list").stdout


def test_devices_come_and_go(home: Path) -> None:
    device = to_text(IdKind.DEVICE, bytes([9]) * 32)
    for command, expected in (("add-device", "devices"), ("revoke-device", "revoked")):
        done = qustream(home, "user", command, device, "--yes", input=BUYER.words)
        assert done.exit_code == 0, done.exception
        assert device in json.loads(qustream(home, "user", "show", "--json").stdout)[expected]
    assert refusal(home, "user", "add-device", device, "--yes", input=BUYER.words) == "E-LEDGER-STATUS"
    assert f"revoked  {device}" in qustream(home, "user", "show").stdout


def test_a_grant_that_was_not_waited_for_is_taken_over_later(home: Path, town: Town) -> None:
    town.holds.set()
    try:
        done = qustream(home, "grant", "buy", "7", "--yes", "--wait", "0")
        assert "qustream grant list" in done.stderr
        assert [r.count for r in UserHome.load(home, PASSPHRASE).grants.records() if r.grant is None] == [7]
        assert refusal(home, "grant", "buy", "8", "--yes", "--wait", "0.1") == "E-DEADLINE"
    finally:
        town.holds.clear()
    assert qustream(home, "wallet", "send", OPERATOR.name, "1", "--yes").exit_code == 0  # behind both of them
    lines = json.loads(qustream(home, "grant", "list", "--json").stdout)
    assert {line["count"]: line["left"] for line in lines if line["count"] in (7, 8)} == {7: 7, 8: 8}
    assert all(r.grant is not None for r in UserHome.load(home, PASSPHRASE).grants.records())


def test_who_says_no_has_bought_nothing_and_offers_nothing(home: Path) -> None:
    before = len(list((home / "grants").glob("*.grant")))
    assert qustream(home, "grant", "buy", "3", input="n\n").exit_code == 2
    assert len(list((home / "grants").glob("*.grant"))) == before


def test_what_is_unused_of_an_ended_grant_is_rolled_over(town: Town, home: Path) -> None:
    old = json.loads(qustream(home, "grant", "buy", "9", "--lifetime", "12h", "--stripes", "1", "--yes", "--json").stdout)["grant"]
    user = UserHome.load(home, PASSPHRASE)
    for _ in range(2):
        user.next_index(from_text(old, IdKind.GRANT))
    assert refusal(home, "grant", "roll-over", old, "--yes") == "E-LEDGER-LOCKED"
    town.pass_time(2 * 3 * DAY_MS)
    asked = qustream(home, "grant", "roll-over", old)
    assert "roll 7 of 9 requests" in asked.stderr
    assert "--yes" in asked.stderr
    done = qustream(home, "grant", "roll-over", old, "--yes", "--json")
    assert done.exit_code == 0, done.exception
    new = json.loads(done.stdout)["grant"]
    [line] = [each for each in json.loads(qustream(home, "grant", "list", "--json").stdout) if each["id"] == new]
    assert (line["count"], line["left"], line["lifetime_max_ms"], line["epoch"]) == (7, 7, DAY_MS // 2, 2)
    assert user.next_index(from_text(new, IdKind.GRANT)) == 0
    before = len(list((home / "grants").glob("*.grant")))
    assert refusal(home, "grant", "roll-over", old, "--yes") == "E-LEDGER-KNOWN"
    assert len(list((home / "grants").glob("*.grant"))) == before  # an offer that came to nothing is forgotten


def test_what_several_devices_share_is_counted_by_who_knows(town: Town, home: Path) -> None:
    old = json.loads(qustream(home, "grant", "buy", "4", "--stripes", "2", "--yes", "--json").stdout)["grant"]
    town.pass_time(2 * 3 * DAY_MS)
    assert "2 devices share" in qustream(home, "grant", "roll-over", old, "--yes").stderr
    assert qustream(home, "grant", "roll-over", old, "--count", "3", "--yes").exit_code == 0
    # Whoever did not buy it rolls nothing over.
    assert refusal(home, "grant", "roll-over", to_text(IdKind.GRANT, bytes(32)), "--yes") == "E-LEDGER-UNKNOWN"


def consent(folder: Path, holder: Holder, user: str, into: str, *options: object) -> tuple[Path, click.testing.Result]:
    """A file of one of two users, made on a machine that knows nothing but his words."""
    file = folder / f"{holder.name[:12]}.consent"
    words = ["--home", str(folder / "nobody"), "user", "agree-merge", user, into, "-o", str(file), *map(str, options)]
    return file, click.testing.CliRunner().invoke(cli, words, input=holder.words)


def test_two_users_are_merged_by_the_consents_of_both(tmp_path: Path, town: Town, home: Path) -> None:
    spare = Holder(3)
    action = consents.register_user(town.name, spare.secrets, [bytes([5]) * 32])
    town.stored.block(town.world.checked(town.world.people[0], action))
    first, into = to_text(IdKind.USER, spare.secrets.master.id), to_text(IdKind.USER, BUYER.secrets.master.id)
    one, made = consent(tmp_path, spare, first, into, "--chain", town.name)
    assert made.exit_code == 0, made.exception
    assert spare.words.split()[0] not in one.read_text()
    other, _ = consent(tmp_path, BUYER, first, into, "--chain", town.name)
    assert refusal(home, "user", "merge", one, one, "--yes") == "E-LEDGER-FORM"
    asked = qustream(home, "user", "merge", other, one)
    assert f"MERGE FOR EVER {first}" in asked.stderr
    done = qustream(home, "user", "merge", other, one, "--yes", "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["action"] == "merge-users"
    shown = qustream(home, "user", "show", first).stdout
    assert f"merged   into {into}" in shown
    assert to_text(IdKind.DEVICE, bytes([5]) * 32) in shown
    assert refusal(home, "user", "merge", one, other, "--yes") == "E-LEDGER-STATUS"


def test_a_consent_is_of_one_of_the_two(tmp_path: Path, home: Path, town: Town) -> None:
    first, into = (to_text(IdKind.USER, bytes([number]) * 32) for number in (1, 2))
    for names, code in (((first, into), "E-PASSPHRASE-WORDS"), ((first, first), "E-LEDGER-STATUS")):
        file, made = consent(tmp_path, BUYER, *names, "--chain", town.name)
        assert isinstance(made.exception, QuStreamError)
        assert (made.exception.code, file.exists()) == (code, False)
    _, made = consent(tmp_path, BUYER, first, into)  # which chain?
    assert isinstance(made.exception, QuStreamError)
    assert made.exception.code == "E-HOME"


def test_a_lifetime_that_is_not_sold(home: Path) -> None:
    assert refusal(home, "grant", "buy", "3", "--lifetime", "8d", "--yes") == "E-LEDGER-PRICE"
    assert qustream(home, "grant", "buy", "0", "--yes").exit_code == 2
