"""A long chain, and two new nodes that come to its head: one replays it, one joins with the state of the first (`scripts/soak sync
--blocks 10000`). Real daemons on loopback, real signatures; the chain is made on the disk beforehand.

Prints one JSON: seconds and bytes of both, and the root, which must be the chain's."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from support import ledger_world
from support.chain_circle import ChainNodeProcess
from support.daemon import until
from support.ledger_world import LedgerWorld, opened, signed, voter
from support.places import free_port, host
from support.relay import Relay
from support.stored_chain import StoredChain, certificate

from qnode.core.consensus_events import Final
from qnode.core.ledger import rotations
from qnode.core.ledger.block import Checked
from qnode.service.chain_node import FOLDER
from qnode.service.light import first_checkpoint
from qustream.identity.signing import SigningKey
from qustream.model.genesis import Genesis, GenesisNode
from qustream.model.ids import IdKind, account_id, to_text
from qustream.model.state import Seat
from qustream.wire.chain import rotation_set_hash
from qustream.wire.codec import encode
from qustream.wire.consensus import Certificate, Kind, Statement, header_digest
from qustream.wire.light import checkpoint_digest
from qustream.wire.transactions import AnyAction, BuyGrant, Delegate, ListLicence, Transfer, UnlistLicence

__all__ = ["main", "soak"]

VALIDATORS, PEOPLE, LINKS = 4, 64, 40_000
# A block a second; ten minutes a rotation: many of them are followed.
BLOCK_MS, ROTATION_MS = 1_000, 600_000
# A finalisation is kept of the first block and every 64th, of the last of a rotation, and the newest.
KEPT_EVERY = 64
PATIENCE_S = 7_200.0


class LongChain(StoredChain):
    """Blocks with transactions of several kinds, really signed; certificates only where they are kept."""

    def __init__(self, directory: Path, genesis: Genesis, seed: int) -> None:
        super().__init__(directory, LedgerWorld(genesis))
        self._voters = {voter(number).id: voter(number) for number in range(VALIDATORS)}
        self.chance, self.signed, self.transactions = random.Random(seed), {}, 0  # type: ignore[var-annotated]

    def keep(self, transactions: Sequence[Checked]) -> None:
        self.raws = {each.id: each for each in transactions}
        self.store.keep_transactions([(each.id, self.signed[each.id]) for each in transactions]).result()
        self.signed.clear()

    def grow(self, blocks: int) -> None:
        while blocks:
            blocks -= 1
            transactions = [self._transaction() for _ in range(self.chance.choice((0, 1, 2, 5)))]
            self.transactions += len(transactions)
            self.keep(transactions)
            block = self._next(transactions)
            entry = rotations.current(self.world.state(), block.header.rotation)
            height, is_over = block.header.height, block.header.time_ms >= entry.edge_ms
            counts = height == 1 or not height % KEPT_EVERY or is_over or not blocks
            made = self._certificate(block, entry.seats) if counts else certificate(block.header)
            self.store.finalise([block], made).result()
            self.execute(block)

    def _certificate(self, block: Final, seats: Sequence[Seat]) -> Certificate:
        """Of all of the rotation's validators, whose numbers go by their weights."""
        stated = Statement(ledger_world.CHAIN, block.header.rotation, block.header.view, Kind.FINAL, block.digest)
        signatures = tuple(self._voters[seat.vote_key].sign(stated) for seat in seats)
        return Certificate(stated.rotation, stated.view, Kind.FINAL, block.digest, bytes([0xFF << 8 - len(seats) & 0xFF]), signatures)

    def _next(self, transactions: Sequence[Checked]) -> Final:
        block, state = self.next_block(transactions, BLOCK_MS), self.world.state()
        header = block.header
        coming, entry = rotations.find(state, header.rotation + 1), rotations.current(state, header.rotation)
        if coming is not None and header.executed >= entry.base_height:
            header = msgspec.structs.replace(header, next_set=rotation_set_hash(header.rotation + 1, coming.seats, coming.seed))
        return Final(header_digest(header), header, block.ids)

    def _transaction(self) -> Checked:
        sender, action = self._wanted()
        raw = signed(sender, self.world.body(sender, action))
        checked = opened(raw)
        self.signed[checked.id] = raw
        return checked

    def _wanted(self) -> tuple[SigningKey, AnyAction]:
        chance, world = self.chance, self.world
        person, owner = chance.choice(world.people), chance.randrange(VALIDATORS, len(world.owners))
        draw = chance.random()
        if draw < 0.6:
            return person, Transfer(account_id(chance.choice(world.people).id), chance.randrange(1, 10**9))
        if draw < 0.7:  # an account that is new
            return person, Transfer(chance.randbytes(20), 10**9)
        if draw < 0.8:
            return person, Delegate(world.licences[chance.randrange(VALIDATORS)], 10 * ledger_world.QST)
        if draw < 0.9:  # of a user that is not there: such have receipts, too
            return person, BuyGrant(chance.randbytes(32), bytes(32), 1, 1, 1, None, 10**9)
        licence = world.licences[owner]
        return world.owners[owner], ListLicence(licence, 10**9) if chance.random() < 0.5 else UnlistLicence(licence)


