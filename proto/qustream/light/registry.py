"""The registry of who keeps no chain: every answer proven from one pinned checkpoint (`proto/spec/light-client.md`, §4)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, Self, TypeVar

from qustream.errors import PeerFault, QuStreamError, fault
from qustream.light.listing import Listing, Said
from qustream.light.trust import Known, Later, Trust, VoteVerifier
from qustream.model.base import Noun
from qustream.model.ids import IdKind, to_text
from qustream.model.network import Epoch, Grant, NodeClass, NodeRecord, QrngServerRecord, UserRecord
from qustream.model.state import Account, EpochEntry, Licence, NodeEntry, Parameters, Progress, Table, UserEntry
from qustream.registry.chain_records import node_record, user_record
from qustream.registry.interface import Change, ChangeKind, Registry
from qustream.rules.assignment import ranked_listed
from qustream.wire.codec import decode, encode
from qustream.wire.light import (
    KEYS_MAX,
    LIGHT_ANSWER_MAX_BYTES,
    GrantsAsk,
    GrantsListed,
    HandOversAsk,
    LightAsk,
    ListedNode,
    NodesAsk,
    NodesListed,
    ProofsAsk,
)

__all__ = ["LightRegistry", "Nodes"]

_T = TypeVar("_T", bound=Noun)
_R = TypeVar("_R")
# Whom the list of nodes is asked of: one honest of three makes it whole.
LISTS_ASKED = 3
# Above the cap on licences, so that a teller of tales cannot fill the memory.
LISTED_MAX = 8192
# Pages of one list: twice as many as full ones would be. Who gives one entry a page, and takes its time over each, is not waited for.
PAGES_MAX = 42
# Values and lists that are kept until `refresh`: an encryption needs some forty.
KEPT_MAX = 4096
# Nodes that `nodes` proves of a class: callers choose a handful of them.
SAMPLE_MAX = 24


class Nodes(Protocol):
    """The nodes that can be asked, by number from 0: whoever is configured."""

    def __len__(self) -> int: ...
    def ask(self, number: int, body: bytes) -> bytes:
        """The answer of a node. Errors: its refusal, `E-PEER-…`, `E-DEADLINE`."""
        ...

    def close(self) -> None:
        """End what is kept open to them. Harmless when repeated."""
        ...


class LightRegistry(Registry):
    """`Registry` by proofs. Any thread may use it; questions to nodes are asked one at a time. Every method may raise `E-CHAIN-STALE`,
    `E-PEER-UNREACHABLE` or `E-DEADLINE` when no node that is asked gives an answer that checks, and `E-CHECKPOINT-OLD`."""

    def __init__(
        self, chain: str, checkpoint: bytes, nodes: Nodes, *, verify: VoteVerifier, clock_ms: Callable[[], int], known: Known | None = None,
        remember: Callable[[Known], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`checkpoint`: the pinned 32 bytes; `known`: what `remember` was last told. Errors: `E-CHECKPOINT-OLD` if that is too old."""
        self._remember = remember
        self._chain, self._nodes, self._clock_ms = chain, nodes, clock_ms
        self._trust = Trust(checkpoint, verify=verify, now_ms=clock_ms(), known=known)
        self._lock = threading.RLock()
        self._turn = 0
        self._values: dict[bytes, bytes | None] = {}
        self._listed: Listing | None = None
        self._grants: dict[bytes, list[bytes]] = {}
        self._confirmed_ms = 0

    def close(self) -> None:
        """End the connections to nodes that are kept. Harmless when repeated; a question asked afterwards opens new ones."""
        with self._lock:
            self._nodes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- asking ---------------------------------------------------------------------------------------------------------------

    def _ask_any(self, body: LightAsk, take: Callable[[bytes], _R]) -> _R:
        """The first answer that checks, of nodes in turn. Errors: the last one's. That there is no hand-over is believed of the first: if
        it is not so, no proof of its will check."""
        trouble: QuStreamError = fault("E-PEER-UNREACHABLE", "no node is configured that could be asked")
        for _ in range(len(self._nodes)):
            try:
                return take(self._nodes.ask(self._turn % len(self._nodes), encode(body)))
            except QuStreamError as error:
                if error.code == "E-NOT-HELD" and isinstance(body, HandOversAsk):
                    raise
                trouble = error
                self._turn += 1
        # They lie, which is none of the caller's doing: he may ask others, or later.
        if isinstance(trouble, PeerFault) and trouble.code != "E-NOT-HELD":
            raise fault("E-CHAIN-STALE", f"no node gives an answer that checks: {trouble.detail}") from None
        raise trouble

    def _follow(self) -> None:
        trust = self._trust
        trust.follow(self._clock_ms())
        while (question := trust.question()) is not None:
            try:
                self._ask_any(question, partial(trust.take, question))
            except QuStreamError as error:
                if error.code != "E-NOT-HELD" or not isinstance(question, HandOversAsk):
                    raise
                trust.is_newest()
        if trust.chain != self._chain:
            raise fault("E-CHAIN-STALE", f"the checkpoint is of the chain {trust.chain!r}, not of {self._chain!r}")
        self._remember(trust.known)

    def _prove(self, keys: Iterable[bytes]) -> None:
        """Have the values of these keys. Errors: see the class."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._values]
        for at in range(0, len(wanted), KEYS_MAX):
            part = tuple(wanted[at : at + KEYS_MAX])
            if self._trust.question() is not None:
                self._follow()
            values = self._proven_values(part)
            if len(self._values) + len(part) > KEPT_MAX:
                self._values.clear()
            self._values.update(zip(part, values, strict=True))
            self._confirmed_ms = self._clock_ms()

    def _proven_values(self, keys: tuple[bytes, ...]) -> list[bytes | None]:
        """Of whoever can prove them. One who speaks of a later rotation and cannot say how it came about is passed over."""
        for _ in range(2 * len(self._nodes) + 1):
            try:
                return self._ask_any(ProofsAsk(keys), partial(self._believe, keys))
            except Later:
                before = self._trust.rotation
                self._follow()
                self._turn += self._trust.rotation == before
        raise fault("E-CHAIN-STALE", "nodes answer of a rotation that nobody hands over to")

    def _believe(self, keys: Sequence[bytes], data: bytes) -> list[bytes | None]:
        return self._trust.values(keys, data, self._clock_ms())

    def _entry(self, table: Table, name: bytes, kind: type[_T]) -> _T | None:
        key = bytes([table]) + name
        with self._lock:
            self._prove([key])
            raw = self._values[key]
        return None if raw is None else decode(raw, kind, max_bytes=LIGHT_ANSWER_MAX_BYTES)

    def _known_entry(self, table: Table, name: bytes, kind: type[_T], what: IdKind) -> _T:
        found = self._entry(table, name, kind)
        if found is None:
            shown = to_text(what, name) if len(name) == 32 else f"an id of {len(name)} bytes"
            raise fault("E-REGISTRY-UNKNOWN", f"the chain knows no {shown}")
        return found

    def refresh(self, now_ms: int) -> None:
        """Forget what was proven: the next questions are asked again."""
        with self._lock:
            self._values.clear()
            self._grants.clear()
            self._listed = None
            self._confirmed_ms = min(self._confirmed_ms, now_ms)

    # -- the registry -----------------------------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Of the newest state anything was proven in."""
        return self._trust.height

    @property
    def chain(self) -> str:
        return self._chain

    def node(self, node_id: bytes, /) -> NodeRecord:
        entry = self._known_entry(Table.NODE, node_id, NodeEntry, IdKind.NODE)
        licence = self._entry(Table.LICENCE, entry.licence, Licence)
        if licence is None:
            raise fault("E-REGISTRY-UNKNOWN", "the node's licence is gone")
        return node_record(entry, licence)

    def nodes(self, node_class: NodeClass) -> Sequence[NodeRecord]:
        """A sample of the class's active nodes, at most 24, each proven: as many as anybody chooses from."""
        with self._lock:
            while True:
                said = [each for each in self._list().said if each.node_class is node_class]
                sample = said[:: max(1, len(said) // SAMPLE_MAX)][:SAMPLE_MAX]
                proven = self._proven(sample)
                if len(proven) == len(sample):
                    return sorted(proven.values(), key=lambda record: record.key.id)

    def claimed(self) -> frozenset[bytes]:
        """Ids of all that the nodes asked say are active nodes. A claim: whether they are is `active_among`'s to say."""
        with self._lock:
            return frozenset(each.id for each in self._list().said)

    def active_among(self, nodes: Iterable[bytes]) -> frozenset[bytes]:
        """Those of these nodes that are active, by proofs, sixteen entries a question."""
        wanted = list(dict.fromkeys(nodes))
        with self._lock:
            self._prove(bytes([Table.NODE]) + each for each in wanted)
            entries = {each: found for each in wanted if (found := self._entry(Table.NODE, each, NodeEntry)) is not None}
            self._prove(bytes([Table.LICENCE]) + entry.licence for entry in entries.values())
            licences = {each: self._entry(Table.LICENCE, entry.licence, Licence) for each, entry in entries.items()}
        return frozenset(each for each, licence in licences.items() if licence is not None and node_record(entries[each], licence).active)

    def qrng_server(self, server_id: bytes, /) -> QrngServerRecord:
        return self._known_entry(Table.QRNG_SERVER, server_id, QrngServerRecord, IdKind.QRNG)

    def user(self, user_id: bytes, /) -> UserRecord:
        return user_record(self._known_entry(Table.USER, user_id, UserEntry, IdKind.USER))

    def addressee(self, user_id: bytes, /) -> bytes:
        return self._known_entry(Table.USER, user_id, UserEntry, IdKind.USER).alias or user_id

    def grant(self, grant_id: bytes, /) -> Grant:
        return self._known_entry(Table.GRANT, grant_id, Grant, IdKind.GRANT)

    def grants_of(self, user_id: bytes, /) -> Sequence[Grant]:
        with self._lock:
            if user_id not in self._grants:
                listed = self._ask_any(GrantsAsk(user_id), lambda data: decode(data, GrantsListed, max_bytes=LIGHT_ANSWER_MAX_BYTES))
                self._grants[user_id] = list(dict.fromkeys(listed.grants))
                self._turn += 1  # who hides some is not who is asked the next time
            self._prove(bytes([Table.GRANT]) + each for each in self._grants[user_id])
            found = [self._entry(Table.GRANT, each, Grant) for each in self._grants[user_id]]
        own = [grant for grant in found if grant is not None and grant.owner == user_id]
        return sorted(own, key=lambda grant: (-grant.epoch, grant.grant))

    def assignment(self, grant: Grant, j: int) -> dict[NodeClass, list[NodeRecord]]:
        with self._lock:
            seed = self.epoch_at(grant.epoch).seed
            return {node_class: self._assigned(grant, j, node_class, seed) for node_class in NodeClass}

    def _assigned(self, grant: Grant, j: int, node_class: NodeClass, seed: bytes) -> list[NodeRecord]:
        while True:
            candidates = [each for each in self._list().said if each.since_epoch <= grant.epoch]
            best = ranked_listed(candidates, grant, j, node_class, seed, identity=lambda each: each.id)
            proven = self._proven(best)
            if len(proven) == len(best):
                return [proven[each] for each in best]

    def _list(self) -> Listing:
        """Who says to be a node, as told by several."""
        if self._listed is None:
            listing = Listing()
            asked, trouble = 0, fault("E-PEER-UNREACHABLE", "no node is configured that could be asked")
            for number in range(self._turn, self._turn + len(self._nodes)):
                teller = number % len(self._nodes)
                try:
                    listing.tell(teller, self._listed_by(teller))
                    asked += 1
                except QuStreamError as error:
                    trouble = error
                if asked == LISTS_ASKED:
                    break
            if not asked:
                raise trouble
            self._listed = listing
        if self._listed.is_refuted:
            self._listed = None
            raise fault("E-CHAIN-STALE", "no node lists the nodes there are")
        return self._listed

    def _listed_by(self, number: int) -> list[ListedNode]:
        found: list[ListedNode] = []
        after = bytes(32)
        for _ in range(PAGES_MAX):
            page = decode(self._nodes.ask(number, encode(NodesAsk(after))), NodesListed, max_bytes=LIGHT_ANSWER_MAX_BYTES).nodes
            if not page:
                return found
            for node in page:
                if node.id <= after or len(found) >= LISTED_MAX:
                    raise fault("E-PROOF", "a list of nodes that is in no order, or has no end")
                found.append(node)
                after = node.id
        raise fault("E-PROOF", "a list of nodes in more pages than it needs")

    def _proven(self, listed: Sequence[Said]) -> dict[Said, NodeRecord]:
        """Those of them that the chain has, as they are listed; the others are struck off the list."""
        keys = [(bytes([Table.NODE]) + each.id, bytes([Table.LICENCE]) + each.licence) for each in listed]
        self._prove(key for pair in keys for key in pair)
        assert self._listed is not None, "there is a list"
        found: dict[Said, NodeRecord] = {}
        for each in listed:
            record = self._record_of(each)
            if record is None:
                self._listed.strike(each)
            else:
                found[each] = record
        return found

    def _record_of(self, said: Said) -> NodeRecord | None:
        """What the chain has of a node, if it is what is said of it."""
        entry = self._entry(Table.NODE, said.id, NodeEntry)
        licence = self._entry(Table.LICENCE, said.licence, Licence)
        if entry is None or licence is None or entry.licence != said.licence:
            return None
        record = node_record(entry, licence)
        told = (said.node_class, said.operator, said.since_epoch)
        return record if record.active and told == (record.node_class, record.operator, licence.since_epoch) else None

    def epoch(self, now_ms: int) -> Epoch:
        """The epoch of now, or the chain's newest as long as that one has no block."""
        length_ms, genesis_ms = self._clockwork()
        if now_ms < genesis_ms:
            raise fault("E-CHAIN-STALE", f"this clock is {genesis_ms - now_ms} ms before the network's genesis")
        progress = self._entry(Table.PROGRESS, b"", Progress)
        return self.epoch_at(min((now_ms - genesis_ms) // length_ms, progress.epoch if progress is not None else 0))

    def epoch_at(self, number: int) -> Epoch:
        """Errors: `E-REGISTRY-UNKNOWN` for one that has not begun on the chain."""
        length_ms, genesis_ms = self._clockwork()
        entry = self._entry(Table.EPOCH, number.to_bytes(8, "big"), EpochEntry) if 0 <= number < 1 << 63 else None
        if entry is None:
            raise fault("E-REGISTRY-UNKNOWN", f"epoch {number} has no block yet")
        return Epoch(number, genesis_ms + number * length_ms, entry.seed, length_ms)

    def _clockwork(self) -> tuple[int, int]:
        """The length of an epoch, and the time of genesis."""
        parameters = self._entry(Table.PARAMETERS, b"", Parameters)
        first = self._entry(Table.EPOCH, bytes(8), EpochEntry)
        if parameters is None or first is None:
            raise fault("E-CHAIN-STALE", "a chain without parameters")
        return parameters.epoch_ms, first.time_ms

    # -- for wallets ------------------------------------------------------------------------------------------------------------

    def account(self, account: bytes) -> Account:
        """What an account has; one that nobody has heard of has nothing."""
        return self._entry(Table.ACCOUNT, account, Account) or Account(0, 0)

    def parameters(self) -> Parameters:
        """The chain's figures."""
        found = self._entry(Table.PARAMETERS, b"", Parameters)
        if found is None:
            raise fault("E-CHAIN-STALE", "a chain without parameters")
        return found

    def age_ms(self, now_ms: int) -> int:
        return max(0, now_ms - self._confirmed_ms)

    def changes(self, since_height: int) -> Sequence[Change]:
        """Always everything: who has no blocks cannot tell."""
        return [Change(self.height, ChangeKind.EVERYTHING)] if self.height > since_height else []
