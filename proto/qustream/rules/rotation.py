"""Arithmetic of a rotation: quorums, and who leads which view (`proto/spec/consensus.md`, §1 and §8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count

__all__ = ["anchor_of", "leaders", "quorum"]

_LEADERS, _REVEAL = b"qustream/1/leaders", b"\x11qustream/1/reveal"  # the second with its length, as it is hashed a million times
# Four views a validator: shares down to a quarter of the mean are told apart. 64, so that a handful of validators are, too.
VIEWS_A_VALIDATOR, VIEWS_MIN = 4, 64
# The mission's rotating selection: however much somebody holds, others lead as well.
SHARE_MAX_MEDIANS = 3


def quorum(weights: Sequence[int]) -> int:
    """The weight that decides: more than two thirds."""
    return 2 * sum(weights) // 3 + 1


def anchor_of(reveal: bytes) -> bytes:
    """What a reveal is the preimage of: the anchor of its hash chain before it."""
    return hashlib.sha256(_REVEAL + reveal).digest()


def leaders(weights: Sequence[int], seed: bytes, leads: Sequence[bool] | None = None) -> list[int]:
    """Who leads views 1, 2, … of a rotation: the list is gone through again and again. `seed`: 32 bytes; `leads`: who takes part in it,
    None for all. Somebody does."""
    numbers = [number for number in range(len(weights)) if leads is None or leads[number]]
    taking = [weights[number] for number in numbers]
    most = SHARE_MAX_MEDIANS * sorted(taking)[(len(taking) - 1) // 2]
    capped = [min(weight, most) for weight in taking]
    views = max(VIEWS_MIN, VIEWS_A_VALIDATOR * len(taking))
    whole, total = [views * weight // sum(capped) for weight in capped], sum(capped)
    # The largest remainders first; of equal ones the validator with the lower number.
    by_remainder = sorted(range(len(capped)), key=lambda place: (-(views * capped[place] % total), place))
    for place in by_remainder[: views - sum(whole)]:
        whole[place] += 1
    return _shuffled([numbers[place] for place, share in enumerate(whole) for _ in range(share)], seed)


def _shuffled(items: list[int], seed: bytes) -> list[int]:
    """Fisher and Yates, with numbers by rejection from SHA-256(len ‖ label ‖ seed ‖ k): nobody's place is likelier than another's."""
    draws = (
        int.from_bytes(hashlib.sha256(bytes([len(_LEADERS)]) + _LEADERS + seed + k.to_bytes(4, "big")).digest()[:8], "big") for k in count()
    )
    out = list(items)
    for place in range(len(out) - 1, 0, -1):
        range_end = (1 << 64) // (place + 1) * (place + 1)
        other = next(draw for draw in draws if draw < range_end) % (place + 1)
        out[place], out[other] = out[other], out[place]
    return out
