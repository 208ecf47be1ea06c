"""A transaction's bytes on their way through a node: decoded, its signatures checked, asked whether it may stand in a block, executed.
Nothing of it raises; nothing holds that nobody has signed; and whatever is executed, the money stays what it is.

    input: the transaction
"""

from __future__ import annotations

from functools import lru_cache

from support.ledger_world import CHAIN, LedgerWorld, key, voter

from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked, execute
from qnode.core.ledger.signatures import Claim, claims
from qnode.core.ledger.state import State
from qnode.service.verify import Opened, open_transaction
from qustream.errors import CODES
from qustream.identity import consents
from qustream.identity.enrolment import state_hpke_key
from qustream.identity.signing import verify
from qustream.identity.voting import verify_under
from qustream.model.ids import account_id
from qustream.model.keys import PublicKey
from qustream.model.state import Table, Totals
from qustream.wire.codec import encode
from qustream.wire.consensus import NO_DIGEST, Kind, Statement, header_digest
from qustream.wire.transactions import AnyAction, BuyGrant, Delegate, DoubleSign, Stake, Transaction, Transfer

__all__ = ["run", "seeds"]

MASTER, INTO, DEVICE = key("user", 0), key("user", 1), bytes(range(32))


@lru_cache(maxsize=1)
def _world() -> LedgerWorld:
    return LedgerWorld(validators=1, nodes=1, idle=1, people=1)


def _actions(world: LedgerWorld) -> list[AnyAction]:
    binding = consents.Binding(CHAIN, account_id(world.owners[2].id), 0)
    node, vote, licence = key("node", 9), voter(0), world.licences[2]
    final, skip = Statement(CHAIN, 1, 4, Kind.FINAL, DEVICE), Statement(CHAIN, 1, 4, Kind.SKIP, NO_DIGEST)
    return [
        Transfer(bytes(20), 5), Stake(world.licences[1]), Delegate(world.licences[0], 10**10),
        BuyGrant(MASTER.id, DEVICE, 5, 1, 1_000, None, 10**12),
        consents.activate(binding, licence, node, payee=bytes(20), addresses=["127.0.0.1:1"]),
        consents.register_validator(binding, licence, node, vote, anchor=DEVICE, links=9, commission_bp=5),
        consents.entered(CHAIN, MASTER, state_hpke_key(MASTER, bytes(1216)), [DEVICE]),
        consents.change_device(CHAIN, MASTER, DEVICE, 1, revoked=True), consents.merge_users(CHAIN, MASTER, INTO),
        DoubleSign(vote.public, final, vote.sign(final), skip, vote.sign(skip)),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _signed() -> frozenset[bytes]:
    world = _world()
    out = []
    for action in _actions(world):
        encoded = encode(world.body(world.owners[2], action, nonce=0))
        sender = world.owners[2]
        out.append(encode(Transaction(encoded, sender.public, sender.sign("transaction", encoded))))
    return frozenset(out)


def seeds() -> list[bytes]:
    return sorted(_signed())


def _holds(claim: Claim) -> bool:
    if isinstance(claim.public, PublicKey):
        return verify(claim.public, str(claim.purpose), claim.message, claim.signature)
    assert isinstance(claim.purpose, bytes)
    return verify_under(claim.public, claim.purpose, claim.message, claim.signature)


def run(data: bytes) -> None:
    opened = open_transaction(data, CHAIN)
    if isinstance(opened, str):
        assert opened in ("E-LEDGER-FORM", "E-LEDGER-SIGNATURE")
        return
    sender = opened.transaction.key
    if sender is not None and all(map(_holds, claims(opened.transaction, opened.body, sender))):
        assert data in _signed(), "nobody has signed this"
    _execute(opened)


def _execute(opened: Opened) -> None:
    """As if it held."""
    world = _world()
    checked = Checked(opened.id, opened.size, opened.body, opened.transaction.key)
    refused = Admission(world.state(), [], world.parameters).add(checked, 1)
    assert refused is None or refused in CODES
    state, header = State(world.reader), world.header([checked])
    receipt = execute(state, header_digest(header), header, [checked]).receipts[0]
    assert receipt.fee == opened.body.fee or refused
    totals = state.must(Table.TOTALS, b"", Totals)
    assert totals.minted - totals.burned == totals.liquid + totals.staked + totals.unbonding + totals.pools
    state.changes()
