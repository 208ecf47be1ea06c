"""A wallet: what it keeps, what it signs, and what it costs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from support.ledger_world import PARAMETERS

from qustream.errors import QuStreamError
from qustream.identity import keystore
from qustream.identity.signing import verify
from qustream.identity.wallet import EXPIRES_BLOCKS, Signed, Terms, Wallet, gas, load_config
from qustream.identity.words import UserSecrets
from qustream.model.ids import account_id
from qustream.wire.codec import decode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Stake, Transaction, Transfer, open_body, transaction_id

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
ACCOUNT = UserSecrets.from_words(WORDS).account
PASSPHRASE = b"a passphrase"
TERMS = Terms(7, 1000, True, PARAMETERS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wallet") / "home"
    Wallet.create(folder, WORDS, PASSPHRASE, chain="a-chain", api='http://127.0.0.1:7480/"')
    return folder


@pytest.fixture(scope="module")
def wallet(directory: Path) -> Wallet:
    return Wallet.load(directory, PASSPHRASE)


def opened(signed: Signed) -> Transaction:
    return decode(signed.raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)


def test_what_is_kept_is_the_accounts_key_and_nothing_else_of_the_words(directory: Path, wallet: Wallet) -> None:
    assert wallet.account == account_id(ACCOUNT.id)
    assert keystore.read(directory / "account.keystore", "account", PASSPHRASE) == ACCOUNT.seed
    assert sorted(path.name for path in directory.iterdir()) == ["account.keystore", "wallet.toml"]
    assert (directory / "account.keystore").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o077 == 0
    config = load_config(directory)
    assert (config.chain, config.api) == ("a-chain", 'http://127.0.0.1:7480/"')


def test_nothing_is_overwritten(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(QuStreamError, match="E-KEYSTORE-EXISTS"):
        Wallet.create(directory, WORDS, PASSPHRASE, chain="another")
    assert before == {path.name: path.read_bytes() for path in directory.iterdir()}


def test_wrong_passphrases_and_missing_directories(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(QuStreamError, match="E-KEYSTORE-OPEN"):
        Wallet.load(directory, b"another")
    with pytest.raises(QuStreamError, match="E-HOME"):
        Wallet.load(tmp_path, PASSPHRASE)
    with pytest.raises(QuStreamError, match="E-PASSPHRASE-WORDS"):
        Wallet.create(tmp_path, "no words", PASSPHRASE, chain="c")


def test_what_is_signed_is_what_is_sent(wallet: Wallet) -> None:
    signed = wallet.sign(Transfer(bytes(20), 5), TERMS)
    transaction = opened(signed)
    body = open_body(transaction)
    assert (body.chain, body.sender, body.nonce, body.action) == ("a-chain", wallet.account, 7, Transfer(bytes(20), 5))
    assert (body.fee, body.expires) == (signed.fee, signed.expires) == (signed.fee, 1000 + EXPIRES_BLOCKS)
    assert signed.id == transaction_id(signed.raw)
    assert verify(ACCOUNT.public, "transaction", transaction.body, transaction.signature)


@pytest.mark.parametrize("knows_key", [True, False])
@pytest.mark.parametrize("nonce", [0, 200, 70_000, 1 << 40])
def test_the_fee_is_the_least_that_covers_itself(wallet: Wallet, knows_key: bool, nonce: int) -> None:
    terms = Terms(nonce, nonce, knows_key, PARAMETERS)
    signed = wallet.sign(Stake(bytes(16)), terms)
    assert signed.fee == PARAMETERS.fee_byte * len(signed.raw) + PARAMETERS.fee_gas == wallet.fee(Stake(bytes(16)), terms)
    assert (opened(signed).key is None) is knows_key


def test_a_free_chain_costs_nothing(wallet: Wallet) -> None:
    from msgspec.structs import replace

    terms = Terms(0, 0, True, replace(PARAMETERS, fee_byte=0, fee_gas=0))
    assert wallet.sign(Stake(bytes(16)), terms).fee == 0


def test_gas_counts_every_signature() -> None:
    assert gas(Transfer(bytes(20), 1)) == 1


def test_a_wallet_shows_and_gives_away_nothing(wallet: Wallet) -> None:
    assert ACCOUNT.seed.hex() not in repr(wallet)
    for copier in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            copier(wallet)
