"""Answers light clients, who need not be known here and need not trust us (`proto/spec/light-client.md`).

Whoever asks is a stranger: what one question may cost is bounded by its form, how many are worked on at once here, how many each address
may ask by the listener.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from qnode.core.ledger import genesis as ledger_genesis
from qnode.core.ledger import rotations
from qnode.core.ledger.state import State
from qnode.service.chain import Chain
from qustream.errors import fault
from qustream.model.base import Noun
from qustream.model.genesis import Genesis
from qustream.model.network import Grant
from qustream.model.state import Licence, NodeEntry, Table, VoteKeyEntry
from qustream.registry import Registry
from qustream.registry.chain_records import node_record
from qustream.rules.assignment import GRANT_EPOCHS
from qustream.wire.chain import rotation_set_hash
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import ChainHeader, header_digest
from qustream.wire.light import (
    GRANTS_LISTED_MAX,
    HAND_OVERS_MAX,
    LIGHT_ANSWER_MAX_BYTES,
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

_T = TypeVar("_T")

__all__ = ["LIGHT_TAGS", "LightAnswers", "first_checkpoint", "listed_grants", "listed_nodes"]

LIGHT_TAGS = range(109, 123)
# At once: each reads some hundred pages and hashes, a millisecond or two of a thread.
WORKED_ON_MAX = 4
# Checkpoints told of by their digest: the rotations of 28 days are in the state, half of that is of use to anybody.
CHECKPOINTS_MAX = 400
NO_DIGEST = bytes(32)
# Room for the message around the hand-overs.
HEAD_BYTES = 64


def first_checkpoint(genesis: Genesis) -> Checkpoint:
    """The checkpoint that a chain begins with. Errors: `E-LEDGER-FORM`."""
    state = State(_Empty())
    ledger_genesis.begin(state, genesis)
    entry = rotations.current(state, 1)
    return Checkpoint(genesis.chain, 1, rotation_set_hash(1, entry.seats, entry.seed), genesis.time_ms)


class _Empty:
    """A state with nothing in it."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return []


