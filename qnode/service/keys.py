"""Answering devices: the checks in their order, the decision, what must be on disk, then the answer (`proto/spec/delivery.md`).

The decisions are `qnode.core.delivery`'s, the checks `qnode.core.delivery_checks`'s; here are their facts and their effects.
Signatures, blocks and seals are made on worker threads, a few at a time; the store's thread batches the writes of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

import trio

from qnode.core.delivery import (
    Acknowledged as AcknowledgementReceived,
)
from qnode.core.delivery import (
    Ask,
    Collected,
    Effect,
    Erase,
    Event,
    Forget,
    GiveErasure,
    HandOut,
    KeyRequested,
    Persist,
    Refuse,
    Revoked,
    SignErasure,
    TellAcknowledged,
    ask_of,
    step,
)
from qnode.core.delivery_alerts import AlertGate, AlertNote, newest
from qnode.core.delivery_checks import (
    Channel,
    check_binding,
    check_certificate,
    check_device,
    check_grant,
    check_key_body,
    grant_end_ms,
)
from qnode.service.keys_build import Built, build_answer
from qnode.service.keys_turns import Turns
from qnode.service.keys_verify import CertificateCache, Verdict, verify_request
from qnode.service.keys_workers import Workers, settled
from qnode.service.pool import PooledUnit
from qnode.store import Store, index_key
from qustream.errors import QuStreamError, fault
from qustream.identity.signing import SigningKey
from qustream.model.keys import DeviceCertificate
from qustream.model.network import UserRecord
from qustream.registry.interface import Registry, if_known
from qustream.transport.greeting import Peer
from qustream.wire.codec import decode, encode
from qustream.wire.keys import (
    REQUEST_MAX_BYTES,
    AcknowledgeBody,
    Acknowledged,
    AlertsAnswer,
    AlertsBody,
    CollectBody,
    DeviceRequest,
    Erasure,
    KeyBody,
    RequestBody,
    RevokeAnswer,
    RevokeBody,
)

__all__ = ["KeyCounts", "KeyService", "UnitSource"]

T = TypeVar("T")
U = TypeVar("U")
# Requests worked on at a time, from all connections: each may hold a unit, a block, a sealed and an open answer, ~1.1 MB.
REQUESTS_MAX = 64
# An erasure is signed before it is stored; whoever else erases the block meanwhile makes us sign again, once.
REVOKE_ATTEMPTS_MAX = 3
# One sweep's batches: 16 × 256 indices, so that a long absence is caught up with in bounded steps.
SWEEP_BATCHES_MAX = 16


class UnitSource(Protocol):
    """Where units come from. Called on the event loop, never waits."""

    def take(self, now_ms: int) -> PooledUnit | None:
        """A unit that will never be given again, or None."""
        ...


class KeyCounts(Protocol):
    """What is counted of the answers."""

    def count_answered(self, kind: str) -> None:
        """One request was answered: key, collect, acknowledge, revoke or alerts."""
        ...


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that is what it says it is, by a device in good standing."""

    request: DeviceRequest
    certificate: DeviceCertificate
    channel: Channel
    now_ms: int
    deadline_s: float  # of trio's clock
    assigned: bool  # this node to the index of a key request

    @property
    def device(self) -> bytes:
        return self.certificate.device_key.id


@dataclass(frozen=True, slots=True)
class _Stored:
    """What became of an answer: what the store's step ordered, and the answer as built."""

    effects: Sequence[Effect]
    built: Built


