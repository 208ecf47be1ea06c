"""What nobody signs who obeys the rules of consensus (`proto/spec/consensus.md`, §7)."""

from __future__ import annotations

__all__ = ["contradicts"]

# The kinds of statements, as they are signed.
_PROPOSAL, _NOTAR, _SKIP, _FINAL = 1, 2, 3, 4
_ONCE_A_VIEW = frozenset({_PROPOSAL, _NOTAR, _FINAL})


def contradicts(kind: int, digest: bytes, other: int, other_digest: bytes) -> bool:
    """Whether these two statements of one key in one view prove an offence. Two skips are one and the same; notar and skip is legal."""
    if kind == other:
        return kind in _ONCE_A_VIEW and digest != other_digest
    kinds = {kind, other}
    return kinds == {_SKIP, _FINAL} or (kinds == {_NOTAR, _FINAL} and digest != other_digest)
