"""Every signature in a transaction: `proto/spec/ledger.md`, §3. All of them are real here."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from support.ledger_world import CHAIN, key, signed, voter

from qnode.core.ledger.actions import RULES
from qnode.core.ledger.signatures import Claim, claims
from qustream.identity import consents
from qustream.identity.enrolment import state_hpke_key
from qustream.identity.signing import verify
from qustream.identity.voting import verify_under
from qustream.model.ids import account_id
from qustream.model.keys import PublicKey
from qustream.wire import transactions as wire
from qustream.wire.codec import decode
from qustream.wire.consensus import NO_DIGEST, Kind, Statement
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, AnyAction, Body, Transaction, open_body

SENDER, NODE, MASTER, INTO, VOTE = key("sender"), key("node"), key("master"), key("into"), voter(0)
L, H, NONCE = bytes(range(16)), bytes(range(32)), 7
BINDING = consents.Binding(CHAIN, account_id(SENDER.id), NONCE)
STATEMENTS = [Statement(CHAIN, 3, 4, Kind.FINAL, H), Statement(CHAIN, 3, 4, Kind.SKIP, NO_DIGEST)]
ACTIONS: list[AnyAction] = [
    wire.Transfer(bytes(20), 1),
    consents.activate(BINDING, L, NODE, payee=bytes(20), addresses=["127.0.0.1:1"]),
    wire.Retire(L), wire.UpdateNode(L, ()), wire.ListLicence(L, 1), wire.UnlistLicence(L), wire.BuyLicence(L, 1), wire.Stake(L),
    wire.Unstake(L), wire.TopUp(L, 1),
    consents.register_validator(BINDING, L, NODE, VOTE, anchor=H, links=9, commission_bp=5),
    wire.EditValidator(L, 1, H, 0), wire.ExitValidator(L), wire.Delegate(L, 1), wire.Undelegate(L, 1),
    wire.BuyGrant(H, H, 1, 1, 1, None, 1), wire.RollOver(H, H, 1, 1, 1),
    consents.entered(CHAIN, MASTER, state_hpke_key(MASTER, bytes(1216)), [H]),
    consents.change_device(CHAIN, MASTER, H, 1, revoked=False), consents.change_device(CHAIN, MASTER, H, 2, revoked=True),
    consents.merge_users(CHAIN, MASTER, INTO),
    wire.DoubleSign(VOTE.public, STATEMENTS[0], VOTE.sign(STATEMENTS[0]), STATEMENTS[1], VOTE.sign(STATEMENTS[1])),
    wire.Unsuspend(L), wire.Claim(L),
]  # fmt: skip
SIGNED = [action for action in ACTIONS if RULES[type(action)].signatures]


def named(action: Any) -> str:
    return type(action).__name__


def claims_of(action: AnyAction, **fields: Any) -> list[Claim]:
    body = msgspec.structs.replace(Body(CHAIN, account_id(SENDER.id), NONCE, 100, 5, action), **fields)
    transaction = decode(signed(SENDER, body), Transaction, max_bytes=TRANSACTION_MAX_BYTES)
    assert open_body(transaction) == body
    return claims(transaction, body, SENDER.public)


def holds(claim: Claim) -> bool:
    if isinstance(claim.public, PublicKey):
        assert claim.kind == "hybrid"
        assert isinstance(claim.purpose, str)
        return verify(claim.public, claim.purpose, claim.message, claim.signature)
    assert claim.kind == "vote"
    assert isinstance(claim.purpose, bytes)
    return verify_under(claim.public, claim.purpose, claim.message, claim.signature)


def test_every_kind_is_here():
    assert {type(action) for action in ACTIONS} == set(typing.get_args(AnyAction))


@pytest.mark.parametrize("action", ACTIONS, ids=named)
def test_what_was_signed_holds_and_gas_counts_every_signature(action):
    found = claims_of(action)
    assert all(map(holds, found))
    assert len(found) == 1 + RULES[type(action)].signatures
    fields = [name for name in action.__struct_fields__ if name.endswith(("proof", "consent", "signature"))]
    assert len(fields) + hasattr(action, "hpke") == len(found) - 1


@pytest.mark.parametrize("action", SIGNED, ids=named)
def test_no_signature_in_it_may_be_missing_or_another(action):
    """Each is asked for: with one bit of any of them changed, one claim does not hold, and it is the only one."""
    for name in action.__struct_fields__:
        value = getattr(action, name)
        if name.endswith(("proof", "consent", "signature")):
            broken = msgspec.structs.replace(action, **{name: value[:-1] + bytes([value[-1] ^ 1])})
        elif name == "hpke":
            bent = value.signature[:-1] + bytes([value.signature[-1] ^ 1])
            broken = msgspec.structs.replace(action, hpke=msgspec.structs.replace(value, signature=bent))
        else:
            continue
        failed = [claim for claim in claims_of(broken) if not holds(claim)]
        # What a consent is over has the HPKE statement in it, with its signature.
        assert len(failed) == (2 if name == "hpke" else 1)


@pytest.mark.parametrize("action", [each for each in SIGNED if not isinstance(each, wire.DoubleSign)], ids=named)
def test_a_consent_is_for_one_chain(action):
    failed = [claim for claim in claims_of(action, chain="another")[1:] if not holds(claim)]
    assert len(failed) == RULES[type(action)].signatures - hasattr(action, "hpke")


@pytest.mark.parametrize("action", [ACTIONS[1], ACTIONS[10]], ids=named)
@pytest.mark.parametrize("fields", [{"nonce": NONCE + 1}, {"sender": bytes(20)}])
def test_a_nodes_proof_is_for_one_transaction_of_one_owner(action, fields):
    assert not any(holds(claim) for claim in claims_of(action, **fields)[1:])


def test_a_consent_to_add_is_none_to_revoke():
    added = consents.change_device(CHAIN, MASTER, H, 1, revoked=False)
    turned = wire.RevokeDevice(added.master, added.device, added.sequence, added.consent)
    assert [holds(claim) for claim in claims_of(turned)] == [True, False]


def test_the_two_of_a_merge_are_not_exchanged():
    merge = consents.merge_users(CHAIN, MASTER, INTO)
    turned = wire.MergeUsers(merge.into, merge.master, merge.into_consent, merge.consent)
    assert [holds(claim) for claim in claims_of(turned)] == [True, False, False]


def test_a_registration_is_no_vote_and_a_vote_no_registration():
    register = ACTIONS[10]
    vote = next(claim for claim in claims_of(register) if claim.kind == "vote")
    assert not verify_under(VOTE.public, b"qustream/1/vote", vote.message, vote.signature)


def test_the_senders_signature_is_over_the_very_bytes():
    body = Body(CHAIN, account_id(SENDER.id), 0, 1, 1, wire.Claim(L))
    transaction = decode(signed(SENDER, body), Transaction, max_bytes=TRANSACTION_MAX_BYTES)
    other = msgspec.structs.replace(transaction, body=transaction.body[:-1] + bytes([transaction.body[-1] ^ 1]))
    assert holds(claims(transaction, body, SENDER.public)[0])
    assert not holds(claims(other, body, SENDER.public)[0])
    assert not holds(claims(transaction, body, key("somebody else").public)[0])