class KeyService:
    """Answers the requests of devices. One for a node; every method on the event loop."""

    def __init__(
        self, *, store: Store, pool: UnitSource, registry: Registry, key: SigningKey, clock_ms: Callable[[], int], counts: KeyCounts
    ) -> None:
        self._store, self._pool, self._registry, self._key = store, pool, registry, key
        self._id = key.id
        self._clock_ms = clock_ms
        self._counts = counts
        self._turns = Turns()
        self._certificates = CertificateCache()
        self._alerts = AlertGate()
        self._workers = Workers()
        self._open = 0

    async def answer(self, peer: Peer, body: bytes, deadline_ms: int) -> bytes:
        """Return the answer to `body` from `peer`, who waits for `deadline_ms` from now. Errors: every code of spec §3 and §2."""
        deadline_s = trio.current_time() + deadline_ms / 1000
        if self._open >= REQUESTS_MAX:
            raise fault("E-PEER-LIMIT", "this node is busy", retry_after_ms=500)
        self._open += 1
        try:
            request = decode(body, DeviceRequest, max_bytes=REQUEST_MAX_BYTES)
            message = decode(request.body, RequestBody, max_bytes=REQUEST_MAX_BYTES)
            admitted = await self._admit(peer, request, message, deadline_s)
            kind, answer = await self._dispatch(message, admitted)
        finally:
            self._open -= 1
        self._counts.count_answered(kind)
        return answer

    async def sweep(self) -> None:
        """Erase what is over, forget what may go, write alerts that were held back. To be called every few seconds.

        Errors: `E-NODE-READONLY` while the store cannot write."""
        now_ms = self._clock_ms()
        for note in self._alerts.ripe(now_ms):
            self._write_alert(note)
        for _ in range(SWEEP_BATCHES_MAX):
            if not await settled(self._store.sweep(now_ms)):
                return

    # -- checks ---------------------------------------------------------------------------------------------------------

    async def _admit(self, peer: Peer, request: DeviceRequest, message: RequestBody, deadline_s: float) -> _Admitted:
        """Spec §3.1 to §3.3."""
        binding = message.binding
        certificate = decode(binding.certificate.body, DeviceCertificate, max_bytes=REQUEST_MAX_BYTES)
        now_ms = self._clock_ms()
        registry = self._registry
        channel = Channel(registry.chain, self._id, peer.exporter, registry.epoch(now_ms), registry.age_ms(now_ms))
        refuse_if(check_binding(binding, channel, now_ms))
        user = if_known(registry.user, binding.user)
        refusal = check_device(binding, certificate, user, now_ms)
        if user is None or (refusal is not None and refusal.code not in ALERTED_CODES):
            refuse_if(refusal)
        assert user is not None
        assigned = await self._verified(request, message, certificate, user, refusal)
        return _Admitted(request, certificate, channel, now_ms, deadline_s, assigned)

    async def _verified(
        self, request: DeviceRequest, message: RequestBody, certificate: DeviceCertificate, user: UserRecord, refusal: Refuse | None
    ) -> bool:
        """Raise unless the signatures hold; a device refused so far is verified only as far as an alert needs it.

        Whether this node is assigned is found out on the same visit to a worker: in a large network that takes milliseconds."""
        signed = message.binding.certificate
        name = self._certificates.name(signed, user.master)
        master = None if refusal is not None or self._certificates.knows(name) else user.master

        def work() -> tuple[Verdict, bool]:
            verdict = verify_request(request, certificate, signed, master)
            holds = refusal is None and verdict.by_device and verdict.by_master
            return verdict, holds and isinstance(message, KeyBody) and self._is_assigned(message)

        verdict, assigned = await self._workers.do(work)
        self._judge(message, certificate, verdict, refusal)
        if refusal is None:
            self._certificates.remember(name)
        return assigned

    def _judge(self, message: RequestBody, certificate: DeviceCertificate, verdict: Verdict, refusal: Refuse | None) -> None:
        """Raise what stands against a request once its signatures are known; note what its user should know."""
        if refusal is None and not verdict.by_device:
            refusal = Refuse("E-SIGNATURE", "the request is not signed by the device its certificate names")
        refusal = refusal or check_certificate(by_master=verdict.by_master)
        if refusal is not None and refusal.code in ALERTED_CODES and verdict.by_device:
            note = AlertNote(message.binding.user, refusal.code, certificate.device_key.id, self._clock_ms())
            if (written := self._alerts.attempted(note)) is not None:
                self._write_alert(written)
        refuse_if(refusal)

    def _write_alert(self, note: AlertNote) -> None:
        """Best effort: whoever is refused does not wait for it, and a disk that is full is not made fuller by strangers."""
        try:
            self._store.note(note)
        except QuStreamError:
            self._alerts.dropped += note.times

    def _check_key(self, body: KeyBody, admitted: _Admitted) -> Ask:
        """Spec §3.4."""
        refuse_if(check_key_body(body, admitted.request.seed))
        grant = if_known(self._registry.grant, body.grant)
        refuse_if(check_grant(body, admitted.certificate, grant))
        assert grant is not None
        if any(if_known(self._registry.user, user) is None for user in body.recipients):
            raise fault("E-REGISTRY-UNKNOWN", "the network does not know one of the recipients")
        if not admitted.assigned:
            raise fault("E-NOT-ASSIGNED", "")
        if grant.epoch < self._store.floor_epoch:
            raise fault("E-NODE-READONLY", "this node was restored from a backup and serves later grants alone")
        return ask_of(body, admitted.device, grant_end_ms(grant, admitted.channel.epoch))

    def _is_assigned(self, body: KeyBody) -> bool:
        """For a worker: ranks a whole class. A grant nobody knows is assigned to nobody."""
        grant = if_known(self._registry.grant, body.grant)
        ranked = self._registry.assignment(grant, body.index) if grant is not None else {}
        return any(node.key.id == self._id for ranks in ranked.values() for node in ranks)

    # -- key requests ---------------------------------------------------------------------------------------------------

    async def _key_answer(self, body: KeyBody, admitted: _Admitted) -> bytes:
        ask = self._check_key(body, admitted)
        at = index_key(body.grant, body.index)
        async with self._turns.of(at):
            effect = only(step(self._store.mark(at), KeyRequested(ask), admitted.now_ms))
            if isinstance(effect, HandOut):
                return await self._workers.do(lambda: self._store.answer(at))
            unit = self._take_unit(admitted)
            # From here on the unit is spent: whether or not the asker still waits, the answer is finished, and he can fetch it.
            with trio.CancelScope(shield=True):
                return await self._answer_anew(body, admitted, ask, at, unit=unit)
        raise AssertionError("a shield is not cancelled")

    def _take_unit(self, admitted: _Admitted) -> PooledUnit:
        """Spec §3.5: room, a disk that takes writes, time, and only then a unit."""
        if (refusal := self._store.refusal()) is not None:
            raise refusal
        if trio.current_time() >= admitted.deadline_s:
            raise fault("E-DEADLINE", "the deadline passed before a block was made")
        if (unit := self._pool.take(self._clock_ms())) is None:
            raise fault("E-ENTROPY-SHORT", "no attested randomness in this node's pool", retry_after_ms=1000)
        return unit

    async def _answer_anew(self, body: KeyBody, admitted: _Admitted, ask: Ask, at: bytes, *, unit: PooledUnit) -> bytes:
        issued_ms = self._clock_ms()

        def job(result: Future[_Stored]) -> None:
            built = build_answer(unit, admitted.request.seed, body, at=at, key=self._key, store=self._store, issued_ms=issued_ms)
            stored = self._store.store_answer(at, ask, built.sealed, issued_ms=issued_ms, now_ms=issued_ms)
            stored.add_done_callback(lambda done: finish(result, done, lambda effects: _Stored(effects, built)))

        stored = await settled(self._workers.start(job))
        if isinstance(stored.effects[0], Persist):
            return stored.built.answer
        only(stored.effects)
        return await self._workers.do(lambda: self._store.answer(at))

    # -- held blocks and alerts -----------------------------------------------------------------------------------------

    async def _dispatch(self, message: RequestBody, admitted: _Admitted) -> tuple[str, bytes]:
        if isinstance(message, KeyBody):
            return "key", await self._key_answer(message, admitted)
        if admitted.request.seed:
            raise fault("E-REQUEST-INVALID", "a seed where none belongs")
        match message:
            case CollectBody():
                return "collect", await self._collect(message, admitted)
            case AcknowledgeBody():
                return "acknowledge", await self._acknowledge(message, admitted)
            case RevokeBody():
                return "revoke", await self._revoke(message, admitted)
            case AlertsBody():
                alerts = self._store.alerts(message.binding.user)
                return "alerts", encode(AlertsAnswer(newest(alerts, message.since_ms, admitted.now_ms)))

    async def _collect(self, body: CollectBody, admitted: _Admitted) -> bytes:
        at = index_key(body.grant, body.index)
        only(step(self._store.mark(at), Collected(body.binding.user), admitted.now_ms))
        return await self._workers.do(lambda: self._store.answer(at))

    async def _acknowledge(self, body: AcknowledgeBody, admitted: _Admitted) -> bytes:
        at = index_key(body.grant, body.index)
        event = AcknowledgementReceived(body.binding.user, admitted.device, body.collected)
        effect = only(await self._decide(at, event, admitted.now_ms))
        assert isinstance(effect, TellAcknowledged)
        return encode(Acknowledged(effect.erased))

    async def _revoke(self, body: RevokeBody, admitted: _Admitted) -> bytes:
        at = index_key(body.grant, body.index)
        event = Revoked(body.binding.user)
        async with self._turns.of(at):
            for _ in range(REVOKE_ATTEMPTS_MAX):
                effect = only(await self._decide(at, event, admitted.now_ms))
                if isinstance(effect, GiveErasure):
                    return encode(RevokeAnswer(effect.erasure))
                assert isinstance(effect, SignErasure)
                erasure = Erasure(body.binding.chain, self._id, body.grant, body.index, effect.erased_ms)
                signed = await self._workers.do(lambda erasure=erasure: self._key.sign_noun("erasure", erasure))  # type: ignore[misc]
                event = Revoked(body.binding.user, signed, effect.erased_ms)
        raise fault("E-PEER-LIMIT", "this block is being erased by others too", retry_after_ms=500)

    async def _decide(self, at: bytes, event: Event, now_ms: int) -> Sequence[Effect]:
        """Step index `at`; only what changes it goes through the writer, so that idle repetition costs no sync."""
        effects = step(self._store.mark(at), event, now_ms)
        if any(isinstance(effect, STORED) for effect in effects):
            return await settled(self._store.step(at, event, now_ms))
        return effects


ALERTED_CODES = frozenset({"E-DEVICE-UNKNOWN", "E-DEVICE-REVOKED"})
STORED = (Persist, Erase, Forget)


def refuse_if(refusal: Refuse | None) -> None:
    """Raise a refusal of the core as what its code names."""
    if refusal is not None:
        raise fault(refusal.code, refusal.detail)


def only(effects: Sequence[Effect]) -> Effect:
    """What is left to do for the asker once the store has done its part. Raises a refusal."""
    left = [effect for effect in effects if not isinstance(effect, STORED)]
    assert len(left) == 1, "an event has one outcome for its asker"
    if isinstance(left[0], Refuse):
        refuse_if(left[0])
    return left[0]


def finish(result: Future[U], done: Future[T], make: Callable[[T], U]) -> None:
    """Complete `result` with what becomes of `done`."""
    error = done.exception()
    if error is not None:
        result.set_exception(error)
    else:
        result.set_result(make(done.result()))
