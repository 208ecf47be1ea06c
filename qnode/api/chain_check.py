"""What would become of a transaction, without sending it (`proto/spec/chain-api.md`, §5)."""

from __future__ import annotations

from msgspec.structs import replace

from qnode.api.chain_source import ChainSource, View
from qnode.api.chain_text import event_lines
from qnode.core.ledger.actions import RULES, fee_least, outflow
from qnode.core.ledger.admission import Admission
from qnode.core.ledger.block import Checked
from qnode.core.ledger.context import Context
from qnode.core.ledger.signatures import Claim, claims
from qnode.core.ledger.state import State
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import verify
from qustream.identity.voting import verify_under
from qustream.model.amount import amount_shown
from qustream.model.ids import account_id
from qustream.model.keys import PublicKey
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Account, Parameters, Progress, Table
from qustream.wire.chain_entries import amount
from qustream.wire.chain_json import CheckPage
from qustream.wire.codec import decode
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Body, Transaction, open_body, transaction_id

__all__ = ["check_page", "sender_of"]


def _opened(raw: bytes) -> tuple[Transaction, Body]:
    try:
        transaction = decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
        return transaction, open_body(transaction)
    except QuStreamError as error:
        if error.code == "E-LEDGER-KIND":
            raise
        raise fault("E-LEDGER-FORM", f"not a transaction: {error.code}") from None


def sender_of(raw: bytes) -> bytes:
    """Who would pay. Errors: `E-LEDGER-FORM` for what is no transaction."""
    return _opened(raw)[1].sender


def check_page(source: ChainSource, view: View, raw: bytes, next_nonce: int) -> CheckPage:
    """`next_nonce`: the sender's, with what waits here. Errors: `E-LEDGER-FORM` for what is no transaction."""
    (transaction, body), name = _opened(raw), transaction_id(raw)
    state = State(view)
    parameters, progress = state.must(Table.PARAMETERS, b"", Parameters), state.must(Table.PROGRESS, b"", Progress)
    least = fee_least(body.action, len(raw), parameters)
    held = state.get(Table.ACCOUNT, body.sender, Account) or Account(0, 0)
    nonce = max(held.nonce, next_nonce)
    ill = _ill_formed(source, state, transaction, body)
    code = ill or _inadmissible(state, Checked(name, len(raw), body, transaction.key), nonce)
    # Nothing is ever executed whose signatures do not hold.
    outcome, events = ("", ()) if ill else _tried(state, body, progress, name)
    return CheckPage(
        name.hex(), code, _detail(code, body, held, parameters, least=least, nonce=nonce), amount(body.fee), amount(least), nonce, outcome,
        event_lines(events),
    )  # fmt: skip


def _ill_formed(source: ChainSource, state: State, transaction: Transaction, body: Body) -> str:
    if body.chain != source.chain:
        return "E-LEDGER-FORM"
    key = transaction.key or state.get(Table.ACCOUNT_KEY, body.sender, PublicKey)
    if key is None:
        return "E-LEDGER-KEY"
    if account_id(key.id) != body.sender or not all(map(_holds, claims(transaction, body, key))):
        return "E-LEDGER-SIGNATURE"
    return ""


def _holds(claim: Claim) -> bool:
    if isinstance(claim.public, PublicKey):
        return verify(claim.public, str(claim.purpose), claim.message, claim.signature)
    assert isinstance(claim.purpose, bytes), "a vote key's purpose is a context string"
    return verify_under(claim.public, claim.purpose, claim.message, claim.signature)


def _inadmissible(state: State, checked: Checked, nonce: int) -> str:
    """As the next block would have it. What waits before it is taken to stand in blocks: then the nonce it may have is that after them."""
    if checked.body.nonce != nonce:
        return "E-LEDGER-NONCE"
    held = state.get(Table.ACCOUNT, checked.body.sender, Account) or Account(0, 0)
    alone = replace(checked.body, nonce=held.nonce)
    progress, parameters = state.must(Table.PROGRESS, b"", Progress), state.must(Table.PARAMETERS, b"", Parameters)
    first = Checked(checked.id, checked.size, alone, checked.key)
    return Admission(state, (), parameters).add(first, progress.height + 1) or ""


def _tried(state: State, body: Body, progress: Progress, name: bytes) -> tuple[str, tuple[LedgerEvent, ...]]:
    """What its action would come to if it stood in a block now; the state is thrown away."""
    parameters = state.must(Table.PARAMETERS, b"", Parameters)
    context = Context(
        body.chain, parameters, progress.height + 1, progress.time_ms + parameters.interval_ms, progress.epoch, progress.rotation,
        body.sender, body.nonce, name,
    )  # fmt: skip
    outcome = RULES[type(body.action)].apply(state, body.action, context)
    return (outcome, ()) if isinstance(outcome, str) else ("", outcome)


def _detail(code: str, body: Body, held: Account, parameters: Parameters, *, least: int, nonce: int) -> str:
    match code:
        case "E-LEDGER-FEE":
            return f"the fee is {amount_shown(body.fee)}, at least {amount_shown(least)} is needed"
        case "E-LEDGER-NONCE":
            return f"the nonce is {body.nonce}, the account's next is {nonce}"
        case "E-LEDGER-FUNDS":
            needed = body.fee + outflow(body.action, parameters)
            return f"{amount_shown(needed)} is needed, the account has {amount_shown(held.liquid)}"
        case _:
            return ""
