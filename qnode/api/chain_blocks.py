"""Pages about blocks and what stands in them (`proto/spec/chain-api.md`, §3): blocks, transactions, history, sales."""

from __future__ import annotations

from collections.abc import Sequence

from qnode.api.chain_source import ChainSource, View
from qnode.api.chain_state import missing
from qnode.api.chain_text import account_text, action_name, event_lines, fields_of, hex_or_empty, receipt_line
from qnode.api.chain_validators import running_rotation
from qnode.core.ledger import rotations
from qnode.core.ledger.state import State
from qustream.errors import fault
from qustream.model.ids import IdKind, licence_text, to_text
from qustream.model.receipt import Receipt
from qustream.model.state import EpochEntry, Progress, Table
from qustream.wire.chain import rotation_set_hash
from qustream.wire.chain_entries import amount
from qustream.wire.chain_json import (
    BlockLine,
    BlockPage,
    BlocksPage,
    ChainStatus,
    CheckpointPage,
    HistoryLine,
    HistoryPage,
    SaleLine,
    SalesPage,
    TransactionPage,
)
from qustream.wire.codec import decode
from qustream.wire.consensus import ChainHeader, header_digest
from qustream.wire.light import Checkpoint, checkpoint_digest
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Transaction, open_body

__all__ = [
    "MARKET", "block_page", "blocks_page", "chain_status", "checkpoint_page", "history_page", "place_of", "sales_page", "transaction_page",
]  # fmt: skip

# The name under which the store lists what was sold.
MARKET = b"market"
SOLD = "licence-bought"


def chain_status(source: ChainSource, view: View, waiting: int) -> ChainStatus:
    """Where the chain is."""
    state, head = State(view), source.store.final
    progress = state.must(Table.PROGRESS, b"", Progress)
    rotation = running_rotation(state)
    certified, header = source.store.certified(), head.header
    height = -1
    if certified is not None:
        with certified:
            height = certified.height
    edge_ms = rotations.current(state, rotation).edge_ms
    return ChainStatus(
        source.chain, source.genesis.hex(), head.height, head.digest.hex(), header.time_ms if header else progress.time_ms, view.height,
        view.root.hex(), height, progress.epoch, rotation, header.view if header else 0, edge_ms, waiting,
        source.store.first_height,
    )  # fmt: skip


def checkpoint_page(source: ChainSource, state: State) -> CheckpointPage:
    """What a light client may begin from: the set of the rotation that runs. Errors: `E-LEDGER-UNKNOWN`: its base is not kept."""
    number = running_rotation(state)
    entry = rotations.current(state, number)
    header = source.store.header_at(entry.base_height) if entry.base_height else None
    if header is None and entry.base_height:
        raise missing("checkpoint: the block that this rotation stands on is not kept")
    time_ms = header.time_ms if header is not None else state.must(Table.EPOCH, bytes(8), EpochEntry).time_ms
    hashed = rotation_set_hash(number, entry.seats, entry.seed)
    name = to_text(IdKind.CHECKPOINT, checkpoint_digest(Checkpoint(source.chain, number, hashed, time_ms)))
    return CheckpointPage(name, source.chain, number, hashed.hex(), time_ms)


def _proposer(state: State, header: ChainHeader) -> str:
    entry = rotations.find(state, header.rotation)
    return licence_text(entry.seats[header.proposer].licence) if entry is not None and header.proposer < len(entry.seats) else ""


def blocks_page(source: ChainSource, state: State, before: int | None, limit: int) -> BlocksPage:
    """Final blocks below a height, the newest first; None: from the newest on. Genesis is not one of them."""
    top = source.store.final.height if before is None else min(before - 1, source.store.final.height)
    lines = []
    for height in range(top, max(0, top - limit), -1):
        header = source.store.header_at(height)
        if header is None:
            break  # pruned below
        lines.append(
            BlockLine(
                height, header_digest(header).hex(), header.time_ms, header.rotation, header.view, _proposer(state, header), header.count
            )
        )
    return BlocksPage(tuple(lines), str(lines[-1].height) if lines and lines[-1].height > 1 else "")