class LightAnswers:
    """One node's. `registry`: of the same chain."""

    def __init__(self, chain: Chain, registry: Registry) -> None:
        self._chain, self._registry = chain, registry
        self._places = trio.Semaphore(WORKED_ON_MAX)
        self._checkpoints: OrderedDict[bytes, Checkpoint] = OrderedDict()
        self._noted = 0  # the newest rotation whose checkpoint is noted

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest: of the rotation that runs. Errors: `E-NOT-HELD` on a node that began with a later state, until the next."""
        self._note()
        if not self._checkpoints:
            raise fault("E-NOT-HELD", "the block that this rotation stands on is from before this node began")
        return next(reversed(self._checkpoints.values()))

    async def answer(self, body: bytes) -> bytes:
        """Answer anybody. Errors: the refusal."""
        question = decode(body, LightAsk, max_bytes=LIGHT_ASK_MAX_BYTES)
        async with self._places:
            if isinstance(question, CheckpointAsk):
                return encode(self._checkpoint(question.digest))
            return encode(await trio.to_thread.run_sync(partial(self._answered, question)))

    def _answered(self, question: LightAsk) -> Noun:
        match question:
            case HandOversAsk(rotation=rotation):
                return self._hand_overs(rotation)
            case SetAsk(rotation=rotation):
                entry = self._with_state(lambda state: rotations.find(state, rotation))
                if entry is None:
                    raise fault("E-NOT-HELD", "the set of that rotation is not known here")
                return SetTold(rotation, entry.seats, entry.seed)
            case KeysAsk(hashes=hashes):
                return VoteKeys(self._with_state(lambda state: _vote_keys(state, hashes)))
            case ProofsAsk(keys=keys):
                return self._proofs(keys)
            case NodesAsk(after=after):
                return NodesListed(self._with_state(lambda state: listed_nodes(state, after)))
            case GrantsAsk(user=user):
                return GrantsListed(listed_grants(self._registry.grants_of(user), self._chain.executed.epoch))
            case _:
                raise fault("E-WIRE-MALFORMED", "not a question")

    def _with_state(self, look: Callable[[State], _T]) -> _T:
        with self._chain.view() as view:
            return look(State(view))

    # -- checkpoints ------------------------------------------------------------------------------------------------------------

    def _checkpoint(self, digest: bytes) -> Checkpoint:
        self._note()
        if digest == NO_DIGEST:
            return self.checkpoint
        found = self._checkpoints.get(digest)
        if found is None:
            raise fault("E-NOT-HELD", "no such checkpoint, or it is older than 14 days, or of another chain")
        return found

    def _note(self) -> None:
        """Those of the rotations that are new since."""
        running = self._running()
        for number in range(max(1, self._noted + 1, running - CHECKPOINTS_MAX + 1), running + 1):
            checkpoint = self._of(number)
            if checkpoint is not None:
                self._checkpoints[checkpoint_digest(checkpoint)] = checkpoint
        self._noted = running
        while len(self._checkpoints) > CHECKPOINTS_MAX:
            self._checkpoints.popitem(last=False)

    def _running(self) -> int:
        progress = self._chain.executed
        return progress.rotation + 1 if progress.over else max(1, progress.rotation)

    def _of(self, number: int) -> Checkpoint | None:
        entry = self._chain.rotation(number)
        if entry is None:
            return None
        if entry.base_height == 0:
            time_ms = self._chain.genesis.time_ms
        else:
            header = self._chain.store.header_at(entry.base_height)
            if header is None:  # from before the snapshot this node began with
                return None
            time_ms = header.time_ms
        return Checkpoint(self._chain.genesis.chain, number, rotation_set_hash(number, entry.seats, entry.seed), time_ms)

    # -- following ----------------------------------------------------------------------------------------------------------------

    def _hand_overs(self, rotation: int) -> HandOvers:
        items: list[HandOver] = []
        size = HEAD_BYTES
        for number in range(rotation, rotation + HAND_OVERS_MAX):
            item = self._hand_over(number)
            if item is None:
                break
            size += len(encode(item))
            if size > LIGHT_ANSWER_MAX_BYTES and items:
                break
            items.append(item)
        if not items and rotation < self._running():
            raise fault("E-CHAIN-STALE", "how that rotation ended is from before this node began; ask another")
        if not items:
            raise fault("E-NOT-HELD", "that rotation has not ended")
        return HandOvers(tuple(items))

    def _hand_over(self, number: int) -> HandOver | None:
        """How a rotation ended: the block that the kept finalisation is of."""
        store = self._chain.store
        certificate, entry = store.end_of(number), self._with_state(lambda state: rotations.find(state, number + 1))
        if certificate is None or entry is None:
            return None
        boundary = store.header_at(entry.base_height)
        headers = [*([] if boundary is None else [boundary]), *store.tail_of(number)]
        found = next((header for header in headers if header_digest(header) == certificate.digest), None)
        return None if found is None or found.next_set == NO_DIGEST else HandOver(found, certificate)

    # -- proofs -------------------------------------------------------------------------------------------------------------------

    def _proofs(self, keys: Sequence[bytes]) -> Proofs:
        """Of the newest state whose root a block names that is final."""
        store = self._chain.store
        head = store.final
        certificate = store.finalisation(head.height) if head.header is not None else None
        last = self._header_of(certificate.digest) if certificate is not None else None
        view = self._chain.view_at(last.executed) if last is not None else None
        if certificate is None or last is None or view is None:
            raise fault("E-CHAIN-STALE", "no block is final yet that names a state held here", retry_after_ms=1_000)
        entries = tuple(ProvenEntry(view.get(key), view.prove(key)) for key in keys)
        return Proofs((last,), certificate, entries)

    def _header_of(self, digest: bytes) -> ChainHeader | None:
        head = self._chain.store.final
        if head.digest == digest:
            return head.header
        proposal = self._chain.store.proposal(digest)
        return None if proposal is None else proposal.header


def _vote_keys(state: State, hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    found = [state.get(Table.VOTE_KEY, name, VoteKeyEntry) for name in hashes]
    if None in found:
        raise fault("E-NOT-HELD", "no such vote key")
    return tuple(entry.key for entry in found if entry is not None)


def listed_grants(grants: Sequence[Grant], epoch: int) -> tuple[bytes, ...]:
    """Ids for whoever asks which grants a user has: those that are good, of these the largest, first. Anybody may buy grants for anybody;
    in order of time it would take a few hundred of one request each to crowd out what a user has bought."""
    ranked = sorted(grants, key=lambda grant: (grant.epoch + GRANT_EPOCHS <= epoch, -grant.count, -grant.epoch, grant.grant))
    return tuple(grant.grant for grant in ranked[:GRANTS_LISTED_MAX])


def listed_nodes(state: State, after: bytes) -> tuple[ListedNode, ...]:
    """A page of the active nodes whose ids are greater than `after`, in order of id. Some with addresses as long as there can be make it
    shorter, and do not keep the others from being listed."""
    listed: list[ListedNode] = []
    room = LIGHT_ANSWER_MAX_BYTES - HEAD_BYTES
    while len(listed) < NODES_PAGE:
        page = [(name, entry) for name, entry in state.scan(Table.NODE, b"", NODES_PAGE, after=after) if isinstance(entry, NodeEntry)]
        for name, entry in page:
            licence = state.must(Table.LICENCE, entry.licence, Licence)
            record = node_record(entry, licence)
            if record.active:
                facts = (record.node_class, record.operator, record.licence, record.addresses, licence.since_epoch)
                listed.append(ListedNode(name, *facts))
                room -= len(encode(listed[-1]))
                if room < 0:
                    return tuple(listed[:-1])
        if len(page) < NODES_PAGE:
            break
        after = page[-1][0]
    return tuple(listed[:NODES_PAGE])