class Place:
    """Three nodes of a chain that began `blocks` seconds ago: the one that has it, the one that replays, the one that joins."""

    def __init__(self, folder: Path, blocks: int, opened: ExitStack) -> None:
        self.file = folder / "genesis.bin"
        self.nodes = [ChainNodeProcess(folder / f"node{number}", number, self.file, votes=False) for number in range(3)]
        self.relays = [opened.enter_context(Relay(f"{host(60 + n)}:{free_port(60 + n)}", node.listen)) for n, node in enumerate(self.nodes)]
        self.genesis = self._genesis(blocks)
        self.file.write_bytes(encode(self.genesis))
        for node, relay in zip(self.nodes, self.relays, strict=True):
            node.configure(chain=ledger_world.CHAIN, addresses=[relay.address])
            opened.callback(node.stop)

    def _genesis(self, blocks: int) -> Genesis:
        parameters = msgspec.structs.replace(ledger_world.PARAMETERS, rotation_ms=ROTATION_MS)
        genesis = ledger_world.genesis(validators=VALIDATORS, nodes=3, people=PEOPLE, links=LINKS, parameters=parameters)
        licences = list(genesis.licences)
        for number, (node, relay) in enumerate(zip(self.nodes, self.relays, strict=True), VALIDATORS):
            runs = GenesisNode(node.key.public, licences[number].owner, (relay.address,), False, None)
            licences[number] = msgspec.structs.replace(licences[number], node=runs)
        began_ms = int(time.time() * 1000) - (blocks + 60) * BLOCK_MS
        return msgspec.structs.replace(genesis, time_ms=began_ms, licences=tuple(licences))

    @property
    def passed(self) -> int:
        return sum(relay.passed for relay in self.relays)

    def brought(self, node: ChainNodeProcess, height: int) -> dict[str, Any]:
        """Start it and wait until it is at the head: what that took."""
        began_s, before = time.monotonic(), self.passed
        node.start()

        def is_there() -> bool:
            assert node.process is None or node.process.poll() is None, node.log_path.read_text()
            try:
                return node.height == height
            except OSError:  # it starts anew
                return False

        until(is_there, patience_s=PATIENCE_S)
        took_s = time.monotonic() - began_s
        status = node.chain_page("status")
        stored = node.ledger.store_bytes
        return {"seconds": round(took_s, 1), "bytes": self.passed - before, "root": status["root"], "store_bytes": stored}


def soak(folder: Path, *, blocks: int, seed: int, say: bool = False) -> dict[str, Any]:
    """Play it; AssertionError if anything is not as it must be."""
    with ExitStack() as opened:
        place = Place(folder, blocks, opened)
        source, replaying, joining = place.nodes
        began_s = time.monotonic()
        chain = LongChain(source.data_dir / FOLDER, place.genesis, seed)
        chain.grow(blocks)
        root, rotation, size = chain.store.root(blocks), chain.world.progress.rotation, chain.store.sizes()["used_bytes"]
        chain.store.close()
        assert root is not None
        found: dict[str, Any] = {"blocks": blocks, "transactions": chain.transactions, "rotations": rotation, "seed": seed}
        found |= {"made_s": round(time.monotonic() - began_s, 1), "store_bytes": size, "root": root.hex()}
        if say:
            print(json.dumps(found), file=sys.stderr, flush=True)
        source.start()
        found["replay"] = place.brought(replaying, blocks)
        given = replaying.ledger.given
        assert given, "a node that came through rotations holds a state"
        assert source.stop() == 0
        pinned = to_text(IdKind.CHECKPOINT, checkpoint_digest(first_checkpoint(place.genesis)))
        joining.configure(chain=ledger_world.CHAIN, addresses=[place.relays[2].address], checkpoint=pinned)
        found["snapshot"] = place.brought(joining, blocks) | {"first": joining.ledger.first}
        assert found["snapshot"]["first"] == given[-1] > 1
        assert found["replay"]["root"] == found["snapshot"]["root"] == root.hex()
        assert [node.stop() for node in (replaying, joining)] == [0, 0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(soak(Path(folder), blocks=arguments.blocks, seed=arguments.seed, say=True), indent=1))


if __name__ == "__main__":
    main()
