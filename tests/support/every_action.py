"""One action of each kind, with real signatures of whoever else has to sign."""

from __future__ import annotations

from support.ledger_world import CHAIN, hash_chain, key, licence_id, voter

from qustream.identity import consents
from qustream.identity.words import UserSecrets
from qustream.model.ids import account_id
from qustream.wire.consensus import Kind, Statement
from qustream.wire.transactions import (
    AnyAction,
    BuyGrant,
    BuyLicence,
    Claim,
    Delegate,
    DoubleSign,
    EditValidator,
    ExitValidator,
    ListLicence,
    Retire,
    RollOver,
    Stake,
    TopUp,
    Transfer,
    Undelegate,
    UnlistLicence,
    Unstake,
    Unsuspend,
    UpdateNode,
)

__all__ = ["ACCOUNT", "ACTIONS", "LICENCE", "NODE", "OTHER", "USER"]

LICENCE, ACCOUNT, NODE = licence_id(1), account_id(key("owner").id), key("node")
USER, OTHER = (UserSecrets(bytes([number]) * 64) for number in (1, 2))
BINDING = consents.Binding(CHAIN, ACCOUNT, 0)
SAID = Statement(CHAIN, 1, 2, Kind.NOTAR, bytes(32))
ACTIONS: list[AnyAction] = [
    Transfer(ACCOUNT, 5),
    consents.activate(BINDING, LICENCE, NODE, payee=ACCOUNT, addresses=["a:1"]),
    *(kind(LICENCE) for kind in (Retire, UnlistLicence, Stake, Unstake, ExitValidator, Unsuspend, Claim)),
    UpdateNode(LICENCE, ("a:1", "b:2")),
    *(kind(LICENCE, 7) for kind in (ListLicence, BuyLicence, TopUp, Delegate, Undelegate)),
    consents.register_validator(BINDING, LICENCE, NODE, voter(1), anchor=hash_chain(1, 9).anchor, links=9, commission_bp=5),
    EditValidator(LICENCE, 5, bytes(32), 0),
    BuyGrant(USER.master.id, bytes(32), 10, 1, 1000, LICENCE, 9),
    RollOver(bytes(32), bytes(32), 10, 1, 9),
    consents.register_user(CHAIN, USER, [bytes(32)]),
    consents.change_device(CHAIN, USER.master, bytes(32), 0, revoked=False),
    consents.change_device(CHAIN, USER.master, bytes(32), 0, revoked=True),
    consents.merge_users(CHAIN, USER.master, OTHER.master),
    DoubleSign(voter(1).public, SAID, bytes(2420), SAID, bytes(2420)),
]
