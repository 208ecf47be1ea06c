"""What happens to consensus, and what follows from it (`proto/spec/consensus.md`): plain data, recorded and replayed as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from qnode.core.consensus_limits import DELTA_MS, IDLE_MS, INTERVAL_MS
from qustream.wire.consensus import Certificate, ChainHeader, ConsensusMessage, Kind, Proposal, Statement, Vote

__all__ = [
    "Accuse", "Base", "BlockBuilt", "Broadcast", "Build", "Effect", "Event", "Final", "Finalise", "Heard", "Judge", "Judged", "Keep",
    "OwnVotes", "Persist", "RotationBegan", "RotationOver", "SendEnd", "SendKept", "SendTo", "Sign", "SignState", "Signed", "Ticked",
    "Verified", "Verify", "Wake",
]  # fmt: skip


class OwnVotes(Struct, frozen=True):
    """What a validator has signed in one view: digests, empty for nothing."""

    proposed: bytes = b""
    notarised: bytes = b""
    skipped: bool = False
    finalised: bytes = b""


class SignState(Struct, frozen=True):
    """Everything a validator must not forget, for one rotation: its votes above the last final view."""

    rotation: int = 0
    final_view: int = 0
    votes: Mapping[int, OwnVotes] = field(default_factory=dict)


class Base(Struct, frozen=True):
    """The block a rotation stands on."""

    digest: bytes
    height: int
    time_ms: int
    executed: int


# ---------------------------------------------------------------------------------------------------------------- events


class RotationBegan(Struct, frozen=True):
    """The base is final. `weights`: of the validators, by number; `leads`: who leads views 1, 2, …, again and again; `edge_ms`: the first
    block not earlier than this ends the rotation; `me`: our number, None if we only look on; `had`: what we signed before a restart;
    `reached`: the last block of this rotation that is final already, None if it is the base; the rest are parameters of the chain."""

    chain: str
    rotation: int
    weights: tuple[int, ...]
    leads: tuple[int, ...]
    base: Base
    edge_ms: int
    me: int | None
    had: SignState = SignState()
    delta_ms: int = DELTA_MS
    interval_ms: int = INTERVAL_MS
    idle_ms: int = IDLE_MS
    reached: Final | None = None


class Heard(Struct, frozen=True):
    """A peer said something; its form has been checked, nothing else. `peer`: whom to answer."""

    peer: bytes
    message: ConsensusMessage


class Verified(Struct, frozen=True):
    """The answer to a `Verify`."""

    message: Proposal | Vote | Certificate
    good: bool


class Judged(Struct, frozen=True):
    """The answer to a `Judge`, whenever it can be given."""

    digest: bytes
    valid: bool


class BlockBuilt(Struct, frozen=True):
    """The answer to a `Build`, when its time has come."""

    header: ChainHeader
    ids: tuple[bytes, ...]


class Signed(Struct, frozen=True):
    """The answer to a `Sign`."""

    statement: Statement
    signature: bytes


class Ticked(Struct, frozen=True):
    """A `Wake` is due. `draw`: 64 random bits."""

    draw: int


Event: TypeAlias = RotationBegan | Heard | Verified | Judged | BlockBuilt | Signed | Ticked

# --------------------------------------------------------------------------------------------------------------- effects


class Verify(Struct, frozen=True):
    """Check the signatures of a message under the vote keys of its rotation; the answer comes as `Verified`."""

    message: Proposal | Vote | Certificate


class Judge(Struct, frozen=True):
    """Say whether a block is valid (§4, V3 to V7; the rest has been checked). No answer while that cannot be told yet."""

    digest: bytes
    header: ChainHeader
    ids: tuple[bytes, ...]


class Build(Struct, frozen=True):
    """Make the block of `view` on `parent`: with transactions from `from_ms` on, as soon as there are any; at `until_ms` in any case."""

    view: int
    parent: bytes
    parent_view: int
    height: int
    from_ms: int
    until_ms: int
    must_be_empty: bool


class Persist(Struct, frozen=True):
    """On disk before anything that follows in this list, or comes of it, leaves this machine."""

    state: SignState


class Sign(Struct, frozen=True):
    """Sign with the vote key; the answer comes as `Signed`."""

    statement: Statement


class Broadcast(Struct, frozen=True):
    """Send to all other validators."""

    message: ConsensusMessage


class SendTo(Struct, frozen=True):
    """Send to one: a validator by number, or a peer by its id."""

    to: int | bytes
    message: ConsensusMessage


class Keep(Struct, frozen=True):
    """Put a certificate or a verified block on disk, to be sent to who misses it."""

    message: Certificate | Proposal


class SendKept(Struct, frozen=True):
    """Send a peer what was kept: a certificate by rotation, view and kind, or a block by its digest. Who performs this knows how
    large that is, and sends no more than 1 MiB of what one question has led to (§6)."""

    to: bytes
    rotation: int
    view: int
    kind: Kind
    digest: bytes


class SendEnd(Struct, frozen=True):
    """Send a peer the finalisation that ended an earlier rotation."""

    to: bytes
    rotation: int


class Final(Struct, frozen=True):
    """A final block."""

    digest: bytes
    header: ChainHeader
    ids: tuple[bytes, ...]


class Finalise(Struct, frozen=True):
    """These are final, in this order. `view`: of the finalisation that says so."""

    blocks: tuple[Final, ...]
    view: int


class RotationOver(Struct, frozen=True):
    """The boundary block is final (it was the last of a `Finalise`); nothing more is done until `RotationBegan`. `view`, `digest`: of the
    finalisation that says so, which has to be kept for ever."""

    base: Base
    view: int
    digest: bytes


class Accuse(Struct, frozen=True):
    """Two statements of one validator that nobody signs who obeys the rules, with their signatures."""

    validator: int
    first: tuple[Statement, bytes]
    second: tuple[Statement, bytes]


class Wake(Struct, frozen=True):
    """Send a `Ticked` at `at_ms`."""

    at_ms: int


Effect: TypeAlias = (
    Verify | Judge | Build | Persist | Sign | Broadcast | SendTo | Keep | SendKept | SendEnd | Finalise | RotationOver | Accuse | Wake
)
