"""Entries of the state with their proofs (`proto/spec/chain-api.md`, §4): what somebody can check who trusts no node."""

from __future__ import annotations

from qnode.api.chain_source import ChainSource, View
from qnode.api.chain_state import missing
from qustream.model.state import Table
from qustream.wire.chain_json import ProofPage
from qustream.wire.codec import encode
from qustream.wire.consensus import ChainHeader

__all__ = ["proof_page"]

# How far above a state the header is looked for that names it: a block names what was executed two below, and a proposer may be behind.
NAMED_WITHIN_MAX = 64


def proof_page(source: ChainSource, table: Table, name: bytes) -> ProofPage:
    """The entry `name` of a table, or that there is none, in the newest state whose root a final header names.

    Errors: `E-LEDGER-UNKNOWN` while there is no such header."""
    held = source.store.certified()
    if held is None:
        raise missing("proof yet: no final header names a root that this node has executed")
    with held as view:
        key = bytes([table]) + name
        header = _naming(source, view)
        value, proof = view.get(key), view.prove(key)
        return ProofPage(
            int(table), name.hex(), value.hex() if value is not None else None, view.height, view.root.hex(),
            tuple(node.hex() for node in proof.inner), proof.bucket.hex(), encode(header).hex(), header.height,
        )  # fmt: skip


def _naming(source: ChainSource, view: View) -> ChainHeader:
    last = min(source.store.final.height, view.height + NAMED_WITHIN_MAX)
    for height in range(view.height + 1, last + 1):
        header = source.store.header_at(height)
        if header is not None and header.executed == view.height and header.executed_root == view.root:
            return header
    raise missing("proof yet: the header that names this state is not kept")
