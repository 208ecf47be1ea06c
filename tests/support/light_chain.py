"""A chain as a light client sees it: rotations that hand over to each other, a state with a root, and nodes that answer, or lie.

chain = LightChain(rotations=5)
chain.put(Table.EPOCH, bytes(8), EpochEntry(...))
node = chain.node()                     an honest one: `node.ask(0, body)`
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from support.ledger_world import PARAMETERS

from qustream.errors import fault
from qustream.model.base import Noun
from qustream.model.network import Grant
from qustream.model.state import EpochEntry, Licence, LicenceStatus, NodeEntry, Progress, Seat, Table
from qustream.registry.chain_records import operator_of
from qustream.rules.radix import Proof, path_of, value_hash
from qustream.rules.radix_tree import build, prove
from qustream.wire.chain import rotation_set_hash
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import NO_DIGEST, Certificate, ChainHeader, Kind, Statement, header_digest
from qustream.wire.light import (
    LIGHT_ASK_MAX_BYTES,
    NODES_PAGE,
    Checkpoint,
    CheckpointAsk,
    GrantsAsk,
    GrantsListed,
    HandOver,
    HandOvers,
    HandOversAsk,
    KeysAsk,
    LightAsk,
    ListedNode,
    NodesAsk,
    NodesListed,
    Proofs,
    ProofsAsk,
    ProvenEntry,
    SetAsk,
    SetTold,
    VoteKeys,
    checkpoint_digest,
)

CHAIN, START_MS, ROTATION_MS = "light-test", 1_700_000_000_000, 3_600_000
VOTE_KEY_BYTES, SIGNATURE_BYTES = 1312, 2420


def vote_key(number: int) -> bytes:
    return hashlib.sha256(b"light vote key %d" % number).digest() * 41


def sign(key: bytes, statement: Statement) -> bytes:
    """What stands for a signature here: as long as one, and of this key and statement alone."""
    return (hashlib.sha512(key + encode(statement)).digest() * 38)[:SIGNATURE_BYTES]


def holds(key: bytes, statement: Statement, signature: bytes) -> bool:
    return signature == sign(key, statement)


class Memory:
    """A tree in memory (`radix_tree.Backing`)."""

    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.all = sorted(path_of(key) + value_hash(value) for key, value in entries.items())

    def node(self, prefix: bytes) -> bytes | None:
        return self.nodes.get(prefix)

    def put_node(self, prefix: bytes, node: bytes) -> None:
        self.nodes[prefix] = node

    def drop_node(self, prefix: bytes) -> None:
        self.nodes.pop(prefix, None)

    def pairs(self, prefix: bytes, limit: int) -> list[bytes]:
        digits = "".join(f"{each:x}" for each in prefix)
        return [pair for pair in self.all if pair.hex().startswith(digits)][:limit]


class LightChain:
    """`validators` of equal weight; the set moves on by one of them in each rotation."""

    def __init__(self, *, rotations: int = 3, validators: int = 4) -> None:
        self.rotations, self.validators = rotations, validators
        self.entries: dict[bytes, bytes] = {}
        self.now_ms = START_MS + rotations * ROTATION_MS - 1_000
        self.put(Table.PARAMETERS, b"", PARAMETERS)
        self.put(Table.EPOCH, bytes(8), EpochEntry(0, START_MS, b"\x07" * 32))
        self.put(Table.PROGRESS, b"", Progress(98, bytes(32), self.now_ms, 0, rotations, 9, bytes(32), False))
        self.checkpoint = Checkpoint(CHAIN, 1, self.set_hash(1), START_MS)

    @property
    def pinned(self) -> bytes:
        return checkpoint_digest(self.checkpoint)

    def put(self, table: Table, name: bytes, value: Noun) -> None:
        self.entries[bytes([table]) + name] = encode(value)

    # -- validators

    def numbers(self, rotation: int) -> list[int]:
        return [rotation + each for each in range(self.validators)]

    def rotation_set(self, rotation: int) -> SetTold:
        seats = tuple(
            Seat(number.to_bytes(16, "big"), hashlib.sha256(vote_key(number)).digest(), 10, True) for number in self.numbers(rotation)
        )
        return SetTold(rotation, seats, rotation.to_bytes(32, "big"))

    def set_hash(self, rotation: int) -> bytes:
        them = self.rotation_set(rotation)
        return rotation_set_hash(rotation, them.seats, them.seed)

    def header(
        self, rotation: int, *, next_set: bytes = NO_DIGEST, root: bytes = bytes(32), parent: bytes = bytes(32), age_ms: int = 0
    ) -> ChainHeader:
        time_ms = START_MS + rotation * ROTATION_MS - 1_000 - age_ms
        height = 10 * rotation + 9
        return ChainHeader(
            CHAIN, rotation, 9, height, parent, 8, time_ms, height - 2, root, bytes(32), 0, bytes(32), next_set, 0,
        )  # fmt: skip

    def certify(self, header: ChainHeader, signers: Sequence[int] | None = None) -> Certificate:
        """A finalisation by the rotation's seats of these places (a quorum of all by default)."""
        places = list(range(2 * self.validators // 3 + 1)) if signers is None else list(signers)
        statement = Statement(CHAIN, header.rotation, header.view, Kind.FINAL, header_digest(header))
        keys = [vote_key(number) for number in self.numbers(header.rotation)]
        bits = bytearray(max(places) // 8 + 1)
        for place in places:
            bits[place // 8] |= 0x80 >> place % 8
        signatures = tuple(sign(keys[place], statement) for place in places)
        return Certificate(header.rotation, header.view, Kind.FINAL, header_digest(header), bytes(bits), signatures)

    def hand_over(self, rotation: int) -> HandOver:
        header = self.header(rotation, next_set=self.set_hash(rotation + 1))
        return HandOver(header, self.certify(header))

    # -- state

    def proofs(self, keys: Sequence[bytes], *, rotation: int | None = None, age_ms: int = 0) -> Proofs:
        tree = Memory(self.entries)
        root = build(tree, b"", tree.all)[0] or bytes(32)
        first = self.header(rotation or self.rotations, root=root, age_ms=age_ms)
        last = self.header(rotation or self.rotations, parent=header_digest(first), age_ms=age_ms)
        entries = tuple(ProvenEntry(self.entries.get(key), prove(tree, root, key)) for key in keys)
        return Proofs((first, last), self.certify(last), entries)

    def node(self, lie: Callable[[LightAsk, Any], Any] | None = None) -> Told:
        """A node; `lie` makes of a question and its true answer what it says instead."""
        return Told(self, lie or (lambda _, answer: answer))


class Told:
    """A node (`registry.Nodes` of one)."""

    def __init__(self, chain: LightChain, lie: Callable[[LightAsk, Any], Any]) -> None:
        self.chain, self.lie, self.asked, self.closed = chain, lie, 0, 0

    def __len__(self) -> int:
        return 1

    def ask(self, number: int, body: bytes) -> bytes:
        self.asked += 1
        question = decode(body, LightAsk, max_bytes=LIGHT_ASK_MAX_BYTES)
        answer = self.lie(question, self._true(question))
        return answer if isinstance(answer, bytes) else encode(answer)

    def close(self) -> None:
        self.closed += 1

    def _true(self, question: LightAsk) -> Noun:
        chain = self.chain
        match question:
            case CheckpointAsk():
                return chain.checkpoint
            case HandOversAsk(rotation=rotation):
                if rotation >= chain.rotations:
                    raise fault("E-NOT-HELD", "the present rotation")
                return HandOvers(tuple(chain.hand_over(each) for each in range(rotation, min(rotation + 2, chain.rotations))))
            case SetAsk(rotation=rotation):
                return chain.rotation_set(rotation)
            case KeysAsk(hashes=hashes):
                known = {hashlib.sha256(vote_key(each)).digest(): vote_key(each) for each in range(200)}
                return VoteKeys(tuple(known[each] for each in hashes))
            case ProofsAsk(keys=keys):
                return chain.proofs(keys)
            case NodesAsk(after=after):
                return NodesListed(tuple(node for node in self.listed() if node.id > after)[:NODES_PAGE])
            case GrantsAsk(user=user):
                grants = [decode(raw, Grant, max_bytes=9999) for key, raw in chain.entries.items() if key[0] == Table.GRANT]
                return GrantsListed(tuple(grant.grant for grant in grants if grant.owner == user))

    def listed(self) -> list[ListedNode]:
        found = []
        for key, raw in sorted(self.chain.entries.items()):
            if key[0] == Table.NODE:
                entry = decode(raw, NodeEntry, max_bytes=9999)
                licence = decode(self.chain.entries[bytes([Table.LICENCE]) + entry.licence], Licence, max_bytes=9999)
                if licence.status is LicenceStatus.ACTIVE:
                    facts = (licence.node_class, operator_of(licence), entry.licence, entry.addresses, licence.since_epoch)
                    found.append(ListedNode(entry.key.id, *facts))
        return found


class Several:
    """Several nodes as one `registry.Nodes`."""

    def __init__(self, *nodes: Told) -> None:
        self.nodes = nodes

    def __len__(self) -> int:
        return len(self.nodes)

    def ask(self, number: int, body: bytes) -> bytes:
        return self.nodes[number].ask(0, body)

    def close(self) -> None:
        for node in self.nodes:
            node.close()


NO_PROOF = Proof((), b"")
