"""`qustream wallet watch`, `sign`, `submit`: three machines, of which one has the key and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import msgspec
import pytest
from support.living_chain import BUYER, OPERATOR, PASSPHRASE, Town, living, peopled

from qustream.cli import cli
from qustream.errors import QuStreamError
from qustream.identity.carried import OLD_MS
from qustream.identity.wallet import OFFLINE_BLOCKS, Wallet
from qustream.wire.codec import decode, encode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Body, Transfer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This chain has no block time to wait for."""
    monkeypatch.setattr("qustream.client.chain.LOOK_S", 0.02)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with living(tmp_path / "town", peopled()) as made:
        yield made


@pytest.fixture
def online(tmp_path: Path, town: Town) -> Path:
    """A machine with a network that knows whose account it is, and has no key."""
    home = tmp_path / "online"
    made = qustream(home, "wallet", "watch", OPERATOR.name, "--chain", town.name, "--api", town.api)
    assert made.stdout.strip() == OPERATOR.name, made.exception
    return home


@pytest.fixture
def vault(tmp_path: Path, town: Town) -> Path:
    """The machine with the key: it knows no node."""
    home = tmp_path / "vault"
    Wallet.create(home, OPERATOR.words, PASSPHRASE, chain=town.name)
    (home / "passphrase").write_bytes(PASSPHRASE)
    (home / "passphrase").chmod(0o600)
    return home


def qustream(home: Path, *arguments: object, **options: str) -> click.testing.Result:
    words = ["--home", str(home), "--passphrase-file", str(home / "passphrase"), *map(str, arguments)]
    return click.testing.CliRunner().invoke(cli, words, **options)


def refusal(home: Path, *arguments: object) -> str:
    error = qustream(home, *arguments).exception
    assert isinstance(error, QuStreamError), error
    return error.code


def drafted(online: Path, file: Path, *arguments: object) -> Any:
    done = qustream(online, *arguments, "--unsigned", file)
    assert done.exit_code == 0, (done.exception, done.stderr)
    return json.loads(file.read_bytes())


def test_what_is_carried_says_all_and_nothing_secret(town: Town, online: Path, vault: Path, tmp_path: Path) -> None:
    file, before = tmp_path / "send.json", town.world.liquid(BUYER.account)
    said = drafted(online, file, "wallet", "send", BUYER.name, "12.5")
    height = town.world.progress.height
    assert (said["chain"], said["account"], said["nonce"], said["action"]) == (town.name, OPERATOR.name, 0, "transfer")
    assert (said["expires"], said["with_key"], said["qustream"]) == (height + OFFLINE_BLOCKS, True, "to be signed")
    assert said["fee"].endswith(" QST")
    asked = qustream(vault, "wallet", "sign", file)
    assert asked.exit_code == 2
    assert "amount 12.5 QST" in asked.stderr
    assert f"nonce 0, good to block {height + OFFLINE_BLOCKS}, fee {said['fee']}" in asked.stderr
    assert BUYER.name in asked.stderr
    signed = qustream(vault, "wallet", "sign", file, "--yes")
    assert signed.exit_code == 0, signed.exception
    assert refusal(vault, "wallet", "sign", file, "--yes") == "E-FILE-EXISTS"
    seed = Wallet.load(vault, PASSPHRASE)._key.seed
    carried = [path.read_bytes() for path in (file, tmp_path / "send.json.signed")]
    assert not any(secret in data for data in carried for secret in (seed, seed.hex().encode(), OPERATOR.words.split()[3].encode()))
    assert town.world.progress.height == height  # so far nobody has sent anything

    done = qustream(online, "wallet", "submit", tmp_path / "send.json.signed", "--json")
    assert done.exit_code == 0, done.exception
    page = json.loads(done.stdout)
    assert (page["state"], page["code"]) == ("executed", "")
    assert town.world.liquid(BUYER.account) == before + 12_500_000_000
    # Once more is the same once.
    again = qustream(online, "wallet", "submit", tmp_path / "send.json.signed", "--json")
    assert json.loads(again.stdout)["height"] == page["height"]
    assert town.world.liquid(BUYER.account) == before + 12_500_000_000


