"""What a wallet signs by where it has a checkpoint, and what it says where it has none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click.testing
import pytest
from msgspec.structs import replace
from support.ledger_world import key
from support.living_chain import BUYER, OPERATOR, PASSPHRASE, Town, living, peopled

from qustream.cli import cli
from qustream.client import proven
from qustream.client.chain import ChainClient
from qustream.client.settings import write_chain_config
from qustream.errors import QuStreamError, fault
from qustream.identity import wallet
from qustream.identity.wallet import Wallet
from qustream.light.registry import LightRegistry
from qustream.model.ids import IdKind, to_text
from qustream.model.state import Account, Parameters

CHECKPOINT = to_text(IdKind.CHECKPOINT, bytes(32))
NODE = f"{to_text(IdKind.NODE, key('node', 0).id)}@127.0.0.1:9"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """This chain has no block time to wait for."""
    monkeypatch.setattr("qustream.client.chain.LOOK_S", 0.02)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with living(tmp_path_factory.mktemp("town"), peopled()) as made:
        yield made


class Proving:
    """What a quorum has signed, a few blocks ago. Whoever asks a node of the town hears what that one says."""

    def __init__(self, town: Town, **fields: int) -> None:
        self.height = town.world.progress.height
        self._held = replace(town.world.state().get(5, BUYER.account, Account) or Account(0, 0), **fields)
        self._parameters = town.world.parameters
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def account(self, _: bytes) -> Account:
        return self._held

    def parameters(self) -> Parameters:
        return self._parameters


def test_nonce_fee_and_money_are_the_proven_ones(town: Town) -> None:
    client = ChainClient(town.api, town.name)
    told = client.terms(BUYER.account)
    terms, held = proven.proven_terms(client, Proving(town, nonce=4, liquid=7), BUYER.account)
    # The node is behind, or says so: what is proven has happened.
    assert (told.nonce, terms.nonce, terms.knows_key, held.liquid) == (0, 4, True, 7)
    prover = Proving(town, nonce=0)
    prover._parameters = replace(prover._parameters, fee_byte=5)
    terms, _ = proven.proven_terms(client, prover, BUYER.account)
    assert (terms.nonce, terms.knows_key, terms.parameters.fee_byte) == (0, False, 5)
    prover.height = 10**6
    assert proven.proven_terms(client, prover, BUYER.account)[0].height == 10**6


def qustream(home: Path, *arguments: object, **options: str) -> click.testing.Result:
    words = ["--home", str(home), "--passphrase-file", str(home / "passphrase"), *map(str, arguments)]
    return click.testing.CliRunner().invoke(cli, words, **options)


def test_a_balance_that_nothing_proves_says_so(town: Town, tmp_path: Path) -> None:
    home = BUYER.wallet(tmp_path / "buyer", town)
    shown = qustream(home, "wallet", "balance")
    assert f"not proven: {town.api} says so; with --checkpoint and --node" in shown.stderr
    assert json.loads(qustream(home, "wallet", "balance", "--json").stdout)["proven"] is None
    asked = qustream(home, "wallet", "send", OPERATOR.name, "1")
    assert f"({town.api} says so; nothing proves it)" in asked.stderr
    assert f"not proven: {town.api} says so" in qustream(home, "wallet", "history").stderr


def test_a_balance_that_is_proven_is_the_one_that_counts(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = BUYER.wallet(tmp_path / "buyer", town)
    prover, given = Proving(town, liquid=3 * 10**9), list[Proving]()

    def give(*_: object) -> Proving:
        given.append(prover)
        return prover

    for module in ("paying", "wallet"):
        monkeypatch.setattr(import_module(f"qustream.cli.{module}"), "open_prover", give)
    shown = qustream(home, "wallet", "balance")
    assert f"liquid    3 QST, proven after block {prover.height}" in shown.stdout
    assert "1000000 QST says the node" in shown.stdout
    assert "says so, but for what is said to be" in shown.stderr
    page = json.loads(qustream(home, "wallet", "balance", "--json").stdout)
    assert page["proven"] == {"balance": {"qst": "3.000000000", "units": "3000000000"}, "nonce": 0, "height": prover.height}
    asked = qustream(home, "wallet", "send", OPERATOR.name, "1")
    assert f"which has 3 QST (proven, after block {prover.height})" in asked.stderr
    assert prover.closed == len(given) > 2, "each command ends what it has opened"


def unable(*_: object) -> Any:
    raise fault("E-CHAIN-STALE", "nobody proves anything")


def test_who_cannot_prove_shows_a_balance_and_pays_nothing(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, prover = BUYER.wallet(tmp_path / "buyer", town), Proving(town)
    monkeypatch.setattr(prover, "account", unable)
    for module in ("paying", "wallet"):
        monkeypatch.setattr(import_module(f"qustream.cli.{module}"), "open_prover", lambda *_: prover)
    shown = qustream(home, "wallet", "balance")
    assert "E-CHAIN-STALE: nobody proves anything" in shown.stderr
    assert "proven after" not in shown.stdout
    height = town.world.progress.height
    sent = qustream(home, "wallet", "send", OPERATOR.name, "1", "--yes")
    assert isinstance(sent.exception, QuStreamError)
    assert sent.exception.code == "E-CHAIN-STALE"
    assert town.world.progress.height == height


def opened(home: Path) -> Any:
    return proven.open_prover(home, lambda: 1_700_000_000_000)


def test_the_checkpoint_is_the_wallets_or_that_of_the_user_beside_it(tmp_path: Path) -> None:
    Wallet.create(tmp_path / "bare", BUYER.words, PASSPHRASE, chain="a-chain")
    assert opened(tmp_path / "bare") is None
    write_chain_config(tmp_path / "bare", "another", bytes(32), [NODE])
    assert opened(tmp_path / "bare") is None
    write_chain_config(tmp_path / "bare", "a-chain", bytes(32), [NODE])
    assert isinstance(opened(tmp_path / "bare"), LightRegistry)
    wallet.watch(tmp_path / "own", BUYER.account, chain="a-chain", asked=(CHECKPOINT, [NODE]))
    found = opened(tmp_path / "own")
    assert (found.chain, found._trust.pinned) == ("a-chain", bytes(32))
    config = wallet.load_config(tmp_path / "own")
    assert (config.account, config.checkpoint, config.nodes) == (BUYER.name, CHECKPOINT, (NODE,))


@pytest.mark.parametrize("more", [f'checkpoint = "{CHECKPOINT}"', f'nodes = ["{NODE}"]', f'checkpoint = "x"\nnodes = ["{NODE}"]'])
def test_half_a_checkpoint_is_none(tmp_path: Path, more: str) -> None:
    (tmp_path / "wallet.toml").write_text(f'chain = "a-chain"\n{more}\n')
    with pytest.raises(QuStreamError, match="E-CONFIG"):
        opened(tmp_path)


def test_options_of_a_new_wallet(tmp_path: Path) -> None:
    made = qustream(tmp_path, "wallet", "watch", BUYER.name, "--chain", "c", "--checkpoint", CHECKPOINT)
    assert made.exit_code == 2
    wrong = qustream(tmp_path, "wallet", "watch", BUYER.name, "--chain", "c", "--checkpoint", "qcp1zzz", "--node", NODE)
    assert isinstance(wrong.exception, QuStreamError)
    assert not (tmp_path / "wallet.toml").exists()
    assert qustream(tmp_path, "wallet", "watch", BUYER.name, "--chain", "c", "--checkpoint", CHECKPOINT, "--node", NODE).exit_code == 0
    assert wallet.load_config(tmp_path).nodes == (NODE,)
