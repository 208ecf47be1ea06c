"""One index of one grant on this node: what happens to it, decided in one place (`proto/spec/delivery.md` §1 and §2).

`step(mark, event, now_ms) -> effects`. The state is the index's `Mark`, or None while nothing is stored for it. Events that may
change an index (`AnswerBuilt`, `Acknowledged`, `Revoked`, `DueReached`) are stepped inside the store's write transaction, so two of
them never race; `KeyRequested` and `Collected` order no change and may be stepped on any read. The store performs `Persist`, `Erase`
and `Forget`; whoever asked performs the rest, and only after the store has committed. Refusals are values, not exceptions.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from qustream.model.base import U63, Bytes32, Count32, Label, Noun, Signed
from qustream.wire.codec import encode
from qustream.wire.keys import KeyBody, Recipients

__all__ = [
    "MARK_MARGIN_MS",
    "REPLAY_MS",
    "Acknowledged",
    "AnswerBuilt",
    "Ask",
    "Build",
    "Collected",
    "DueReached",
    "Effect",
    "Erase",
    "Event",
    "Forget",
    "GiveErasure",
    "HandOut",
    "KeyRequested",
    "Mark",
    "Persist",
    "Refuse",
    "Revoked",
    "SignErasure",
    "TellAcknowledged",
    "ask_of",
    "due_ms",
    "is_over",
    "step",
]

# An answer lost on its way can be fetched again this long; longer would keep blocks nobody asks for.
REPLAY_MS = 600_000
# Spent marks outlive their grant by more than any epoch edge and any clock's error.
MARK_MARGIN_MS = 3_600_000


class Ask(Noun, frozen=True):
    """What one key request asks, without when, on which channel, or under which of its certificates it was asked.

    `digest`: SHA-256, see `ask_of`; `grant_end_ms`: the first instant at which the grant is good no more."""

    digest: Bytes32
    user: Bytes32
    device: Bytes32
    recipients: Recipients
    lifetime_ms: U63
    grant_end_ms: U63


class Mark(Noun, frozen=True):
    """What a node keeps of an index that has been answered.

    `waiting`: recipients that have not acknowledged; `replay_until_ms`, `expires_ms`: ends of replay and lifetime; `keep_until_ms`:
    the mark may go then; `slot`: of the seal key, meaningless once `erased_ms` is set; `why`: collected, expired, revoked or lost."""

    digest: Bytes32
    user: Bytes32
    device: Bytes32
    recipients: Recipients
    waiting: Recipients
    acknowledged: bool
    slot: Count32
    issued_ms: U63
    replay_until_ms: U63
    expires_ms: U63
    keep_until_ms: U63
    erased_ms: U63 | None = None
    why: Label = ""
    erasure: Signed | None = None


class _Asked(Noun, frozen=True):
    """What `Ask.digest` covers."""

    chain: Label
    node: Bytes32
    user: Bytes32
    device: Bytes32
    grant: Bytes32
    index: Count32
    ruid: Bytes32
    path: Annotated[tuple[Bytes32, ...], Meta(max_length=32)]
    recipients: Recipients
    lifetime_ms: U63
    seed_hash: Bytes32


def ask_of(body: KeyBody, device: bytes, grant_end_ms: int) -> Ask:
    """What `body`, signed by `device`, asks (spec §1, "digest")."""
    binding = body.binding
    asked = _Asked(
        chain=binding.chain,
        node=binding.node,
        user=binding.user,
        device=device,
        grant=body.grant,
        index=body.index,
        ruid=body.ruid,
        path=body.path,
        recipients=body.recipients,
        lifetime_ms=body.lifetime_ms,
        seed_hash=body.seed_hash,
    )
    digest = hashlib.sha256(encode(asked)).digest()
    return Ask(digest, binding.user, device, body.recipients, body.lifetime_ms, grant_end_ms)


# ---------------------------------------------------------------------------------------------------------------- events


class KeyRequested(Struct, frozen=True):
    """A device asked for the index and passed every check of spec §3."""

    ask: Ask


class AnswerBuilt(Struct, frozen=True):
    """An answer stands ready and sealed. `issued_ms`: the time its receipt states; `slot`: a free one, None if there is none."""

    ask: Ask
    issued_ms: int
    slot: int | None


class Collected(Struct, frozen=True):
    """A device of `user` asked for the held block."""

    user: bytes


class Acknowledged(Struct, frozen=True):
    """A device said that its copy is safe: as a recipient (`collected`) or as the one that asked."""

    user: bytes
    device: bytes
    collected: bool


class Revoked(Struct, frozen=True):
    """A device of `user` wants the block erased. `erasure`: signed beforehand over `erased_ms`; None to learn what to sign."""

    user: bytes
    erasure: Signed | None = None
    erased_ms: int = 0


class DueReached(Struct, frozen=True):
    """Time has passed. `lost`: the slot was found empty (spec §5): the block is erased already, the mark does not say so yet."""

    lost: bool = False


Event = KeyRequested | AnswerBuilt | Collected | Acknowledged | Revoked | DueReached


# --------------------------------------------------------------------------------------------------------------- effects


class Build(Struct, frozen=True):
    """Take a unit, build and seal an answer, come back with `AnswerBuilt`."""


class Persist(Struct, frozen=True):
    """Store `mark`; `fresh`: with the answer that was built and its slot key."""

    mark: Mark
    fresh: bool = False


class Erase(Struct, frozen=True):
    """Overwrite the slot of the block, drop the sealed answer, store `mark`."""

    mark: Mark


class Forget(Struct, frozen=True):
    """Drop the mark."""


class HandOut(Struct, frozen=True):
    """Send the stored answer, byte for byte."""


class TellAcknowledged(Struct, frozen=True):
    """Answer an acknowledgement."""

    erased: bool


class SignErasure(Struct, frozen=True):
    """Sign an `Erasure` with this time and come back with `Revoked`."""

    erased_ms: int


class GiveErasure(Struct, frozen=True):
    """Send this stored erasure, byte for byte."""

    erasure: Signed


class Refuse(Struct, frozen=True):
    """Refuse with a code of the error table and a detail that may be sent."""

    code: str
    detail: str


Effect = Build | Persist | Erase | Forget | HandOut | TellAcknowledged | SignErasure | GiveErasure | Refuse


# ----------------------------------------------------------------------------------------------------------------- state


def is_over(mark: Mark, now_ms: int) -> bool:
    """Whether nobody is left who may be handed this block (spec §2, "nobody is left")."""
    if mark.erased_ms is not None:
        return True
    asker_done = mark.acknowledged or now_ms >= mark.replay_until_ms
    recipients_done = not mark.waiting or now_ms >= mark.expires_ms
    return asker_done and recipients_done


def due_ms(mark: Mark) -> int:
    """When time alone next changes something: the end of a held block, or the end of an erased one's mark."""
    if mark.erased_ms is not None:
        return mark.keep_until_ms
    asker_ms = 0 if mark.acknowledged else mark.replay_until_ms
    recipients_ms = mark.expires_ms if mark.waiting else 0
    return max(asker_ms, recipients_ms)


