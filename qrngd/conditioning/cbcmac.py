"""AES-256-CBC-MAC over many lanes at once (SP 800-90B §3.1.5.1.2; `proto/spec/entropy-feed.md`, "Conditioning").

A lane is a stretch of consecutive raw bytes of one fixed length; its MAC is 16 output bytes. Step j takes block j of every
lane, XORs it to that lane's chain value and encrypts all of them in one AES-ECB call: one CBC-MAC (zero IV) a lane, in bulk.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from qustream.errors import fault

__all__ = ["BLOCK_BYTES", "CONDITIONING_NAME", "LaneConditioner", "blocks_for", "conditioning_key"]

CONDITIONING_NAME = "aes-256-cbc-mac"
# The key is public: a vetted conditioner needs no secret, only a key that is used for nothing else and chosen before the data.
KEY_TEXT = b"qustream/1/conditioning/aes-256-cbc-mac"
BLOCK_BYTES = 16
# SP 800-90C credits n bits of full entropy to n output bits when n + 64 bits of min-entropy went in: 128 + 64.
ENTROPY_IN_BITS = 192
# A lane of 2 KiB for 16 bytes: a source with less than 1.5 % of full entropy is refused, not squeezed.
BLOCKS_MAX = 128
_BLOCK = np.dtype((np.void, BLOCK_BYTES))


def conditioning_key() -> bytes:
    """The fixed public key, 32 bytes."""
    return sha256(KEY_TEXT).digest()


def blocks_for(min_entropy_millibits: int, stored_bits: int) -> int:
    """Blocks a lane so that at least 192 bits of min-entropy enter: ceil(192 / (128 h)), h = min-entropy a raw bit.

    `min_entropy_millibits`: of one sample, which takes up `stored_bits` raw bits. Raises E-CONFIG when it would be more than 128.
    """
    blocks = -(-ENTROPY_IN_BITS * 1000 * stored_bits // (8 * BLOCK_BYTES * min_entropy_millibits))
    if blocks > BLOCKS_MAX:
        raise fault("E-CONFIG", f"{min_entropy_millibits} millibits in {stored_bits} raw bits is too thin a source to condition")
    return blocks


class LaneConditioner:
    """Conditions whole windows. Keeps scratch for one batch (which holds raw and conditioned bytes: `wipe`)."""

    def __init__(self, *, blocks: int, window_bytes: int, windows_max: int) -> None:
        """Each window yields `lanes` outputs; a tail shorter than a lane is left out, so no lane spans two windows."""
        self.blocks = blocks
        self.lane_bytes = blocks * BLOCK_BYTES
        self.lanes = window_bytes // self.lane_bytes
        self._window_bytes = window_bytes
        room = self.lanes * windows_max * BLOCK_BYTES
        self._mixed = np.empty(room, dtype=np.uint8)
        self._chain = np.empty(room + BLOCK_BYTES, dtype=np.uint8)  # update_into wants a block of slack
        # ECB over chain values is the inside of CBC-MAC, not a mode in which anything is hidden.
        self._cipher = Cipher(algorithms.AES(conditioning_key()), modes.ECB()).encryptor()  # noqa: S305

    def condition(self, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """16 bytes for each lane of `raw` (1 to `windows_max` whole windows, contiguous), in order.

        The result is a view of scratch, valid until the next call; the caller owns what it holds.
        """
        lanes = self._lanes(raw)
        size = len(lanes) * BLOCK_BYTES
        mixed, chain = self._mixed[:size], self._chain[:size]
        for block in range(self.blocks):
            np.copyto(mixed.view(_BLOCK), lanes[:, block])
            if block:
                np.bitwise_xor(mixed.view(np.uint64), chain.view(np.uint64), out=mixed.view(np.uint64))
            self._cipher.update_into(mixed.data, self._chain.data)
        return chain

    def _lanes(self, raw: NDArray[np.uint8]) -> NDArray[np.void]:
        """`raw` as (lanes, blocks) of 16-byte items."""
        used = self.lanes * self.lane_bytes
        if used != self._window_bytes:
            raw = np.ascontiguousarray(raw.reshape(-1, self._window_bytes)[:, :used])
        return raw.reshape(-1, self.lane_bytes).view(_BLOCK)

    def wipe(self) -> None:
        """Overwrite the scratch."""
        self._mixed.fill(0)
        self._chain.fill(0)
