"""What is on the disk is sealed: records under one key of the node, each answer under a key of its own (`proto/spec/delivery.md` §5)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from qnode.store.slots import SLOT_BYTES
from qustream.identity.sealing import derive, seal, unseal

__all__ = ["SealedAnswer", "Vault", "index_key"]


def index_key(grant: bytes, index: int) -> bytes:
    """The key of everything about index `index` of `grant`: grant id (32) ‖ index (4, big endian)."""
    return grant + index.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """An answer as it will lie on the disk, and the slot key it opens with, which goes into a slot and nowhere else."""

    slot_key: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


class Vault:
    """Seals and unseals. Made from the node's storage key; shows neither it nor what is derived from it."""

    __slots__ = ("_record_key", "_storage_key")

    def __init__(self, storage_key: bytes) -> None:
        self._storage_key = storage_key
        self._record_key = derive(storage_key, "node-records")

    def seal_record(self, table: bytes, key: bytes, plain: bytes) -> bytes:
        """A mark, a list of alerts, the key check. `table` and `key`: where it will stand."""
        return seal(self._record_key, plain, table + b"/" + key)

    def unseal_record(self, table: bytes, key: bytes, sealed: bytes) -> bytes:
        """Errors: `E-DATA-CORRUPT` if it was not sealed by this node for this place, or has changed since."""
        return unseal(self._record_key, sealed, table + b"/" + key)

    def seal_answer(self, key: bytes, answer: bytes) -> SealedAnswer:
        """Seal `answer` for index `key` under a slot key drawn for it alone."""
        slot_key = os.urandom(SLOT_BYTES)
        return SealedAnswer(slot_key, seal(self._answer_key(slot_key), answer, key))

    def unseal_answer(self, key: bytes, slot_key: bytes, sealed: bytes) -> bytes:
        """Errors: `E-DATA-CORRUPT`, also if the slot has come to hold another key."""
        return unseal(self._answer_key(slot_key), sealed, key)

    def _answer_key(self, slot_key: bytes) -> bytes:
        return derive(self._storage_key + slot_key, "held-block")

    def __repr__(self) -> str:
        return "<Vault>"
