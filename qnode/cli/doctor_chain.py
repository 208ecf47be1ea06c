"""The chain on this disk for `qnode doctor`: the network as its executed state has it, or the beginning before there is any; whether the
chain goes on; and what a validator needs. Beside a running node its own words count."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from qnode.api.chain_status import VotingStatus
from qnode.api.spans import span_text
from qnode.api.status import StatusSnapshot
from qnode.cli.options import open_votes
from qnode.config import Config
from qnode.core.consensus_events import SignState
from qnode.core.ledger import rotations
from qnode.core.ledger.genesis import begin
from qnode.core.ledger.state import Reader, State
from qnode.service.asked import vouched
from qnode.service.chain_node import FOLDER, read_genesis
from qnode.service.duty import duty_conditions, duty_of
from qnode.service.registry import ChainRegistry
from qnode.service.voter import forgotten
from qnode.service.within import is_local_number
from qnode.store.chain import ChainStore
from qnode.store.chain.environment import is_there
from qnode.store.sign_state import SignStateFile
from qustream.client.chain import ChainClient
from qustream.errors import QuStreamError, fault
from qustream.identity.voting import VoteKey
from qustream.model.genesis import Genesis
from qustream.model.ids import IdKind, to_text
from qustream.wire.chain import genesis_digest
from qustream.wire.chain_entries import NodeLine
from qustream.wire.consensus import Statement

__all__ = ["ChainOnDisk", "ChainSurvey", "licence_by", "local_by", "open_chain"]

# As the alert on it: months of a quiet chain, a day of a full one.
ROOM_BYTES = 1_000_000_000
# What a node without an active licence does, and its operator.
NEXT = "it follows the chain all the same, and its own pages take what activates one: qnode licence activate LICENCE"
# As the node's own conditions have it (proto/spec/node.md, "Chain", "Readiness").
STALE_MS, CLOCK_AHEAD_MS = 60_000, 2_000


@dataclass(frozen=True, slots=True)
class ChainOnDisk:
    """`store`: None before there is any, or while a node has it."""

    genesis: Genesis
    registry: ChainRegistry
    store: ChainStore | None


class _Fixed:
    """A state in memory (`Reader`)."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self._entries = entries
        self._keys = sorted(entries)

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        keys = [key for key in self._keys if key.startswith(prefix) and key > after]
        return [(key, self._entries[key]) for key in keys[:limit]]


def open_chain(config: Config) -> ChainOnDisk:
    """Until this process ends. Errors: `E-FILE`, `E-CONFIG`, `E-LEDGER-FORM`; of `ChainStore.open`, but that a running node has the
    store: then the registry is the beginning's."""
    assert config.genesis_file is not None, "the network is a chain's"
    genesis = read_genesis(config.genesis_file, config.chain)
    folder = config.data_dir / FOLDER
    if is_there(folder):
        try:
            store = ChainStore.open(folder, genesis)
            return ChainOnDisk(genesis, ChainRegistry(store.state, genesis), store)
        except QuStreamError as error:
            if error.code != "E-DATA-LOCKED":
                raise
    reader: Reader = _first_state(genesis)

    def view() -> AbstractContextManager[Reader]:
        return nullcontext(reader)

    return ChainOnDisk(genesis, ChainRegistry(view, genesis), None)


def _first_state(genesis: Genesis) -> _Fixed:
    state = State(_Fixed({}))
    begin(state, genesis)
    return _Fixed({key: value for key, value in state.changes().items() if value is not None})


def local_by(config: Config, genesis: Genesis) -> Callable[[bytes], Collection[str] | None]:
    """Which addresses of a node may lead into a local network, None for all: those that genesis and the configuration vouch for, unless
    this node says that it is in one itself."""
    sure = any(map(is_local_number, config.addresses))
    known = vouched(config.named_nodes, genesis)
    return lambda node: None if sure else known.get(node, ())


def licence_by(config: Config, node_id: bytes) -> NodeLine:
    """What the running node's chain says of this node. Errors: `E-PEER-UNLICENSED`, those of asking a node."""
    try:
        line = ChainClient(f"http://{config.status_listen}", config.chain).get(f"nodes/{to_text(IdKind.NODE, node_id)}", NodeLine)
    except QuStreamError as error:
        if error.code in ("E-NOT-HELD", "E-LEDGER-UNKNOWN"):
            raise fault("E-PEER-UNLICENSED", f"no licence of the chain names this node; {NEXT}") from None
        raise
    if line.status != "active":
        raise fault("E-PEER-UNLICENSED", f"licence {line.licence} is {line.status}; {NEXT}")
    return line


