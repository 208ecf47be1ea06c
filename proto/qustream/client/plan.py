"""The decisions behind encrypting, opening and revoking, shared by the blocking and the trio client (`proto/spec/client.md`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qustream.client.answers import CheckedBlock, Expected, check_acknowledged, check_alerts, check_erasure, check_key_answer
from qustream.client.asking import Ask, Gather, Quorum, Tell
from qustream.client.reports import ErasureReport, Revoked
from qustream.client.requests import KeyOrder, Requests
from qustream.envelope import ClientSecrets, Header, HeldBlock, VerifiedSender, verify_sender
from qustream.errors import QuStreamError, fault
from qustream.identity.enrolment import open_hpke_statement
from qustream.identity.user import UserHome
from qustream.model.ids import IdKind, from_text, to_text
from qustream.model.network import Grant, NodeClass, NodeRecord
from qustream.registry import Registry
from qustream.wire.keys import BLOCK_SEED_BYTES, Alert, Erasure

__all__ = ["Plan", "SenderVerdict"]

PER_CLASS = 3  # blocks an envelope is made of, a class
TO_OPEN = 2  # blocks that open it, a class
GRANT_EPOCHS = 2  # a grant serves in its epoch and the next
ALERT_NODES = 5  # asked for alerts, a class: enough that one silent node hides nothing
DEFAULT_LIFETIME_MS = 7 * 24 * 3600 * 1000  # a week to collect, if the grant paid for that long


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
        """User id and HPKE key of each recipient. Errors: `E-ID-TEXT`, `E-REGISTRY-UNKNOWN`, `E-REQUEST-INVALID` when there is none."""
        users = [from_text(one, IdKind.USER) if isinstance(one, str) else one for one in to]
        if not users:
            raise fault("E-REQUEST-INVALID", "an envelope needs at least one recipient")
        records = [(user, self.registry.user(user)) for user in dict.fromkeys(users)]
        return [(user, open_hpke_statement(record.hpke, record.master)) for user, record in records]

    def order(self, recipients: Sequence[tuple[bytes, bytes]], lifetime_ms: int | None) -> KeyOrder:
        """Choose a grant and reserve its next index, on disk, before anybody is asked.

        Errors: `E-GRANT-UNKNOWN` without a usable grant, `E-GRANT-EXHAUSTED`, `E-LIFETIME`, `E-DEVICE-EXPIRED`.
        """
        self.home.require_valid(self.clock_ms())
        exhausted: QuStreamError | None = None
        for grant in self.usable_grants():
            lifetime = min(DEFAULT_LIFETIME_MS, grant.lifetime_max_ms) if lifetime_ms is None else lifetime_ms
            if lifetime > grant.lifetime_max_ms:
                raise fault("E-LIFETIME", f"the grant paid for at most {grant.lifetime_max_ms // 1000} s")
            try:
                index = self.home.next_index(grant.grant)
            except QuStreamError as error:
                if error.code != "E-GRANT-EXHAUSTED":
                    raise
                exhausted = error
                continue
            ruid, path = self.home.ruid(grant.grant, index)
            return KeyOrder(grant.grant, index, ruid, path, tuple(user for user, _ in recipients), lifetime)
        raise exhausted or fault("E-GRANT-UNKNOWN", "this user has no grant that is good now")

    def usable_grants(self) -> list[Grant]:
        """This device's grants that are good now, the one that ends first in front."""
        epoch = self.registry.epoch(self.clock_ms()).number
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
            expected = Expected(order.grant, order.index, seeds[node.key.id])
            block = check_key_answer(data, node=node, expected=expected, registry=self.registry, at_ms=self.clock_ms())
            if any(
                block.provenance and other.provenance and block.provenance.leaf == other.provenance.leaf
                for other in gather.answers.values()
            ):
                raise fault("E-ANSWER-INVALID", "the same unit that another node used")
            return block

        gather = Gather((Quorum(c, nodes, PER_CLASS) for c, nodes in assigned.items()), ask=ask, check=check)
        return gather

    def held_blocks(self, order: KeyOrder, blocks: dict[bytes, CheckedBlock]) -> tuple[list[HeldBlock], int]:
        """The blocks in the form the envelope takes, and when the first of them expires (Unix ms)."""
        held = [
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
        return held, min(block.expires_ms for block in blocks.values())

    # -- opening --------------------------------------------------------------------------------------------------------

    def sender(self, header: Header) -> SenderVerdict:
        """Verify who sent an envelope. Errors: `E-PEER-CHAIN` (another network's), `E-ENVELOPE-SENDER`, `E-REGISTRY-UNKNOWN`."""
        if header.core.chain != self.registry.chain:
            raise fault("E-PEER-CHAIN", f"the envelope belongs to the network {header.core.chain!r}, this user to {self.registry.chain!r}")
        record = self.registry.user(header.core.sender)
        sender = verify_sender(header, record.master, self.clock_ms())
        entry = next((entry for entry in record.devices if entry.device == sender.device), None)
        if entry is None:
            raise fault("E-ENVELOPE-SENDER", "the device that signed is not one of the sender's")
        return SenderVerdict(sender, entry.revoked)

    def gather_held(self, header: Header, secrets: ClientSecrets, *, need: int = TO_OPEN) -> Gather[CheckedBlock]:
        """Collect `need` blocks of each class, the third when one fails."""
        core = header.core
        hashes = {block.node: block.block_hash for block in core.blocks}

        def ask(node: NodeRecord) -> Ask:
            return self._requests.collect(node, core.grant, core.index)

        def check(node: NodeRecord, data: bytes) -> CheckedBlock:
            expected = Expected(core.grant, core.index, secrets.seeds[node.key.id], hashes[node.key.id])
            return check_key_answer(data, node=node, expected=expected, registry=self.registry, at_ms=core.created_ms)

        return Gather((Quorum(c, self._known(header, c), need) for c in NodeClass), ask=ask, check=check)

    def explained(self, header: Header, error: QuStreamError) -> QuStreamError:
        """A failure to gather, in the words of what most likely happened: after its end an envelope is expired, not short of nodes."""
        if error.code == "E-CLASS-SHORT" and self.clock_ms() >= header.core.expires_ms:
            return fault("E-ENVELOPE-EXPIRED", "the nodes have erased the blocks of this envelope")
        return error

    # -- afterwards -----------------------------------------------------------------------------------------------------

    def acknowledge(self, nodes: Sequence[NodeRecord], grant: bytes, index: int, *, collected: bool) -> Tell[bool]:
        """Tell nodes that their block is safe here."""
        return Tell(
            nodes,
            ask=lambda node: self._requests.acknowledge(node, grant, index, collected=collected),
            check=lambda node, data: check_acknowledged(data),
        )

    def revoke(self, header: Header) -> Tell[Erasure]:
        """Want all six blocks of an envelope of this user's erased. Errors: `E-ENVELOPE-SENDER` when it is another's."""
        core = header.core
        if core.sender != self.home.user:
            raise fault("E-ENVELOPE-SENDER", f"only its sender, {to_text(IdKind.USER, core.sender)}, can revoke an envelope")
        return Tell(
            self.nodes_of(header),
            ask=lambda node: self._requests.revoke(node, core.grant, core.index),
            check=lambda node, data: check_erasure(data, node=node, grant=core.grant, index=core.index, chain=core.chain),
        )

    def revoked(self, header: Header, told: Tell[Erasure]) -> Revoked:
        """What a revocation achieved."""
        reports, erased = [], dict.fromkeys(NodeClass, 0)
        for block in header.core.blocks:
            node_class = NodeClass(block.node_class)
            receipt = told.answers.get(block.node)
            erased[node_class] += receipt is not None
            error = told.errors.get(block.node) or (None if receipt else fault("E-REGISTRY-UNKNOWN", "the node has left the network"))
            reports.append(ErasureReport(block.node, node_class, receipt.erased_ms if receipt else None, error))
        return Revoked(tuple(reports), any(count >= TO_OPEN for count in erased.values()))

    def alerts(self, since_ms: int) -> Tell[tuple[Alert, ...]]:
        """Ask one active node of each class and operator, at most five a class, what it has noticed."""
        nodes = []
        for node_class in NodeClass:
            by_operator = {node.operator: node for node in self.registry.nodes(node_class) if node.active}
            nodes += list(by_operator.values())[:ALERT_NODES]
        return Tell(nodes, ask=lambda node: self._requests.alerts(node, since_ms), check=lambda node, data: check_alerts(data))

    def nodes_of(self, header: Header) -> list[NodeRecord]:
        """The nodes of an envelope's blocks that the registry still knows."""
        return [node for node_class in NodeClass for node in self._known(header, node_class)]

    def _known(self, header: Header, node_class: NodeClass) -> list[NodeRecord]:
        known = []
        for block in header.blocks_of(node_class):
            try:
                known.append(self.registry.node(block.node))
            except QuStreamError as error:
                if error.code != "E-REGISTRY-UNKNOWN":
                    raise
        return known
