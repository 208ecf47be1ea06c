"""A small process around a chain's store, to be killed: looks whether what it finds belongs together, and goes on making blocks.

Run as `python chain_child.py DIRECTORY [FLOOD]`; says on standard output, one JSON array a line, what it found (`opened`) and then what is
on the disk: `kept`, `final`, `executed`, `signed`. With FLOOD, so many entries more in each block, until the disk is full: `refused`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from support.ledger_world import LedgerWorld, opened
from support.radix_memory import root_by_definition
from support.stored_chain import StoredChain, certificate, proposal_of

from qnode.core.consensus_events import OwnVotes, SignState
from qnode.core.ledger.state import State
from qnode.store.sign_state import SignStateFile
from qustream.errors import QuStreamError
from qustream.model.state import Progress, Table
from qustream.wire.consensus import NO_DIGEST, Kind

PEOPLE = 6
KEPT_BLOCKS = 40  # of bodies: so that pruning is interrupted, too


def say(*what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Child:
    def __init__(self, directory: Path) -> None:
        votes = SignStateFile(directory / "votes")
        if not votes.path.exists():
            votes.begin()
        self.votes = votes
        self.chain = StoredChain(
            directory / "chain", LedgerWorld(validators=1, people=PEOPLE), keep_blocks=KEPT_BLOCKS, reserve_bytes=1 << 20
        )

    def look(self) -> None:
        """Everything that has to hold after any end of the last process."""
        store, world = self.chain.store, self.chain.world
        final, executed, entries = store.final, store.executed, self.chain.entries()
        assert executed.height <= final.height
        root = store.root(executed.height)
        assert root == root_by_definition(entries), "the tree is not that of the entries"
        with store.state() as view:
            assert State(view).must(Table.PROGRESS, b"", Progress) == executed, "state and progress are apart"
        for height in range(max(1, executed.height - KEPT_BLOCKS + 1), final.height + 1):
            block, receipts = store.block_at(height), store.receipts_at(height)
            assert block is not None
            assert len(store.transactions(block.ids)) == len(block.ids), "a body is missing"
            assert len(receipts) == (len(block.ids) + 1 if height <= executed.height else 0), "receipts and progress are apart"
            if height > 1:
                before = store.block_at(height - 1)
                assert before is not None
                assert block.header.parent == before.digest
        world.reader.entries = entries
        world.reader._keys = sorted(entries)
        world.audit()
        signed = self.votes.load()
        say("opened", final.height, final.digest.hex(), executed.height, (root or b"").hex(), signed.final_view)

    def catch_up(self) -> None:
        """Execute what is final."""
        for height in range(self.chain.store.executed.height + 1, self.chain.store.final.height + 1):
            self.execute(height)

    def execute(self, height: int, flood: int = 0) -> None:
        store = self.chain.store
        block = store.block_at(height)
        assert block is not None
        self.chain.raws |= {name: opened(raw) for name, raw in store.transactions(block.ids).items()}
        changes, progress, done = self.chain.changes(block)
        more = {b"\xf0" + os.urandom(30): os.urandom(200) for _ in range(flood)}
        root = store.execute({**changes, **more}, progress, done.receipts)
        self.chain.world.reader.apply({**changes, **more})
        self.chain.world._nonces.clear()
        say("executed", height, root.hex())

    def block(self, flood: int) -> None:
        chain, height = self.chain, self.chain.store.final.height + 1
        transactions = [chain.transfer(person, (person + 1 + height % 5) % PEOPLE, height) for person in range(PEOPLE)]
        chain.keep(transactions)
        block = chain.next_block(transactions)
        view = block.header.view
        self.votes.save(SignState(1, view, {view + 1: OwnVotes(notarised=block.digest)}))
        say("signed", view)
        chain.store.keep(proposal_of(block)).result()
        chain.store.keep(certificate(block.header, Kind.NOTAR)).result()
        say("kept", view, block.digest.hex())
        chain.finalise(block)
        say("final", height, block.digest.hex())
        assert chain.store.certificate(1, view, Kind.NOTAR, NO_DIGEST) is not None
        self.execute(height, flood)


def main(directory: Path, flood: int) -> None:
    try:
        child = Child(directory)
        child.look()
        child.catch_up()
        while True:
            child.block(flood)
    except QuStreamError as error:
        say("refused", error.code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
