"""What is known of one view: blocks, verified votes, certificates, our own votes (`proto/spec/consensus.md`, §2, §3 and §7)."""

from __future__ import annotations

from collections.abc import Sequence

from qnode.core.consensus_events import OwnVotes
from qnode.core.consensus_limits import DIGESTS_MAX
from qustream.rules.evidence import contradicts
from qustream.wire.consensus import NO_DIGEST, Certificate, Kind, Proposal, voters_of

__all__ = ["View", "certificate", "contradicts", "voters_of"]

_BITS = 8


def certificate(rotation: int, view: int, kind: Kind, digest: bytes, votes: Sequence[tuple[int, bytes]]) -> Certificate:
    """Of these votes: (validator, signature), in any order."""
    ordered = sorted(votes)
    bits = bytearray(ordered[-1][0] // _BITS + 1)
    for validator, _ in ordered:
        bits[validator // _BITS] |= 0x80 >> validator % _BITS
    return Certificate(rotation, view, kind, digest, bytes(bits), tuple(signature for _, signature in ordered))


class View:
    """One view. `notarised`, `final`: digests, empty without the certificate; `skipped`: there is a skip certificate; `own`: what we have
    signed; `is_judged`: of each block that was, whether it is valid."""

    __slots__ = ("_said", "final", "is_judged", "judging", "notarised", "number", "own", "proposals", "skipped", "votes", "weights")

    def __init__(self, number: int, own: OwnVotes) -> None:
        self.number = number
        self.own = own
        self.notarised = self.final = b""
        self.skipped = False
        self.proposals: dict[bytes, Proposal] = {}
        self.is_judged: dict[bytes, bool] = {}
        self.judging: set[bytes] = set()
        self.votes: dict[tuple[Kind, bytes], dict[int, bytes]] = {}
        self.weights: dict[tuple[Kind, bytes], int] = {}
        self._said: dict[int, list[tuple[Kind, bytes]]] = {}  # by validator

    def has_certificate(self, kind: Kind, digest: bytes) -> bool:
        """Of this very thing."""
        if kind is Kind.SKIP:
            return self.skipped
        return (self.notarised if kind is Kind.NOTAR else self.final) == digest

    def certified(self, kind: Kind) -> bytes:
        """The digest for which there is a certificate of `kind`; zeros for a skip; empty if there is none."""
        if kind is Kind.SKIP:
            return NO_DIGEST if self.skipped else b""
        return self.notarised if kind is Kind.NOTAR else self.final

    def certify(self, kind: Kind, digest: bytes) -> None:
        """There is a certificate. The first of a kind counts: a second is of more than a third of liars."""
        if kind is Kind.SKIP:
            self.skipped = True
        elif kind is Kind.NOTAR:
            self.notarised = self.notarised or digest
        else:
            self.final = self.final or digest
            self.notarised = self.notarised or digest

    def matters(self, kind: Kind, digest: bytes, validator: int) -> bool:
        """Whether a vote that claims to be of this validator is worth its verification."""
        said = self._said.get(validator, ())
        if not self._is_new(kind, digest, said):
            return False
        return not self.has_certificate(kind, digest) or any(contradicts(kind, digest, *each) for each in said)

    def _is_new(self, kind: Kind, digest: bytes, said: Sequence[tuple[Kind, bytes]]) -> bool:
        return not said or ((kind, digest) not in said and sum(kind is other for other, _ in said) < DIGESTS_MAX)

    def add(self, kind: Kind, digest: bytes, vote: tuple[int, bytes], weight: int) -> list[tuple[Kind, bytes, bytes]]:
        """Take a verified vote (validator, signature); what it contradicts: kind, digest, signature."""
        validator, signature = vote
        said = self._said.setdefault(validator, [])
        if not self._is_new(kind, digest, said):
            return []
        clash = [(*each, self.votes[each][validator]) for each in said if contradicts(kind, digest, *each)]
        said.append((kind, digest))
        self.votes.setdefault((kind, digest), {})[validator] = signature
        self.weights[kind, digest] = self.weights.get((kind, digest), 0) + weight
        return clash

    def __repr__(self) -> str:
        marks = "".join(mark for mark, there in (("n", self.notarised), ("s", self.skipped), ("f", self.final)) if there)
        return f"<View {self.number} {marks or '-'}>"
