"""What every action of a transaction is told, and what it answers (`proto/spec/ledger.md`, §3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from msgspec import Struct

from qnode.core.ledger.state import State
from qustream.model.receipt import LedgerEvent
from qustream.model.state import Parameters

__all__ = ["Context", "Outcome", "Rule", "happened"]


# A refusal is its code; success is what happened.
Outcome: TypeAlias = str | tuple[LedgerEvent, ...]


class Context(Struct, frozen=True, gc=False):
    """Where an action takes place. `epoch`, `height`, `time_ms`: of the block; `nonce`, `transaction`: of the transaction and its id.
    A struct, not a dataclass: one is made for every transaction."""

    chain: str
    parameters: Parameters
    height: int
    time_ms: int
    epoch: int
    rotation: int
    sender: bytes
    nonce: int
    transaction: bytes


def happened(name: str, subject: bytes = b"", other: bytes = b"", amount: int = 0) -> LedgerEvent:
    """One event, most of whose fields are empty."""
    return LedgerEvent(name, subject, other, amount)


def _nothing(_action: Any, _parameters: Parameters) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of action. `apply`: (state, action, context) → outcome; may leave changes behind when it refuses, they are taken back.
    `outflow`: at most what it takes from what the sender has liquid, fee not counted; `signatures`: how many it bears itself."""

    apply: Callable[[State, Any, Context], Outcome]
    outflow: Callable[[Any, Parameters], int] = _nothing
    signatures: int = 0
