"""The id of a key binds both halves."""

from __future__ import annotations

import hashlib

from qustream.model.keys import PublicKey


def test_the_id_is_blake2b_over_both_halves():
    key = PublicKey(bytes(range(32)), b"\x01" * 1952)
    assert key.id == hashlib.blake2b(bytes(range(32)) + b"\x01" * 1952, digest_size=32).digest()
    assert len({key.id, PublicKey(bytes(32), key.mldsa).id, PublicKey(key.ed25519, bytes(1952)).id}) == 3
