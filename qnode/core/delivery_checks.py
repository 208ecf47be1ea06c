"""What a request must satisfy before its index is looked at, the cheap before the dear (`proto/spec/delivery.md` §3).

Each check takes facts that somebody else has looked up and answers `Refuse` or None. Signature verdicts are facts too: a core
holds no key. The order of calls is the spec's; the service makes them in that order and stops at the first refusal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from qnode.core.delivery import Refuse
from qustream.errors import QuStreamError
from qustream.model.keys import DeviceCertificate
from qustream.model.network import Epoch, Grant, UserRecord
from qustream.rules.assignment import GRANT_EPOCHS
from qustream.rules.merkle import leaf_hash, root_of_path
from qustream.wire.keys import BLOCK_SEED_BYTES, Binding, KeyBody

__all__ = [
    "CLOCK_SKEW_MS",
    "EPOCH_EDGE_MS",
    "LIFETIME_CAP_MS",
    "REGISTRY_AGE_MAX_MS",
    "REQUEST_VALIDITY_MAX_MS",
    "Channel",
    "check_binding",
    "check_certificate",
    "check_device",
    "check_grant",
    "check_key_body",
    "grant_end_ms",
]

# A signed request is of no use to whoever finds it later.
REQUEST_VALIDITY_MAX_MS = 120_000
# How far a device's clock may be off.
CLOCK_SKEW_MS = 30_000
# Validity and the error of both clocks: who signed just before an edge is served just after it, and the other way round.
EPOCH_EDGE_MS = REQUEST_VALIDITY_MAX_MS + 2 * CLOCK_SKEW_MS
# A node that does not hear of revocations must not serve.
REGISTRY_AGE_MAX_MS = 60_000
# Whatever a grant says, a node promises nothing beyond a leap year: sums of times stay far below 63 bits.
LIFETIME_CAP_MS = 366 * 86_400_000


@dataclass(frozen=True, slots=True)
class Channel:
    """What the node knows of itself, its connection and its view of the network when a request arrives."""

    chain: str
    node: bytes
    exporter: bytes
    epoch: Epoch
    registry_age_ms: int


def check_binding(binding: Binding, channel: Channel, now_ms: int) -> Refuse | None:
    """Spec §3.2: this network, this node, now, this channel, this epoch, and a view that is fresh enough to serve."""
    if binding.chain != channel.chain:
        return Refuse("E-PEER-CHAIN", "the request is signed for another network")
    if binding.node != channel.node:
        return Refuse("E-REQUEST-NODE", "the request is signed for another node")
    if now_ms >= binding.expires_ms + CLOCK_SKEW_MS:
        return Refuse("E-REQUEST-EXPIRED", f"the request expired {now_ms - binding.expires_ms} ms ago by this node's clock")
    if binding.expires_ms > now_ms + REQUEST_VALIDITY_MAX_MS + CLOCK_SKEW_MS:
        return Refuse("E-REQUEST-EXPIRED", "the request is valid for longer than two minutes by this node's clock")
    if binding.exporter != channel.exporter:
        return Refuse("E-REQUEST-NODE", "the request is signed for another channel")
    if not _epoch_fits(binding.epoch, channel.epoch, now_ms):
        return Refuse("E-REQUEST-EXPIRED", f"the request is signed in epoch {binding.epoch}, here it is {channel.epoch.number}")
    if channel.registry_age_ms > REGISTRY_AGE_MAX_MS:
        return Refuse("E-CHAIN-STALE", f"this node last heard of the network {channel.registry_age_ms // 1000} s ago")
    return None


def _epoch_fits(signed: int, epoch: Epoch, now_ms: int) -> bool:
    if signed == epoch.number:
        return True
    if signed == epoch.number - 1:
        return now_ms < epoch.boundary_ms + EPOCH_EDGE_MS
    if signed == epoch.number + 1:
        return now_ms >= epoch.boundary_ms + epoch.length_ms - EPOCH_EDGE_MS
    return False


def check_device(binding: Binding, certificate: DeviceCertificate, user: UserRecord | None, now_ms: int) -> Refuse | None:
    """Spec §3.3 without the signatures. `user`: the registry's record, None if it has none."""
    if user is None:
        return Refuse("E-DEVICE-UNKNOWN", "the network does not know this user")
    if certificate.user != binding.user:
        return Refuse("E-REQUEST-INVALID", "the device certificate was made for another user")
    device = certificate.device_key.id
    entry = next((entry for entry in user.devices if entry.device == device), None)
    if entry is None:
        return Refuse("E-DEVICE-UNKNOWN", "this device is not registered for this user")
    if entry.revoked:
        return Refuse("E-DEVICE-REVOKED", "this device was revoked")
    if now_ms >= certificate.expires_ms:
        return Refuse("E-DEVICE-EXPIRED", "the device's certificate has expired")
    return None


