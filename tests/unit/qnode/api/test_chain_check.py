"""What would become of a transaction: the code it would be refused with, the fee it needs, and what its action would come to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.chain_pages import shown
from support.every_action import ACTIONS
from support.ledger_world import QST, LedgerWorld, hash_chain, key, signed, voter
from support.stored_chain import StoredChain

from qnode.api.chain_check import check_page
from qnode.core.ledger.actions import RULES
from qnode.core.ledger.actions import gas as ledger_gas
from qnode.core.ledger.signatures import claims
from qustream.errors import CODES, QuStreamError
from qustream.identity import consents
from qustream.identity.wallet import SIGNATURES, Terms, Wallet, gas
from qustream.identity.words import UserSecrets
from qustream.model.ids import account_id
from qustream.wire.codec import decode, encode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, AnyAction, Body, BuyLicence, Stake, Transaction, Transfer, open_body

USER, OTHER = (UserSecrets(bytes([number]) * 64) for number in (1, 2))


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[StoredChain]:
    made = StoredChain(tmp_path / "chain", LedgerWorld(validators=1, nodes=1, idle=2, people=3))
    yield made
    made.store.close()


@pytest.fixture
def wallet(chain: StoredChain) -> Wallet:
    """Of the first of the people."""
    return Wallet(chain.world.people[0], chain.world.genesis.chain)


def terms(chain: StoredChain, nonce: int = 0, *, knows_key: bool = False) -> Terms:
    return Terms(nonce, chain.world.progress.height, knows_key, chain.world.parameters)


async def checked(chain: StoredChain, raw: bytes) -> dict[str, Any]:
    async with shown(chain) as site:
        status, page = await site.post("transactions/check", raw)
        assert status == 200, page
        assert len(site.pool) == 0
    return dict(page)


async def test_a_good_one(chain: StoredChain, wallet: Wallet) -> None:
    made = wallet.sign(Transfer(chain.world.account(1), 5 * QST), terms(chain))
    page = await checked(chain, made.raw)
    assert (page["id"], page["code"], page["outcome"], page["nonce"]) == (made.id.hex(), "", "", 0)
    assert page["fee"] == page["fee_least"]
    assert int(page["fee"]["units"]) == made.fee
    assert page["events"][0]["name"] == "transferred"
    # Nothing has happened.
    assert chain.world.liquid(chain.world.account(1)) == 1_000_000 * QST


def changed(world: LedgerWorld, fields: dict[str, Any]) -> bytes:
    sender = world.people[0]
    body = world.body(sender, Transfer(world.account(1), 5 * QST))
    return signed(sender, msgspec.structs.replace(body, **fields))


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ({"chain": "another"}, "E-LEDGER-FORM", ""),
        ({"nonce": 1}, "E-LEDGER-NONCE", "the nonce is 1, the account's next is 0"),
        ({"fee": 5}, "E-LEDGER-FEE", "the fee is 0.000000005 QST, at least "),
        ({"expires": 0}, "E-LEDGER-EXPIRED", ""),
        ({"expires": 20_000}, "E-LEDGER-EXPIRED", ""),
        ({"action": Transfer(bytes(20), 2_000_000 * QST)}, "E-LEDGER-FUNDS", "is needed, the account has 1000000 QST"),
        ({"sender": bytes(20)}, "E-LEDGER-SIGNATURE", ""),
    ],
)
async def test_what_it_would_be_refused_with(chain: StoredChain, fields: dict[str, Any], code: str, detail: str) -> None:
    page = await checked(chain, changed(chain.world, fields))
    assert page["code"] == code
    assert detail in page["detail"]


async def test_signatures_are_looked_at(chain: StoredChain, wallet: Wallet) -> None:
    raw = bytearray(wallet.sign(Transfer(chain.world.account(1), 5), terms(chain)).raw)
    raw[-1] ^= 1
    assert (await checked(chain, bytes(raw)))["code"] == "E-LEDGER-SIGNATURE"
    assert (await checked(chain, wallet.sign(Stake(bytes(16)), terms(chain, knows_key=True)).raw))["code"] == "E-LEDGER-KEY"


async def test_an_action_that_would_be_refused_by_the_state(chain: StoredChain, wallet: Wallet) -> None:
    page = await checked(chain, wallet.sign(BuyLicence(chain.world.licences[2], 5), terms(chain)).raw)
    assert (page["code"], page["outcome"], page["events"]) == ("", "E-LEDGER-STATUS", [])


async def test_the_nonce_is_that_after_what_waits(chain: StoredChain, wallet: Wallet) -> None:
    async with shown(chain) as site:
        await site.post("transactions", wallet.sign(Transfer(chain.world.account(1), 5), terms(chain)).raw)
        second = wallet.sign(Transfer(chain.world.account(1), 5), terms(chain, 1))
        _, page = await site.post("transactions/check", second.raw)
        _, sent = await site.post("transactions", second.raw)
    assert (page["code"], page["nonce"]) == ("", 1)
    assert sent["id"] == second.id.hex()


def actions(chain: StoredChain) -> list[AnyAction]:
    """Everything that somebody else signs as well, made by those who make it for people."""
    world, node = chain.world, key("node", 9)
    binding = consents.Binding(world.genesis.chain, account_id(world.people[0].id), 0)
    licence, payee = world.licences[2], world.account(0)
    return [
        consents.activate(binding, licence, node, payee=payee, addresses=["127.0.0.1:7400"]),
        consents.register_validator(binding, licence, node, voter(9), anchor=hash_chain(9, 10).anchor, links=10, commission_bp=5),
        consents.register_user(world.genesis.chain, USER, [bytes(32)]),
        consents.change_device(world.genesis.chain, USER.master, bytes(32), 0, revoked=False),
        consents.change_device(world.genesis.chain, USER.master, bytes(32), 0, revoked=True),
        consents.merge_users(world.genesis.chain, USER.master, OTHER.master),
    ]


def test_wallets_and_ledger_agree_on_what_is_signed_and_what_it_costs(chain: StoredChain, wallet: Wallet) -> None:
    """What a wallet makes holds by the ledger's own list of signatures, and pays exactly the ledger's gas."""
    for action in actions(chain):
        made = wallet.sign(action, terms(chain))
        transaction = decode(made.raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
        listed = claims(transaction, open_body(transaction), chain.world.people[0].public)
        assert len(listed) == gas(action) == ledger_gas(action), type(action)
        with chain.store.state() as view:
            page = check_page(_source(chain), view, made.raw, 0)
        assert page.code == "", (type(action), page)
        assert page.fee == page.fee_least


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_every_action_comes_to_something_or_has_a_code(chain: StoredChain, wallet: Wallet, action: AnyAction) -> None:
    with chain.store.state() as view:
        page = check_page(_source(chain), view, wallet.sign(action, terms(chain)).raw, 0)
    if page.code == "E-LEDGER-SIGNATURE":  # what others have signed is for another sender
        assert (page.outcome, page.events) == ("", ())
    else:
        assert page.outcome in CODES or page.events
        assert page.code in {"", "E-LEDGER-FUNDS"}


def test_the_gas_of_every_action_is_the_ledgers() -> None:
    assert len(RULES) == 24
    assert {kind: SIGNATURES.get(kind, 0) for kind in RULES} == {kind: rule.signatures for kind, rule in RULES.items()}


def _source(chain: StoredChain) -> Any:
    from support.chain_pages import News, Waiters, source_of

    return source_of(chain, Waiters(chain), News(chain))


@pytest.mark.parametrize("raw", [b"", b"\x00", b"{}", bytes(65_536), encode(Body("c", bytes(20), 0, 0, 0, Stake(bytes(16))))])
def test_what_is_no_transaction(chain: StoredChain, raw: bytes) -> None:
    with chain.store.state() as view, pytest.raises(QuStreamError, match="E-LEDGER-FORM"):
        check_page(_source(chain), view, raw, 0)
