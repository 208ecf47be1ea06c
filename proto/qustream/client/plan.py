"""The decisions behind encrypting, opening and revoking, shared by the blocking and the trio client (`proto/spec/client.md`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TypedDict, TypeVar

from qustream.client.answers import CheckedBlock, Expected, check_acknowledged, check_alerts, check_erasure, check_key_answer
from qustream.client.asking import Ask, Gather, Quorum, Tell
from qustream.client.reports import ErasureReport, Revoked
from qustream.client.requests import KeyOrder, Requests
from qustream.envelope import RECIPIENTS_MAX, ClientSecrets, Header, HeldBlock, Sender, VerifiedSender, verify_sender
from qustream.errors import QuStreamError, fault
from qustream.identity.enrolment import open_hpke_statement
from qustream.identity.user import UserHome
from qustream.model.entropy import R_BYTES
from qustream.model.ids import IdKind, from_text, to_text
from qustream.model.network import Grant, NodeClass, NodeRecord
from qustream.registry import Registry, if_known
from qustream.rules.assignment import GRANT_EPOCHS, PER_CLASS
from qustream.sharing import THRESHOLD
from qustream.wire.keys import BLOCK_SEED_BYTES, Alert, Erasure

__all__ = ["About", "Plan", "SenderVerdict"]

# An erasure so long before it was asked for had another cause; less may be the difference of two clocks.
ERASED_BEFORE_MS = 5_000
ALERT_NODES = 5  # asked for alerts, a class: enough that one silent node hides nothing
DEFAULT_LIFETIME_MS = 7 * 24 * 3600 * 1000  # a week to collect, if the grant paid for that long
LIFETIME_MIN_MS = 1000  # less is a mistake of units: the envelope would be gone before it is written
# Acknowledging, giving back and asking for alerts are courtesies: whoever does not answer in this time is not waited for.
FAREWELL_MS = 3_000

_T = TypeVar("_T")
_DICE = SystemRandom()


class About(TypedDict):
    """What an envelope says of itself: the arguments that `make_header` and `seal_pad` share."""

    sender: Sender
    recipients: Sequence[tuple[bytes, bytes]]
    chain: str
    created_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class SenderVerdict:
    """Who signed an envelope, and whether the registry says that the device was revoked since."""

    sender: VerifiedSender
    revoked: bool


class Plan:
    """Everything a client decides for one user on one network."""

    def __init__(self, home: UserHome, registry: Registry, clock_ms: Callable[[], int]) -> None:
        self.home = home
        self.registry = registry
        self.clock_ms = clock_ms
        self._requests = Requests(home, registry, clock_ms)

    # -- encrypting -----------------------------------------------------------------------------------------------------

    def recipients(self, to: Sequence[str | bytes]) -> list[tuple[bytes, bytes]]:
        """User id and HPKE key of each recipient; of one who was merged into another, that other's.

        Errors: `E-ID-TEXT`, `E-REGISTRY-UNKNOWN`, `E-REQUEST-INVALID` when there is none."""
        if isinstance(to, str | bytes):  # for the type checker a str is a sequence of str
            to = [to]
        users = dict.fromkeys(from_text(one, IdKind.USER) if isinstance(one, str) else one for one in to)
        if not 1 <= len(users) <= RECIPIENTS_MAX:
            raise fault("E-REQUEST-INVALID", f"an envelope has 1 to {RECIPIENTS_MAX} recipients, not {len(users)}")
        # Of two that were merged only the one that is left has keys that somebody will renew.
        records = [(user, self.registry.user(user)) for user in dict.fromkeys(map(self.registry.addressee, users))]
        return [(user, open_hpke_statement(record.hpke, record.master)) for user, record in records]

    def order(self, recipients: Sequence[tuple[bytes, bytes]], lifetime_ms: int | None) -> KeyOrder:
        """Choose a grant and reserve its next index, on disk, before anybody is asked.

        Errors: `E-GRANT-UNKNOWN` without a usable grant, `E-GRANT-EXHAUSTED`, `E-LIFETIME`, `E-REQUEST-INVALID`, `E-DEVICE-EXPIRED`,
        `E-CLASS-SHORT` when the network has not got enough nodes.
        """
        if lifetime_ms is not None and lifetime_ms < LIFETIME_MIN_MS:
            raise fault("E-REQUEST-INVALID", f"a lifetime is at least {LIFETIME_MIN_MS // 1000} s")
        self.home.require_valid(self.clock_ms())
        why = fault("E-GRANT-UNKNOWN", self._no_grant())
        for grant in self.usable_grants():
            lifetime = min(DEFAULT_LIFETIME_MS, grant.lifetime_max_ms) if lifetime_ms is None else lifetime_ms
            if lifetime > grant.lifetime_max_ms:
                why = fault("E-LIFETIME", f"{lifetime // 1000} s, where the grant paid for at most {grant.lifetime_max_ms // 1000} s")
                continue
            self._require_nodes(grant)
            try:
                index = self.home.next_index(grant.grant)
            except QuStreamError as error:
                if error.code != "E-GRANT-EXHAUSTED":
                    raise
                why = error
                continue
            ruid, path = self.home.ruid(grant.grant, index)
            return KeyOrder(grant.grant, index, ruid, path, tuple(user for user, _ in recipients), lifetime)
        raise why

    def _no_grant(self) -> str:
        try:
            self.registry.user(self.home.user)
        except QuStreamError as error:
            if error.code == "E-REGISTRY-UNKNOWN":
                return "the network does not know this user yet: have the enrolment enrolled, then a grant given"
            raise
        return "this device has no grant that is good now"

    def _require_nodes(self, grant: Grant) -> None:
        """Whom an index is assigned to differs, how many there are to choose from does not: without enough nodes no index is spent."""
        for node_class, nodes in self.registry.assignment(grant, 0).items():
            if len(nodes) < PER_CLASS:
                raise Quorum[CheckedBlock](node_class, nodes, PER_CLASS).short()

    def usable_grants(self) -> list[Grant]:
        """This device's grants that are good now, the one that ends first in front."""
        epoch = self.registry.epoch(self.clock_ms()).number
        self.home.grants.forget_ended(epoch - GRANT_EPOCHS + 1)
        usable = []
        for grant in self.registry.grants_of(self.home.user):
            if grant.epoch <= epoch < grant.epoch + GRANT_EPOCHS:
                try:
                    self.home.adopt_grant(grant)
                except QuStreamError as error:
                    if error.code != "E-GRANT-UNKNOWN":  # bought by another device whose nonce we have not got
                        raise
                else:
                    usable.append(grant)
        return sorted(usable, key=lambda grant: (grant.epoch, grant.grant))

    def gather_keys(self, order: KeyOrder) -> Gather[CheckedBlock]:
        """Ask three assigned nodes of each class for a block, each with a seed of its own, further ranks when one fails."""
        assigned = self.registry.assignment(self.registry.grant(order.grant), order.index)
        seeds = {node.key.id: os.urandom(BLOCK_SEED_BYTES) for nodes in assigned.values() for node in nodes}

        def ask(node: NodeRecord) -> Ask:
            return self._requests.key(node, order, seeds[node.key.id])

        def check(node: NodeRecord, data: bytes) -> CheckedBlock:
            expected = Expected(order.grant, order.index, seeds[node.key.id], lifetime_ms=order.lifetime_ms)
            block = check_key_answer(data, node=node, expected=expected, registry=self.registry, at_ms=self.clock_ms())
            # A leaf names its node, so it is the randomness itself that tells two units apart.
            if any(_same_randomness(block, other) for other in gather.answers.values()):
                raise fault("E-ANSWER-INVALID", "made of the same randomness as another node's block")
            return block

        gather = Gather((Quorum(c, nodes, PER_CLASS) for c, nodes in assigned.items()), ask=ask, check=check)
        return gather

    def held_blocks(self, order: KeyOrder, blocks: Mapping[bytes, CheckedBlock]) -> list[HeldBlock]:
        """The blocks in the form the envelope takes; their material is a copy, which the envelope overwrites."""
        return [
            HeldBlock(
                node=node,
                node_class=NodeClass(block.node.node_class),
                material=bytearray(block.material),
                salt=block.salt,
                block_hash=block.block_hash,
                seed=block.seed,
                grant=order.grant,
                index=order.index,
            )
            for node, block in blocks.items()
        ]

    def about(self, recipients: Sequence[tuple[bytes, bytes]], blocks: Mapping[bytes, CheckedBlock]) -> About:
        """What the envelope made of these blocks says of itself; it expires with the first of them."""
        return {
            "sender": (self.home.user, self.home.device, self.home.certificate),
            "recipients": recipients,
            "chain": self.registry.chain,
            "created_ms": self.clock_ms(),
            "expires_ms": min(block.expires_ms for block in blocks.values()),
        }

    def discard(self, nodes: Sequence[NodeRecord], order: KeyOrder) -> Tell[Erasure]:
        """Give back blocks of which no envelope was made, so that they take no room until they expire."""
        return self._erase(nodes, order.grant, order.index, patience_ms=FAREWELL_MS)

    def _erase(self, nodes: Sequence[NodeRecord], grant: bytes, index: int, *, patience_ms: int | None) -> Tell[Erasure]:
        chain = self.registry.chain
        return Tell(
            nodes,
            ask=lambda node: self._requests.revoke(node, grant, index),
            check=lambda node, data: check_erasure(data, node=node, grant=grant, index=index, chain=chain),
            patience_ms=patience_ms,
        )

    # -- opening --------------------------------------------------------------------------------------------------------

    def sender(self, header: Header) -> SenderVerdict:
        """Verify who sent an envelope, and that the blocks it names are his to use and of the classes it says.

        Errors: `E-PEER-CHAIN` (another network's), `E-ENVELOPE-SENDER`, `E-CLASS-MIX`, `E-REGISTRY-UNKNOWN`.
        """
        if header.core.chain != self.registry.chain:
            raise fault("E-PEER-CHAIN", f"the envelope belongs to the network {header.core.chain!r}, this user to {self.registry.chain!r}")
        record = self.registry.user(header.core.sender)
        sender = verify_sender(header, record.master, self.clock_ms())
        entry = next((entry for entry in record.devices if entry.device == sender.device), None)
        if entry is None:
            raise fault("E-ENVELOPE-SENDER", "the device that signed is not one of the sender's")
        self._require_own_blocks(header)
        return SenderVerdict(sender, entry.revoked)

    def _require_own_blocks(self, header: Header) -> None:
        """Whoever can open an envelope could make another of its blocks. Acknowledging that one would erase the blocks of the first."""
        grant = if_known(self.registry.grant, header.core.grant)
        if grant is not None and grant.owner != header.core.sender:
            raise fault("E-ENVELOPE-SENDER", "its blocks were made for another user than the one who signed it")
        for node_class in NodeClass:
            for node in self._known(header, node_class):
                if node.node_class is not node_class:
                    name = node_class.name.lower()
                    raise fault("E-CLASS-MIX", f"the envelope calls {to_text(IdKind.NODE, node.key.id)} a {name} node, which it is not")

    def gather_held(self, header: Header, secrets: ClientSecrets) -> Gather[CheckedBlock]:
        """Collect two blocks of each class, the third when one fails."""
        ask, check = self._collecting(header, secrets)
        return Gather((Quorum(c, self._known(header, c), THRESHOLD) for c in NodeClass), ask=ask, check=check)

    def collect_each(self, header: Header, secrets: ClientSecrets, *, besides: Collection[bytes] = ()) -> Tell[CheckedBlock]:
        """Collect the block of every node of an envelope, but for those in `besides`."""
        ask, check = self._collecting(header, secrets)
        return Tell([node for node in self.nodes_of(header) if node.key.id not in besides], ask=ask, check=check)

    def _collecting(
        self, header: Header, secrets: ClientSecrets
    ) -> tuple[Callable[[NodeRecord], Ask], Callable[[NodeRecord, bytes], CheckedBlock]]:
        core = header.core
        hashes = {block.node: block.block_hash for block in core.blocks}

        def ask(node: NodeRecord) -> Ask:
            return self._requests.collect(node, core.grant, core.index)

        def check(node: NodeRecord, data: bytes) -> CheckedBlock:
            expected = Expected(core.grant, core.index, secrets.seeds[node.key.id], block_hash=hashes[node.key.id])
            return check_key_answer(data, node=node, expected=expected, registry=self.registry, at_ms=core.created_ms)

        return ask, check

    def explained(self, header: Header, error: QuStreamError) -> QuStreamError:
        """A failure to gather, in the words of what most likely happened: after its end an envelope is expired, not short of nodes."""
        if error.code in ("E-CLASS-SHORT", "E-NOT-HELD") and self.clock_ms() >= header.core.expires_ms:
            return fault("E-ENVELOPE-EXPIRED", "the nodes have erased the blocks of this envelope")
        return error

    # -- afterwards -----------------------------------------------------------------------------------------------------

    def acknowledge(self, nodes: Sequence[NodeRecord], grant: bytes, index: int, *, collected: bool) -> Tell[bool]:
        """Tell nodes that their block is safe here."""
        return Tell(
            nodes,
            ask=lambda node: self._requests.acknowledge(node, grant, index, collected=collected),
            check=lambda node, data: check_acknowledged(data),
            patience_ms=FAREWELL_MS,
        )

    def revoke(self, header: Header) -> Tell[Erasure]:
        """Want all six blocks of an envelope of this user's erased. Errors: `E-NOT-SENDER` when it is another's."""
        core = header.core
        if core.sender != self.home.user:
            raise fault("E-NOT-SENDER", f"only its sender, {to_text(IdKind.USER, core.sender)}, can revoke an envelope")
        return self._erase(self.nodes_of(header), core.grant, core.index, patience_ms=None)

    def revoked(self, header: Header, told: Tell[Erasure], asked_ms: int) -> Revoked:
        """What a revocation asked at `asked_ms` (Unix ms) achieved."""
        reports, erased = [], dict.fromkeys(NodeClass, 0)
        for block in header.core.blocks:
            node_class = NodeClass(block.node_class)
            receipt = told.answers.get(block.node)
            erased[node_class] += receipt is not None
            error = told.errors.get(block.node) or (None if receipt else fault("E-REGISTRY-UNKNOWN", "the node has left the network"))
            erased_ms = receipt.erased_ms if receipt else None
            was_before = erased_ms is not None and erased_ms < asked_ms - ERASED_BEFORE_MS
            reports.append(ErasureReport(block.node, node_class, erased_ms, error, was_before))
        return Revoked(tuple(reports), any(count >= THRESHOLD for count in erased.values()))

    def alerts(self, since_ms: int) -> Tell[tuple[Alert, ...]]:
        """Ask what nodes have noticed: of each class five that are active, of different operators, others every time."""
        nodes: list[NodeRecord] = []
        for node_class in NodeClass:
            by_operator: dict[str, list[NodeRecord]] = {}
            for node in self.registry.nodes(node_class):
                if node.active:
                    by_operator.setdefault(node.operator, []).append(node)
            operators = _DICE.sample(sorted(by_operator), min(ALERT_NODES, len(by_operator)))
            nodes += (_DICE.choice(by_operator[operator]) for operator in operators)
        return Tell(
            nodes,
            ask=lambda node: self._requests.alerts(node, since_ms),
            check=lambda node, data: check_alerts(data),
            patience_ms=FAREWELL_MS,
        )

    def nodes_of(self, header: Header) -> list[NodeRecord]:
        """The nodes of an envelope's blocks that the registry still knows."""
        return [node for node_class in NodeClass for node in self._known(header, node_class)]

    def _known(self, header: Header, node_class: NodeClass) -> list[NodeRecord]:
        found = [if_known(self.registry.node, block.node) for block in header.blocks_of(node_class)]
        return [node for node in found if node is not None]


def _same_randomness(one: CheckedBlock, other: CheckedBlock) -> bool:
    return memoryview(one.material)[:R_BYTES] == memoryview(other.material)[:R_BYTES]
