"""What nodes, vote keys and masters sign besides the sender: good for one chain, one owner and one transaction."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace
from support.ledger_world import key, vote_key

from qustream.identity.consents import Binding, activate, change_device, merge_users, register_user, register_validator
from qustream.identity.enrolment import open_hpke_statement
from qustream.identity.signing import verify
from qustream.identity.words import UserSecrets
from qustream.wire.codec import encode
from qustream.wire.transactions import (
    ActivateStatement,
    AddDevice,
    DeviceStatement,
    MergeStatement,
    RevokeDevice,
    UserStatement,
    ValidatorStatement,
)

CHAIN, LICENCE, OWNER, PAYEE = "a-chain", bytes(range(16)), bytes(range(20)), bytes(20)
USER = UserSecrets(hashlib.sha512(b"user").digest())
OTHER = UserSecrets(hashlib.sha512(b"other").digest())


class Vote:
    """A vote key as `qustream.identity.voting` has it."""

    public = vote_key(1)[1]

    def sign_registration(self, statement: ValidatorStatement) -> bytes:
        return hashlib.sha512(encode(statement)).digest()


def test_a_node_agrees_to_a_licence() -> None:
    node = key("node", 1)
    action = activate(Binding(CHAIN, OWNER, 4), LICENCE, node, payee=PAYEE, addresses=["a:1"])
    statement = ActivateStatement(CHAIN, LICENCE, OWNER, PAYEE, 4)
    assert (action.licence, action.node, action.payee, action.addresses) == (LICENCE, node.public, PAYEE, ("a:1",))
    assert verify(node.public, "activate", encode(statement), action.node_proof)
    for other in (
        replace(statement, nonce=5),
        replace(statement, owner=PAYEE),
        replace(statement, chain="b"),
        replace(statement, payee=OWNER),
    ):
        assert not verify(node.public, "activate", encode(other), action.node_proof)


def test_node_and_vote_key_agree_to_each_other() -> None:
    node = key("node", 1)
    action = register_validator(Binding(CHAIN, OWNER, 4), LICENCE, node, Vote(), anchor=bytes(32), links=9, commission_bp=500)
    statement = ValidatorStatement(CHAIN, LICENCE, OWNER, Vote.public, bytes(32), 9, 4)
    assert verify(node.public, "validator", encode(statement), action.node_proof)
    assert action.vote_proof == Vote().sign_registration(statement)
    assert (action.vote_key, action.links, action.commission_bp) == (Vote.public, 9, 500)


def test_a_master_enters_its_user_and_devices() -> None:
    devices = [bytes([n]) * 32 for n in (2, 1)]
    action = register_user(CHAIN, USER, devices)
    assert action.devices == tuple(sorted(devices))
    assert open_hpke_statement(action.hpke, action.master) == USER.hpke.public
    statement = UserStatement(CHAIN, USER.master.id, action.hpke, action.devices)
    assert verify(USER.master.public, "user-consent", encode(statement), action.consent)


def test_a_master_adds_and_revokes() -> None:
    for revoked, kind in ((False, AddDevice), (True, RevokeDevice)):
        action = change_device(CHAIN, USER.master, bytes(32), 3, revoked=revoked)
        assert type(action) is kind
        assert verify(
            USER.master.public, "user-consent", encode(DeviceStatement(CHAIN, USER.master.id, bytes(32), 3, revoked)), action.consent
        )


def test_both_masters_merge() -> None:
    action = merge_users(CHAIN, USER.master, OTHER.master)
    statement = encode(MergeStatement(CHAIN, USER.master.id, OTHER.master.id))
    assert verify(USER.master.public, "user-consent", statement, action.consent)
    assert verify(OTHER.master.public, "user-consent", statement, action.into_consent)