def test_several_are_signed_in_one_journey(town: Town, online: Path, vault: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{nonce}.json" for nonce in range(3)]
    for nonce, file in enumerate(files):
        assert drafted(online, file, "wallet", "send", BUYER.name, "1", "--nonce", nonce)["nonce"] == nonce
        assert qustream(vault, "wallet", "sign", file, "--yes", "-o", tmp_path / f"{nonce}.signed").exit_code == 0
    before = town.world.liquid(BUYER.account)
    for nonce in range(3):
        done = qustream(online, "wallet", "submit", tmp_path / f"{nonce}.signed")
        assert done.stdout.startswith("final in block"), done.exception
    assert town.world.liquid(BUYER.account) == before + 3_000_000_000


def test_without_the_key_nothing_is_sent(town: Town, online: Path, tmp_path: Path) -> None:
    missing = qustream(online, "wallet", "send", BUYER.name, "1", "--yes")
    assert missing.exit_code == 2
    assert "--unsigned FILE" in missing.stderr
    assert refusal(online, "wallet", "sign", tmp_path / "none") == "E-FILE"
    file = tmp_path / "send.json"
    drafted(online, file, "wallet", "send", BUYER.name, "1")
    assert refusal(online, "wallet", "sign", file, "--yes") == "E-HOME"
    assert refusal(online, "wallet", "restore", "--chain", town.name) == "E-KEYSTORE-EXISTS"
    assert refusal(online, "wallet", "watch", BUYER.name, "--chain", town.name) == "E-KEYSTORE-EXISTS"
    assert qustream(online, "wallet", "balance").stdout.startswith(f"account   {OPERATOR.name}")
    assert qustream(online, "wallet", "send", BUYER.name, "1", "--nonce", "4", "--yes").exit_code == 2


def changed(file: Path, **fields: Any) -> Path:
    said = json.loads(file.read_bytes())
    out = file.with_name("changed.json")
    out.write_text(json.dumps(said | fields))
    return out


def test_words_that_are_not_what_is_signed(town: Town, online: Path, vault: Path, tmp_path: Path) -> None:
    file = tmp_path / "send.json"
    said = drafted(online, file, "wallet", "send", BUYER.name, "1")
    for name, value in (("fee", "0.001 QST"), ("nonce", 7), ("expires", 5), ("chain", "x"), ("account", BUYER.name), ("action", "stake")):
        assert refusal(vault, "wallet", "sign", changed(file, **{name: value}), "--yes") == "E-LEDGER-FORM", name
    for broken in ("", "{}", "[]", json.dumps(said | {"body": "AAAA"}), json.dumps(said | {"qustream": "signed"})):
        (tmp_path / "broken").write_text(broken)
        assert refusal(vault, "wallet", "sign", tmp_path / "broken", "--yes") == "E-LEDGER-FORM"
    body = decode(base64.b64decode(said["body"]), Body, max_bytes=TRANSACTION_MAX_BYTES)
    # Somebody else's account, or another chain: said openly, and not signed here.
    for other in (msgspec.structs.replace(body, sender=BUYER.account), msgspec.structs.replace(body, chain="another")):
        words = {"account": BUYER.name if other.sender == BUYER.account else OPERATOR.name, "chain": other.chain}
        file_of = changed(file, **words, body=base64.b64encode(encode(other)).decode())
        assert refusal(vault, "wallet", "sign", file_of, "--yes") == "E-LEDGER-FORM"
    dear = msgspec.structs.replace(body, fee=2 * 10**9, action=Transfer(BUYER.account, 1))
    file_of = changed(file, fee="2 QST", body=base64.b64encode(encode(dear)).decode())
    assert refusal(vault, "wallet", "sign", file_of, "--yes") == "E-LEDGER-FEE"
    assert qustream(vault, "wallet", "sign", file_of, "--yes", "--fee-max", "2").exit_code == 0


def test_what_is_stale_is_refused(town: Town, online: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "send.json"
    said = drafted(online, file, "wallet", "send", BUYER.name, "1")
    old = changed(file, made_ms=said["made_ms"] - OLD_MS - 60_000)
    assert refusal(vault, "wallet", "sign", old, "--yes") == "E-LEDGER-EXPIRED"
    assert qustream(vault, "wallet", "sign", file, "--yes").exit_code == 0
    # The account has done something else meanwhile.
    assert qustream(OPERATOR.wallet(tmp_path / "elsewhere", town), "wallet", "send", BUYER.name, "2", "--yes").exit_code == 0
    assert refusal(online, "wallet", "submit", tmp_path / "send.json.signed") == "E-LEDGER-NONCE"
    # Or too many blocks have come.
    monkeypatch.setattr("qustream.cli.paying.OFFLINE_BLOCKS", 2)
    drafted(online, tmp_path / "short.json", "wallet", "send", BUYER.name, "1")
    assert qustream(vault, "wallet", "sign", tmp_path / "short.json", "--yes").exit_code == 0
    for _ in range(3):
        town.pass_time(1_000)
    assert refusal(online, "wallet", "submit", tmp_path / "short.json.signed") == "E-LEDGER-EXPIRED"


def test_what_is_of_another_chain_is_not_submitted(town: Town, online: Path, vault: Path, tmp_path: Path) -> None:
    file = tmp_path / "send.json"
    drafted(online, file, "wallet", "send", BUYER.name, "1")
    assert qustream(vault, "wallet", "sign", file, "--yes").exit_code == 0
    other = tmp_path / "other"
    assert qustream(other, "wallet", "watch", OPERATOR.name, "--chain", "another", "--api", town.api).exit_code == 0
    assert refusal(other, "wallet", "submit", tmp_path / "send.json.signed") == "E-LEDGER-FORM"
    tampered = changed(tmp_path / "send.json.signed", id="00" * 32)
    assert refusal(online, "wallet", "submit", tampered) == "E-LEDGER-FORM"


def test_what_the_chain_would_refuse_is_not_sent(town: Town, online: Path, vault: Path, tmp_path: Path) -> None:
    file = tmp_path / "send.json"
    drafted(online, file, "wallet", "send", BUYER.name, "5000000")
    assert qustream(vault, "wallet", "sign", file, "--yes").exit_code == 0
    height = town.world.progress.height
    assert refusal(online, "wallet", "submit", tmp_path / "send.json.signed") == "E-LEDGER-FUNDS"
    assert town.world.progress.height == height
