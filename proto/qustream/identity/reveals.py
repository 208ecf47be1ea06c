"""A validator's hash chain: what it reveals block by block, so that nobody knows the fold before (`proto/spec/ledger.md`, §5).

The secret is hashed `links` times; the end is the anchor that is registered, and each reveal the preimage of the one before. Of n links
√n are kept and √n computed anew when they are needed.
"""

from __future__ import annotations

import hashlib
from math import isqrt

from qustream.rules.rotation import anchor_of

__all__ = ["LINKS_MAX", "HashChain"]

# Four years of a block a second by the only validator; computing it takes minutes, at every start.
LINKS_MAX = 1 << 27
SEED_BYTES = 32  # as of every key here
_LABEL = b"qustream/1/reveals"


class HashChain:
    """`anchor`: what is registered; `links`: how often it can reveal."""

    def __init__(self, seed: bytes, links: int) -> None:
        if len(seed) != SEED_BYTES or not 1 <= links <= LINKS_MAX:
            raise ValueError(f"a hash chain has a seed of 32 bytes and 1 to {LINKS_MAX} links")
        self.links = links
        self._step = isqrt(links - 1) + 1
        link = hashlib.sha256(bytes([len(_LABEL)]) + _LABEL + seed).digest()
        # Every step-th link from the secret end, and where each is.
        self._kept = [link]
        for _ in range(links // self._step):
            for _ in range(self._step):
                link = anchor_of(link)
            self._kept.append(link)
        for _ in range(links % self._step):
            link = anchor_of(link)
        self.anchor = link
        self._places = {kept: number * self._step for number, kept in enumerate(self._kept)}
        self._stretch: list[bytes] = []  # the links after a kept one, as far as the next
        self._stretch_from = -1

    def reveal(self, anchor: bytes) -> bytes | None:
        """The preimage of `anchor`, a link of this chain; None if it is none, or the last."""
        place = self._place(anchor)
        return self._link(place - 1) if place else None

    def left(self, anchor: bytes) -> int | None:
        """How often this chain can reveal from `anchor` on; None if that is no link of it."""
        return self._place(anchor)

    def _place(self, anchor: bytes) -> int | None:
        """Where `anchor` is: a kept link, or the end, is at most a step further."""
        if self._stretch_from >= 0 and anchor in self._stretch:
            return self._stretch_from + self._stretch.index(anchor)
        link = anchor
        for further in range(self._step + 1):
            if link == self.anchor:
                return self.links - further
            if link in self._places:
                return self._places[link] - further
            link = anchor_of(link)
        return None

    def _link(self, place: int) -> bytes:
        number = place // self._step
        if self._stretch_from != number * self._step:
            link, self._stretch = self._kept[number], []
            for _ in range(min(self._step, self.links + 1 - number * self._step)):
                self._stretch.append(link)
                link = anchor_of(link)
            self._stretch_from = number * self._step
        return self._stretch[place - self._stretch_from]

    def __repr__(self) -> str:
        return f"<HashChain {self.anchor.hex()[:12]}>"

    def __reduce__(self) -> str:
        raise TypeError("hash chains are not pickled")