def step(mark: Mark | None, event: Event, now_ms: int) -> list[Effect]:
    """Return what to do about `event` on an index in state `mark` (spec §2). Pure; never raises for what a peer sent."""
    match event:
        case KeyRequested(ask):
            return [Build()] if mark is None else [_again(mark, ask, now_ms)]
        case AnswerBuilt(ask, issued_ms, slot):
            return _answer_built(mark, ask, issued_ms=issued_ms, slot=slot, now_ms=now_ms)
        case Collected(user):
            return [_collected(mark, user, now_ms)]
        case Acknowledged():
            return _acknowledged(mark, event, now_ms)
        case Revoked():
            return _revoked(mark, event, now_ms)
        case DueReached(lost):
            return _due_reached(mark, lost, now_ms)


def _again(mark: Mark, ask: Ask, now_ms: int) -> Effect:
    if mark.digest != ask.digest:
        return Refuse("E-GRANT-SPENT", "another request was answered under this index")
    if mark.erased_ms is not None:
        return Refuse("E-GRANT-SPENT", f"its block is gone: {mark.why}")
    if mark.acknowledged:
        return Refuse("E-GRANT-SPENT", "its answer was acknowledged")
    if now_ms >= mark.replay_until_ms:
        return Refuse("E-GRANT-SPENT", "its answer could be repeated for ten minutes, which are over")
    return HandOut()


