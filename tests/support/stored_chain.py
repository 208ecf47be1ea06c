"""A chain on the disk beside the same one in memory: blocks really executed, certificates with made-up signatures (a store checks none).

chain = StoredChain(tmp_path / "chain")
done = chain.block(chain.transfer(0, 1, 5))
chain.store.root(1)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from support.ledger_world import LedgerWorld

from qnode.core.consensus_events import Final
from qnode.core.ledger.block import Checked, Executed, execute
from qnode.core.ledger.state import State
from qnode.store.chain import ChainStore
from qnode.store.chain.environment import summed
from qnode.store.chain.state import StoredTree
from qustream.model.state import Progress, Table
from qustream.rules.radix import children, is_lowest
from qustream.rules.radix_tree import inner
from qustream.wire.codec import encode
from qustream.wire.consensus import Certificate, ChainHeader, Kind, Proposal, header_digest
from qustream.wire.transactions import Transaction, Transfer

__all__ = ["StoredChain", "certificate", "in_first_form", "proposal_of", "raw_of"]

SIGNATURE = bytes(2420)


def certificate(header: ChainHeader, kind: Kind = Kind.FINAL, digest: bytes | None = None) -> Certificate:
    """Of three validators of four."""
    what = header_digest(header) if digest is None else digest
    return Certificate(header.rotation, header.view, kind, what, b"\xe0", (SIGNATURE,) * 3)


def proposal_of(block: Final) -> Proposal:
    """As its leader sent it."""
    return Proposal(block.header, block.ids, SIGNATURE)


def raw_of(checked: Checked) -> bytes:
    """The bytes of a transaction that `LedgerWorld.checked` made."""
    return encode(Transaction(encode(checked.body), checked.key, bytes(3373)))


def in_first_form(store: ChainStore, beneath: Sequence[bytes] = (b"",)) -> int:
    """As the first version left a database: the lowest inner nodes beneath these prefixes are held, too (how many they are), and
    transactions lie beside the state."""
    environment, lowest, waiting = store._environment, 0, list(beneath)
    with environment.begin() as txn:
        tree = StoredTree(txn, environment.tables)
        while waiting:
            prefix = waiting.pop()
            node = inner(tree, prefix)
            assert node is not None
            lowest += is_lowest(node)
            txn.put(bytes((len(prefix),)) + prefix, node, db=environment.tables.nodes)
            waiting += [prefix + bytes((number,)) for number, each in children(node).items() if each.deeper]
        txn.put(b"format", summed(b"format", b"1"), db=environment.tables.meta)
        bodies = store._bodies._environment
        assert bodies is not None
        with bodies.begin() as apart:
            for name in ("transactions", "loose"):
                for key, value in apart.cursor(db=getattr(bodies.tables, name)):
                    txn.put(key, value, db=getattr(environment.tables, name))
                apart.drop(getattr(bodies.tables, name), delete=False)
            apart.drop(bodies.tables.meta, delete=False)
    return lowest


class StoredChain:
    """`world`: in memory; `store`: on the disk."""

    def __init__(self, directory: Path, world: LedgerWorld | None = None, **settings: int) -> None:
        self.directory, self.settings = directory, settings
        self.world = world or LedgerWorld()
        self.store = ChainStore.open(directory, self.world.genesis, **settings)
        self.blocks: list[Final] = []
        self.raws: dict[bytes, Checked] = {}

    def reopen(self) -> None:
        """As after a restart."""
        self.store.close()
        self.store = ChainStore.open(self.directory, self.world.genesis, **self.settings)

    def transfer(self, sender: int, to: int, amount: int) -> Checked:
        return self.world.checked(self.world.people[sender], Transfer(self.world.account(to), amount))

    def next_block(self, transactions: Sequence[Checked], after_ms: int = 1_000) -> Final:
        """The next block, with the root that this store has."""
        header = self.world.header(transactions, after_ms=after_ms)
        root = self.store.root(header.executed)
        header = msgspec.structs.replace(header, executed_root=root or bytes(32))
        return Final(header_digest(header), header, tuple(each.id for each in transactions))

    def keep(self, transactions: Sequence[Checked]) -> None:
        self.raws |= {each.id: each for each in transactions}
        self.store.keep_transactions([(each.id, raw_of(each)) for each in transactions]).result()

    def finalise(self, *blocks: Final) -> None:
        self.store.finalise(blocks, certificate(blocks[-1].header)).result()
        self.blocks += blocks

    def changes(self, block: Final) -> tuple[dict[bytes, bytes | None], Progress, Executed]:
        """What executing the next block comes to."""
        with self.store.state() as view:
            state = State(view)
            done = execute(state, block.digest, block.header, [self.raws[name] for name in block.ids])
            return state.changes(), state.must(Table.PROGRESS, b"", Progress), done

    def execute(self, block: Final) -> Executed:
        changes, progress, done = self.changes(block)
        self.store.execute(changes, progress, done.receipts, [self.raws[name].body.sender for name in block.ids])
        self.world.reader.apply(changes)
        self.world.changes = changes
        self.world._nonces.clear()
        return done

    def block(self, *transactions: Checked, after_ms: int = 1_000) -> Executed:
        """Kept, final and executed."""
        self.keep(transactions)
        block = self.next_block(transactions, after_ms)
        self.store.keep(proposal_of(block)).result()
        self.finalise(block)
        return self.execute(block)

    def entries(self) -> dict[bytes, bytes]:
        """The whole state of the store."""
        with self.store.state() as view:
            return dict(view.scan(b"", b"", 1 << 30))

    def audit(self) -> None:
        """Both chains have the same state."""
        assert self.entries() == self.world.reader.entries
        self.world.audit()