class ChainSurvey:
    """Checks of a node on a chain. `running`: what the node itself says, if it runs. Each returns a note, or raises what is wrong."""

    def __init__(
        self, config: Config, chain: ChainOnDisk, running: StatusSnapshot | None, *, node_id: bytes, now_ms: int
    ) -> None:  # fmt: skip
        self._config, self._chain, self._node_id, self._now_ms = config, chain, node_id, now_ms
        self._running = running.ledger if running is not None else None
        self._node = running

    def genesis(self) -> str:
        """For comparing with others: who has another digest is on another chain. That the directory was begun with it, opening has said."""
        return f"digest {genesis_digest(self._chain.genesis).hex()}"

    def head(self) -> str:
        """How far it is. Errors: `E-CHAIN-STALE`, `E-CLOCK`."""
        if self._running is None:
            store = self._chain.store
            if store is None:
                return "nothing is here yet; the node fetches it when it runs, with a licence or without"
            head = store.header_at(store.final.height)
            age = span_text(max(0, self._now_ms - (head.time_ms if head is not None else self._chain.genesis.time_ms)))
            return f"block {store.final.height}, {age} old; the node fetches what came since"
        status, now_ms = self._running, self._now_ms
        if status.final_ms - now_ms > CLOCK_AHEAD_MS:
            raise fault("E-CLOCK", f"the newest block is {status.final_ms - now_ms} ms ahead of this clock")
        if now_ms - status.final_ms > STALE_MS:
            raise fault("E-CHAIN-STALE", f"block {status.final} is the newest here, {span_text(now_ms - status.final_ms)} old")
        return f"block {status.final}, {span_text(max(0, now_ms - status.final_ms))} old, executed to {status.executed}"

    def room(self) -> str:
        """What the chain may still grow by. Errors: `E-DISK-FULL`."""
        folder = self._config.data_dir
        free = shutil.disk_usage(folder).free
        if free < ROOM_BYTES:
            raise fault("E-DISK-FULL", f"{folder}: {free >> 20} MiB are free for the chain, which grows; {ROOM_BYTES >> 20} MiB are little")
        used = sum(file.stat().st_blocks * 512 for file in (folder / FOLDER).glob("*") if file.is_file())
        return f"{used >> 20} MiB used, {free >> 20} MiB free"

    def memory(self) -> str:
        """Whether what was signed is remembered. Errors: of `SignStateFile.load`; `E-VOTE-MEMORY`; those of opening the vote keystore."""
        validator, key = self._config.validator, self._vote_key()
        assert validator is not None, "asked of a validator alone"
        had = SignStateFile(validator.sign_state_path, key.id).load()
        if self._node is not None:
            for found in self._node.conditions:
                if found.code == "E-VOTE-MEMORY":
                    raise fault(found.code, found.detail)
        elif (store := self._chain.store) is not None and (lost := _lost(store, had, key.id)) is not None:
            raise fault("E-VOTE-MEMORY", f"others have a {lost.kind.name.lower()} of view {lost.view} by this key that it does not know")
        return f"rotation {had.rotation}, last final view {had.final_view}"

    def duty(self) -> str:
        """What the chain says of it. Errors: the first of its conditions; those of opening the vote keystore."""
        voting = self._running.voting if self._running is not None else self._voting()
        if voting is None:
            return "not known before the chain is here"
        for found in duty_conditions(voting, self._now_ms):
            raise fault(found.code, found.detail)
        if voting.duty == "none":
            return "no licence votes with this node yet; qnode stake add, then qnode validator register"
        where = "its duty ends, or is over" if voting.duty == "leaves" else f"seat {voting.seat}" if voting.seat >= 0 else "registered"
        return f"licence {voting.licence}, {where}; commission {voting.commission_bp / 100:g} %; {voting.links} reveals left"

    def _voting(self) -> VotingStatus | None:
        """By the chain on the disk."""
        if (store := self._chain.store) is None:
            return None
        vote_key = self._vote_key().id
        with store.state() as view:
            return duty_of(State(view), self._node_id, vote_key).status(vote_key, seat=-1, silent="", signed=0, leads=True)

    def _vote_key(self) -> VoteKey:
        votes = open_votes(self._config)
        assert votes is not None, "asked of a validator alone"
        return VoteKey(votes.seed)


def _lost(store: ChainStore, had: SignState, vote_key: bytes) -> Statement | None:
    """Something that this key has signed in the running rotation, by what is kept here, and that the sign-state does not know."""
    rotation = store.executed.rotation
    with store.state() as view:
        entry = rotations.find(State(view), rotation)
    seats = entry.seats if entry is not None else ()
    me = next((number for number, seat in enumerate(seats) if seat.vote_key == vote_key), None)
    return forgotten(had, rotation, me, store.kept(rotation, had.final_view)) if me is not None else None
