"""Many lanes at once equal one CBC-MAC a lane, computed by the library's own CBC mode."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from qrngd.conditioning.cbcmac import BLOCKS_MAX, LaneConditioner, blocks_for, conditioning_key
from qustream.errors import OperatorFault


def cbc_mac(message: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES256(conditioning_key()), modes.CBC(bytes(16))).encryptor()
    return (encryptor.update(message) + encryptor.finalize())[-16:]


@settings(max_examples=60)
@given(
    blocks=st.integers(1, 12),
    window_bytes=st.integers(1, 60).map(lambda n: 16 * n),
    windows=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_one_cbc_mac_a_lane(blocks: int, window_bytes: int, windows: int, seed: int) -> None:
    lane = 16 * blocks
    window_bytes = max(window_bytes, lane)
    raw = np.random.default_rng(seed).bytes(windows * window_bytes)
    conditioner = LaneConditioner(blocks=blocks, window_bytes=window_bytes, windows_max=4)
    expected = b"".join(
        cbc_mac(raw[start + at : start + at + lane])
        for start in range(0, len(raw), window_bytes)
        for at in range(0, window_bytes - lane + 1, lane)
    )
    for _ in range(2):  # scratch from one call must not reach the next
        assert conditioner.condition(np.frombuffer(raw, dtype=np.uint8)).tobytes() == expected


def test_raw_bytes_at_an_odd_address_give_the_same() -> None:
    raw = np.random.default_rng(1).bytes(4097)
    conditioner = LaneConditioner(blocks=2, window_bytes=4096, windows_max=1)
    shifted = conditioner.condition(np.frombuffer(raw, dtype=np.uint8)[1:]).tobytes()
    assert shifted == conditioner.condition(np.frombuffer(raw[1:], dtype=np.uint8)).tobytes()


def test_wipe_leaves_nothing() -> None:
    conditioner = LaneConditioner(blocks=2, window_bytes=64, windows_max=1)
    out = conditioner.condition(np.frombuffer(bytes(range(64)), dtype=np.uint8))
    assert out.any()
    conditioner.wipe()
    assert not out.any()


# (millibits a sample, raw bits a sample, blocks): 6 to 8 bits a byte share 32-byte lanes, 4 take 48 bytes.
@pytest.mark.parametrize(
    ("millibits", "stored", "blocks"),
    [(8000, 8, 2), (7000, 8, 2), (6000, 8, 2), (5999, 8, 3), (4000, 8, 3), (1000, 8, 12), (1000, 1, 2), (500, 1, 3), (750, 1, 2)],
)
def test_blocks(millibits: int, stored: int, blocks: int) -> None:
    assert blocks_for(millibits, stored) == blocks


@given(st.integers(1, 16_000), st.sampled_from([1, 8, 16]))
def test_a_lane_holds_192_bits_of_min_entropy_and_no_block_more(millibits: int, stored: int) -> None:
    millibits = min(millibits, 1000 * stored)
    enough = 192 * 1000 * stored  # blocks * 128 raw bits * millibits / stored >= 192,000
    if BLOCKS_MAX * 128 * millibits < enough:
        with pytest.raises(OperatorFault, match="E-CONFIG"):
            blocks_for(millibits, stored)
        return
    blocks = blocks_for(millibits, stored)
    assert blocks * 128 * millibits >= enough > (blocks - 1) * 128 * millibits
