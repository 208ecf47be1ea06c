"""What a node's pages say of the chain itself (`proto/spec/chain-api.md`): where it is, blocks, transactions, what has happened, proofs.

As in `chain_entries`, which has the rest.
"""

from __future__ import annotations

from typing import Any

from qustream.wire.chain_entries import Amount, Page

__all__ = [
    "BlockLine", "BlockPage", "BlocksPage", "ChainStatus", "CheckPage", "CheckpointPage", "EventLine", "HistoryLine", "HistoryPage",
    "ProofPage", "ReceiptLine", "SaleLine", "SalesPage", "SubmittedBundlePage", "SubmittedLine", "SubmittedPage", "TransactionPage",
]  # fmt: skip


class ChainStatus(Page, frozen=True):
    """`/status`. `height`, `digest`, `time_ms`: of the newest final block; `executed`: of the state all other pages speak of, with its
    `root`; `certified`: the newest executed height whose root a final header names, -1 for
    none; `waiting`: transactions not in a block yet; `first`: the lowest block here, above 1 on a node that began with a later state."""

    chain: str
    genesis: str
    height: int
    digest: str
    time_ms: int
    executed: int
    root: str
    certified: int
    epoch: int
    rotation: int
    view: int
    edge_ms: int
    waiting: int
    first: int = 0


class CheckpointPage(Page, frozen=True):
    """`/checkpoint`: what a light client can be told to begin from (`proto/spec/light-client.md`), good for 14 days. `set`: the hash of the
    rotation's set."""

    checkpoint: str
    chain: str
    rotation: int
    set: str
    time_ms: int


class EventLine(Page, frozen=True):
    """One thing that happened. `subject`, `other`: ids as text where their kind is known, else hexadecimal. `number`: of the few events
    that say a time or a commission in place of an amount."""

    name: str
    subject: str
    other: str
    amount: Amount | None
    number: int | None


class ReceiptLine(Page, frozen=True):
    """What became of a transaction: `code` is empty for success."""

    id: str
    code: str
    fee: Amount
    events: tuple[EventLine, ...]


class BlockLine(Page, frozen=True):
    """A block in a list. `proposer`: its licence, "" where the rotation is no longer kept."""

    height: int
    digest: str
    time_ms: int
    rotation: int
    view: int
    proposer: str
    count: int


class BlocksPage(Page, frozen=True):
    """`/blocks`, the newest first. `next`: what to ask with `before`, "" at the end."""

    blocks: tuple[BlockLine, ...]
    next: str


class BlockPage(Page, frozen=True):
    """A block. `receipts`: of its transactions, once it is executed; `events`: its own."""

    height: int
    digest: str
    time_ms: int
    rotation: int
    view: int
    proposer: str
    count: int
    parent: str
    parent_view: int
    executed: int
    executed_root: str
    payload: str
    reveal: str
    next_set: str
    transactions: tuple[str, ...]
    is_executed: bool
    receipts: tuple[ReceiptLine, ...]
    events: tuple[EventLine, ...]


class TransactionPage(Page, frozen=True):
    """A transaction. `state`: waiting, final (in a block that is not executed yet) or executed; `height`, `index`: -1 while it waits;
    `code`, `events`: once it is executed."""

    id: str
    state: str
    height: int
    index: int
    code: str
    fee: Amount
    events: tuple[EventLine, ...]
    sender: str
    nonce: int
    expires: int
    size: int
    action: str
    fields: dict[str, Any]


class SubmittedPage(Page, frozen=True):
    """The transaction is in this node's mempool."""

    id: str


class SubmittedLine(Page, frozen=True):
    """What became of one of several. `code`: why it was not taken, or "", and then it is in this node's mempool; `detail`."""

    id: str
    code: str
    detail: str


class SubmittedBundlePage(Page, frozen=True):
    """A line for each, in the order in which they were sent."""

    transactions: tuple[SubmittedLine, ...]


class CheckPage(Page, frozen=True):
    """What would become of a transaction now. `code`: why it would not be taken, or "" ; `detail`; `fee_least`: what it has to pay;
    `nonce`: the sender's next, with what waits; `outcome`: why its action would be refused by the present state, or ""."""

    id: str
    code: str
    detail: str
    fee: Amount
    fee_least: Amount
    nonce: int
    outcome: str
    events: tuple[EventLine, ...]


class HistoryLine(Page, frozen=True):
    """Something that happened to an account or a licence; `index` -1: by the block itself, such as time that passed."""

    height: int
    index: int
    time_ms: int
    id: str
    code: str
    fee: Amount
    events: tuple[EventLine, ...]


class HistoryPage(Page, frozen=True):
    """The newest first. `next`: what to ask with `before`."""

    entries: tuple[HistoryLine, ...]
    next: str


class SaleLine(Page, frozen=True):
    """A sale that has happened."""

    height: int
    time_ms: int
    transaction: str
    licence: str
    buyer: str
    price: Amount


class SalesPage(Page, frozen=True):
    """`/market/sales`, the newest first."""

    sales: tuple[SaleLine, ...]
    next: str


class ProofPage(Page, frozen=True):
    """An entry of the state, provably. `value`: null if there is none; `inner`, `bucket`: of `proto/spec/state.md`; `header`: the
    canonical bytes of the final header whose `executed_root` is `root`, at height `named_at`; all hexadecimal."""

    table: int
    name: str
    value: str | None
    height: int
    root: str
    inner: tuple[str, ...]
    bucket: str
    header: str
    named_at: int