def _answer_built(mark: Mark | None, ask: Ask, *, issued_ms: int, slot: int | None, now_ms: int) -> list[Effect]:
    if mark is not None:
        return [_again(mark, ask, now_ms)]
    if slot is None:
        return [Refuse("E-NODE-FULL", "every slot of this node holds a block")]
    expires_ms = issued_ms + ask.lifetime_ms
    replay_until_ms = issued_ms + REPLAY_MS
    if ask.recipients:
        replay_until_ms = min(replay_until_ms, expires_ms)
    fresh = Mark(
        digest=ask.digest,
        user=ask.user,
        device=ask.device,
        recipients=ask.recipients,
        waiting=ask.recipients,
        acknowledged=False,
        slot=slot,
        issued_ms=issued_ms,
        replay_until_ms=replay_until_ms,
        expires_ms=expires_ms,
        keep_until_ms=max(ask.grant_end_ms, expires_ms, replay_until_ms) + MARK_MARGIN_MS,
    )
    return [Persist(fresh, fresh=True), HandOut()]


def _collected(mark: Mark | None, user: bytes, now_ms: int) -> Effect:
    if mark is None:
        return Refuse("E-NOT-HELD", "nothing was asked of this node under this index")
    if user not in mark.recipients:
        return Refuse("E-NOT-RECIPIENT", "the request that made this block does not name you")
    if mark.erased_ms is not None:
        return Refuse("E-NOT-HELD", f"the block is gone: {mark.why}")
    if user not in mark.waiting:
        return Refuse("E-NOT-HELD", "you have acknowledged your copy")
    if now_ms >= mark.expires_ms:
        return Refuse("E-NOT-HELD", "its lifetime is over")
    return HandOut()


def _acknowledged(mark: Mark | None, event: Acknowledged, now_ms: int) -> list[Effect]:
    if mark is None:
        return [Refuse("E-NOT-HELD", "nothing was asked of this node under this index")]
    if not event.collected and event.device != mark.device:
        return [Refuse("E-NOT-RECIPIENT", "another device asked for this block")]
    if event.collected and event.user not in mark.recipients:
        return [Refuse("E-NOT-RECIPIENT", "the request that made this block does not name you")]
    if mark.erased_ms is not None:
        return [TellAcknowledged(erased=True)]
    if event.collected:
        after = replace(mark, waiting=tuple(user for user in mark.waiting if user != event.user))
    else:
        after = replace(mark, acknowledged=True)
    if is_over(after, now_ms):
        return [Erase(_erased(after, now_ms, "collected")), TellAcknowledged(erased=True)]
    if after == mark:
        return [TellAcknowledged(erased=False)]
    return [Persist(after), TellAcknowledged(erased=False)]


def _revoked(mark: Mark | None, event: Revoked, now_ms: int) -> list[Effect]:
    if mark is None:
        return [Refuse("E-NOT-HELD", "nothing was asked of this node under this index")]
    if event.user != mark.user:
        return [Refuse("E-NOT-RECIPIENT", "another user asked for this block")]
    if mark.erasure is not None:
        return [GiveErasure(mark.erasure)]
    if event.erasure is None:
        return [SignErasure(now_ms if mark.erased_ms is None else mark.erased_ms)]
    if mark.erased_ms is None:
        return [Erase(replace(_erased(mark, event.erased_ms, "revoked"), erasure=event.erasure)), GiveErasure(event.erasure)]
    if mark.erased_ms != event.erased_ms:  # it was erased otherwise while the statement was being signed
        return [SignErasure(mark.erased_ms)]
    return [Persist(replace(mark, erasure=event.erasure)), GiveErasure(event.erasure)]


def _due_reached(mark: Mark | None, lost: bool, now_ms: int) -> list[Effect]:
    if mark is None:
        return []
    if mark.erased_ms is not None:
        return [Forget()] if now_ms >= mark.keep_until_ms else []
    if lost:
        return [Erase(_erased(mark, now_ms, "lost"))]
    if is_over(mark, now_ms):
        return [Erase(_erased(mark, now_ms, "expired" if mark.waiting else "collected"))]
    return []


def _erased(mark: Mark, now_ms: int, why: str) -> Mark:
    return replace(mark, erased_ms=now_ms, why=why)
