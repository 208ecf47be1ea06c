"""A device's requests, made for one channel and one moment (`proto/spec/keys.md`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from qustream.client.asking import Ask
from qustream.identity.user import UserHome
from qustream.model.network import NodeRecord
from qustream.registry import Registry
from qustream.transport.greeting import Peer
from qustream.wire.codec import encode
from qustream.wire.keys import (
    AcknowledgeBody,
    AlertsBody,
    Binding,
    CollectBody,
    DeviceRequest,
    KeyBody,
    RequestBody,
    RevokeBody,
)
from qustream.wire.rpc import BODY_MAX_BYTES

__all__ = ["KeyOrder", "Requests"]

# A signed request is of use to nobody after this; delivery.md allows two minutes.
VALIDITY_MS = 60_000
SMALL_ANSWER_MAX_BYTES = 16_384  # an erasure, an acknowledgement, 64 alerts


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """What every node of an envelope is asked alike."""

    grant: bytes
    index: int
    ruid: bytes
    path: tuple[bytes, ...]
    recipients: tuple[bytes, ...]
    lifetime_ms: int


class Requests:
    """Makes the requests of one device. `clock_ms`: Unix time."""

    def __init__(self, home: UserHome, registry: Registry, clock_ms: Callable[[], int]) -> None:
        self._home = home
        self._registry = registry
        self._clock_ms = clock_ms

    def key(self, node: NodeRecord, order: KeyOrder, seed: bytes) -> Ask:
        """Ask `node` for a block built with `seed` (126 bytes, for this node alone)."""
        seed_hash = hashlib.sha256(seed).digest()

        def body(binding: Binding) -> RequestBody:
            return KeyBody(
                binding=binding,
                grant=order.grant,
                index=order.index,
                ruid=order.ruid,
                path=order.path,
                recipients=order.recipients,
                lifetime_ms=order.lifetime_ms,
                seed_hash=seed_hash,
            )

        return self._ask(node, body, seed=seed, max_answer_bytes=BODY_MAX_BYTES)

    def collect(self, node: NodeRecord, grant: bytes, index: int) -> Ask:
        """Ask for a held block, as a recipient."""
        return self._ask(node, lambda binding: CollectBody(binding, grant, index), max_answer_bytes=BODY_MAX_BYTES)

    def acknowledge(self, node: NodeRecord, grant: bytes, index: int, *, collected: bool) -> Ask:
        """Say that the block is safe here: as the asker, or (`collected`) as a recipient."""
        return self._ask(node, lambda binding: AcknowledgeBody(binding, grant, index, collected))

    def revoke(self, node: NodeRecord, grant: bytes, index: int) -> Ask:
        """Want a block erased, as its asker."""
        return self._ask(node, lambda binding: RevokeBody(binding, grant, index))

    def alerts(self, node: NodeRecord, since_ms: int) -> Ask:
        """Ask what a node has noticed about this device's user."""
        return self._ask(node, lambda binding: AlertsBody(binding, since_ms))

    def _ask(
        self,
        node: NodeRecord,
        body: Callable[[Binding], RequestBody],
        *,
        seed: bytes = b"",
        max_answer_bytes: int = SMALL_ANSWER_MAX_BYTES,
    ) -> Ask:
        def request(peer: Peer) -> bytes:
            data = encode(body(self._binding(peer)))
            return encode(DeviceRequest(data, self._home.device.sign("device-request", data), seed))

        return Ask(node, request, max_answer_bytes)

    def _binding(self, peer: Peer) -> Binding:
        now = self._clock_ms()
        return Binding(
            chain=self._registry.chain,
            node=peer.id,
            epoch=self._registry.epoch(now).number,
            expires_ms=now + VALIDITY_MS,
            exporter=peer.exporter,
            user=self._home.user,
            certificate=self._home.certificate,
        )