def check_certificate(*, by_master: bool) -> Refuse | None:
    """Spec §3.3: `by_master` is the verdict on the certificate's signature by the user's master key."""
    return None if by_master else Refuse("E-DEVICE-UNKNOWN", "the device's certificate is not signed by this user's master key")


def check_key_body(body: KeyBody, seed: bytes) -> Refuse | None:
    """Spec §3.4: whether a key request agrees with itself and with its seed."""
    if len(seed) != BLOCK_SEED_BYTES or hashlib.sha256(seed).digest() != body.seed_hash:
        return Refuse("E-REQUEST-INVALID", "the block seed is not the one that was signed")
    if len(set(body.recipients)) != len(body.recipients):
        return Refuse("E-REQUEST-INVALID", "a recipient is named twice")
    if body.recipients and not body.lifetime_ms:
        return Refuse("E-REQUEST-INVALID", "recipients without a lifetime can never collect")
    return None


def check_grant(body: KeyBody, certificate: DeviceCertificate, grant: Grant | None) -> Refuse | None:
    """Spec §3.4: whether this device may spend this index of this grant for this lifetime. `grant`: None if there is no such."""
    if grant is None:
        return Refuse("E-GRANT-UNKNOWN", "")
    if grant.owner != body.binding.user:
        return Refuse("E-GRANT-RUID", "the grant belongs to another user")
    epoch = body.binding.epoch
    if epoch < grant.epoch:
        return Refuse("E-GRANT-UNKNOWN", f"the grant begins in epoch {grant.epoch}")
    if epoch >= grant.epoch + GRANT_EPOCHS:
        return Refuse("E-GRANT-EXPIRED", f"the grant was good until epoch {grant.epoch + GRANT_EPOCHS - 1}")
    if body.index >= grant.count:
        return Refuse("E-REQUEST-INVALID", f"index {body.index} of a grant of {grant.count}")
    if body.index % grant.stripes != certificate.stripe:
        return Refuse("E-REQUEST-INVALID", f"index {body.index} is not of this device's stripe")
    if not _leads_to_root(body, grant):
        return Refuse("E-GRANT-RUID", "")
    if body.lifetime_ms > min(grant.lifetime_max_ms, LIFETIME_CAP_MS):
        return Refuse("E-LIFETIME", f"the grant pays for at most {min(grant.lifetime_max_ms, LIFETIME_CAP_MS)} ms")
    return None


def _leads_to_root(body: KeyBody, grant: Grant) -> bool:
    try:
        return root_of_path(leaf_hash(body.ruid), body.index, grant.count, body.path) == grant.root
    except QuStreamError:
        return False


def grant_end_ms(grant: Grant, epoch: Epoch) -> int:
    """The first instant at which `grant` is good no more, seen from the current `epoch`; never before that epoch's end.

    An edge is soft by `EPOCH_EDGE_MS`; `MARK_MARGIN_MS` is far above it."""
    epochs_left = max(grant.epoch + GRANT_EPOCHS - epoch.number, 1)
    return epoch.boundary_ms + epochs_left * epoch.length_ms
