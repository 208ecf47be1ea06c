"""What an action says, as text (`proto/spec/chain-api.md`, §1): for pages, and for who is to sign it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from qustream.model.base import Signed
from qustream.model.ids import LICENCE_BYTES, IdKind, licence_text, to_text
from qustream.model.keys import PublicKey
from qustream.wire.chain_entries import amount
from qustream.wire.consensus import Statement
from qustream.wire.transactions import AnyAction

__all__ = ["action_name", "fields_of"]

_AMOUNTS = {"amount", "price", "price_max"}
# Numbers that JSON readers may round (`chain_json`).
_LARGE = {"shares"}
_ACCOUNTS = {"to", "payee"}
_KEYS = {"node": IdKind.NODE, "master": IdKind.USER, "into": IdKind.USER}
_IDS = {"user": IdKind.USER, "grant": IdKind.GRANT, "device": IdKind.DEVICE, "devices": IdKind.DEVICE}
# A page shows what was done, not the proofs that it may be: those are in the transaction's bytes.
_LEFT_OUT = {"node_proof", "vote_proof", "consent", "into_consent", "first_signature", "second_signature", "hpke"}


def action_name(action: AnyAction) -> str:
    """`BuyLicence` is `buy-licence`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(action).__name__).lower()


def fields_of(action: AnyAction) -> dict[str, Any]:
    """What an action says, without proofs and signatures."""
    names = action.__struct_fields__
    return {name: _field(name, getattr(action, name)) for name in names if name not in _LEFT_OUT}


def _field(name: str, value: Any) -> Any:
    match value:
        case PublicKey():
            return to_text(_KEYS[name], value.id)
        case Statement():
            return {"rotation": value.rotation, "view": value.view, "kind": value.kind.name.lower(), "digest": value.digest.hex()}
        case Signed():
            return value.body.hex()
        case bytes():
            return _bytes(name, value)
        case tuple():
            return [_field(name, each) for each in value]
        case int() if name in _AMOUNTS:
            return amount(value)
        case int() if name in _LARGE:
            return str(value)
        case _:
            return value


def _bytes(name: str, value: bytes) -> str:
    if name == "vote_key":
        return hashlib.sha256(value).hexdigest()
    if len(value) == LICENCE_BYTES:
        return licence_text(value)
    if name in _ACCOUNTS:
        return to_text(IdKind.ACCOUNT, value)
    return to_text(_IDS[name], value) if name in _IDS else value.hex()