def block_page(source: ChainSource, state: State, height: int) -> BlockPage:
    """A final block. Errors: `E-LEDGER-UNKNOWN`: not final yet, or not kept."""
    header, ids = source.store.header_at(height), source.store.ids_at(height)
    if header is None or ids is None:
        first = source.store.first_height
        if 0 < height < first:
            raise fault("E-LEDGER-UNKNOWN", f"this node began with block {first}; what was before is not here")
        raise missing("final block")
    receipts: Sequence[Receipt] = source.store.receipts_at(height)
    return BlockPage(
        height, header_digest(header).hex(), header.time_ms, header.rotation, header.view, _proposer(state, header), header.count,
        header.parent.hex(), header.parent_view, header.executed, header.executed_root.hex(), header.payload.hex(), header.reveal.hex(),
        hex_or_empty(header.next_set), tuple(name.hex() for name in ids), bool(receipts),
        tuple(receipt_line(receipt) for receipt in receipts[:-1]) if receipts else (),
        event_lines(receipts[-1].events) if receipts else (),
    )  # fmt: skip


def transaction_page(source: ChainSource, name: bytes, waiting: bytes | None) -> TransactionPage:
    """A transaction that was executed, stands in a final block, or waits in this node (`waiting`: then its bytes).

    Errors: `E-LEDGER-UNKNOWN`."""
    raw, place = source.store.transaction(name), source.store.place_of(name)
    if place is None:
        raw = waiting  # what is kept of blocks that never became final says nothing
    if raw is None:
        raise missing("transaction; it may have expired, or this node has not heard of it")
    body = open_body(decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES))
    found = source.store.receipt(name)
    receipt = found[2] if found is not None else Receipt(name, "", body.fee, ())
    height, index = place or (-1, -1)
    return TransactionPage(
        name.hex(), "executed" if found else "final" if place else "waiting", height, index, receipt.code, amount(body.fee),
        event_lines(receipt.events), account_text(body.sender), body.nonce, body.expires, len(raw), action_name(body.action),
        fields_of(body.action),
    )  # fmt: skip


def place_of(text: str) -> tuple[int, int]:
    """Where a page of history goes on, read back. Raises ValueError."""
    height, _, place = text.partition(".")
    return int(height), int(place)


class _Kept:
    """Headers looked at for one page, each once."""

    def __init__(self, source: ChainSource) -> None:
        self._source = source
        self._headers: dict[int, ChainHeader | None] = {}

    def time_ms(self, height: int) -> int:
        header = self._of(height)
        return header.time_ms if header is not None else 0

    def is_own(self, height: int, place: int) -> bool:
        """Whether a receipt is the block's own: it stands behind those of all transactions."""
        header = self._of(height)
        return header is not None and place == header.count

    def _of(self, height: int) -> ChainHeader | None:
        if height not in self._headers:
            self._headers[height] = self._source.store.header_at(height)
        return self._headers[height]


def _page(
    source: ChainSource, name: bytes, before: tuple[int, int] | None, limit: int
) -> tuple[list[tuple[int, int, Receipt]], str]:  # fmt: skip
    found = list(source.store.history(name, before, limit + 1))
    shown = found[:limit]
    return shown, f"{shown[-1][0]}.{shown[-1][1]}" if len(found) > limit else ""


def history_page(source: ChainSource, name: bytes, before: tuple[int, int] | None, limit: int) -> HistoryPage:
    """What happened to an account or a licence, the newest first."""
    found, following = _page(source, name, before, limit)
    kept, lines = _Kept(source), []
    for height, place, receipt in found:
        is_own = kept.is_own(height, place)
        # A block's own receipt speaks of everybody: what concerns this name.
        events = tuple(event for event in receipt.events if name in (event.subject, event.other)) if is_own else receipt.events
        index, lines_of = -1 if is_own else place, event_lines(events)
        lines.append(
            HistoryLine(height, index, kept.time_ms(height), receipt.id.hex(), receipt.code, amount(receipt.fee), lines_of)
        )  # fmt: skip
    return HistoryPage(tuple(lines), following)


def sales_page(source: ChainSource, before: tuple[int, int] | None, limit: int) -> SalesPage:
    """Licences that were sold, the newest first, and for how much."""
    found, following = _page(source, MARKET, before, limit)
    kept = _Kept(source)
    sales = [
        SaleLine(
            height, kept.time_ms(height), receipt.id.hex(), licence_text(event.subject), account_text(event.other), amount(event.amount)
        )
        for height, _, receipt in found
        for event in receipt.events
        if event.name == SOLD
    ]
    return SalesPage(tuple(sales), following)
