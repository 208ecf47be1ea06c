"""Files that are carried from machine to machine, and hold nothing secret (`proto/spec/chain-api.md`, §5): what is to be signed, what was
signed, a user's consent to a merge, a grant for his other device. People can read them; what they say in words is compared with what is
signed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.identity.consents import CONSENT
from qustream.identity.signing import verify
from qustream.identity.wallet import Draft, Signed
from qustream.model.amount import amount_shown
from qustream.model.ids import IdKind, to_text
from qustream.model.keys import PublicKey
from qustream.wire.action_text import action_name
from qustream.wire.codec import decode, encode
from qustream.wire.json_text import decode_json
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, Body, MergeStatement, MergeUsers, Transaction, open_body, transaction_id

__all__ = [
    "OLD_MS",
    "GrantShare",
    "MergeConsent",
    "ToSend",
    "ToSign",
    "agreed",
    "merge_of",
    "read_consent",
    "read_share",
    "read_to_send",
    "read_to_sign",
    "to_send",
    "to_sign",
    "write",
]

# A transaction of 64 KiB in base64, and some words.
FILE_MAX_BYTES = 131_072
MODE = 0o644  # for whoever carries it
# What was made a day ago has expired on any chain: at most 14,400 blocks, of at most five seconds each when nothing happens.
OLD_MS = 86_400_000
KEY_MAX_BYTES = 8192
_F = TypeVar("_F", bound=Struct)


class ToSign(Struct, frozen=True, kw_only=True):
    """What an account is to sign. `made_ms`: when this was made; `with_key`: the account's key has to come along; `body`: the bytes that
    are signed."""

    qustream: Literal["to be signed"] = "to be signed"
    chain: str
    account: str
    nonce: int
    fee: str
    expires: int
    action: str
    made_ms: int
    with_key: bool
    body: bytes


class ToSend(Struct, frozen=True, kw_only=True):
    """What was signed, for any node of the chain. `transaction`: as it is sent."""

    qustream: Literal["signed"] = "signed"
    chain: str
    account: str
    nonce: int
    fee: str
    expires: int
    action: str
    id: str
    transaction: bytes


class MergeConsent(Struct, frozen=True, kw_only=True):
    """One of two users agrees that `user` becomes an alias of `into`. `key`: the canonical master key of who signed."""

    qustream: Literal["consent to a merge"] = "consent to a merge"
    chain: str
    user: str
    into: str
    key: bytes
    consent: bytes


class GrantShare(Struct, frozen=True, kw_only=True):
    """What one other device of a user needs to take its indices of a grant. `stripe`: of the device that wrote this; `generation`: of the
    rUID key that made the grant; `nonce`: of the grant, no secret and worth nothing without that key."""

    qustream: Literal["grant for another device"] = "grant for another device"
    user: str
    device: str
    grant: str
    stripe: int
    generation: int
    nonce: bytes


def write(path: Path, thing: Struct) -> None:
    """A new file. Errors: `E-FILE-EXISTS`, `E-FILE`, `E-DISK-FULL`."""
    try:
        files.create(path, msgspec.json.format(msgspec.json.encode(thing), indent=1) + b"\n", mode=MODE)
    except FileExistsError:
        raise fault("E-FILE-EXISTS", f"{path} exists; give another name") from None


def _read(path: Path, kind: type[_F], what: str, code: str = "E-LEDGER-FORM") -> _F:
    try:
        return decode_json(files.read(path, FILE_MAX_BYTES, private=False), kind)
    except ValueError:
        raise fault(code, f"{path} is not {what}") from None


def read_share(path: Path) -> GrantShare:
    """What another device of the user wrote. Errors: `E-GRANT-SHARE`, those of `files.read`."""
    return _read(path, GrantShare, "what qustream grant share writes", "E-GRANT-SHARE")


def _said(body: Body) -> dict[str, str | int]:
    """What the words of a file have to be."""
    return {
        "chain": body.chain, "account": to_text(IdKind.ACCOUNT, body.sender), "nonce": body.nonce, "fee": amount_shown(body.fee),
        "expires": body.expires, "action": action_name(body.action),
    }  # fmt: skip


def _compare(path: Path, thing: ToSign | ToSend, body: Body) -> None:
    for name, value in _said(body).items():
        if getattr(thing, name) != value:
            raise fault("E-LEDGER-FORM", f"{path}: it says {name} {getattr(thing, name)!r}, and what is signed says {value!r}")


def to_sign(draft: Draft, now_ms: int) -> ToSign:
    """What is carried to the machine with the key."""
    return ToSign(**_said(draft.body), made_ms=now_ms, with_key=draft.with_key, body=draft.encoded)  # type: ignore[arg-type]  # as it says


def read_to_sign(path: Path, now_ms: int) -> Draft:
    """What is to be signed. Errors: `E-LEDGER-FORM`; `E-LEDGER-EXPIRED` if it is so old that no chain would take it; those of
    `files.read`."""
    thing = _read(path, ToSign, "what a command with --unsigned writes")
    try:
        body = decode(thing.body, Body, max_bytes=TRANSACTION_MAX_BYTES)
    except QuStreamError as error:
        raise fault("E-LEDGER-FORM", f"{path}: {error.detail}") from None
    _compare(path, thing, body)
    if now_ms - thing.made_ms > OLD_MS:
        raise fault("E-LEDGER-EXPIRED", f"{path} was made {(now_ms - thing.made_ms) // 3_600_000} hours ago; have it made again")
    return Draft(body, thing.body, thing.with_key)


def to_send(signed: Signed, body: Body) -> ToSend:
    """What is carried back."""
    return ToSend(**_said(body), id=signed.id.hex(), transaction=signed.raw)  # type: ignore[arg-type]  # as it says


def read_to_send(path: Path) -> tuple[Signed, Body]:
    """What was signed. Errors: `E-LEDGER-FORM`, those of `files.read`."""
    thing = _read(path, ToSend, "what qustream wallet sign writes")
    try:
        body = open_body(decode(thing.transaction, Transaction, max_bytes=TRANSACTION_MAX_BYTES))
    except QuStreamError as error:
        raise fault("E-LEDGER-FORM", f"{path}: {error.detail}") from None
    _compare(path, thing, body)
    name = transaction_id(thing.transaction)
    if thing.id != name.hex():
        raise fault("E-LEDGER-FORM", f"{path}: it names another transaction than it holds")
    return Signed(name, thing.transaction, body.fee, body.expires), body


def agreed(chain: str, master: PublicKey, consent: bytes, *, user: bytes, into: bytes) -> MergeConsent:
    """What is carried to who sends the merge."""
    names = (to_text(IdKind.USER, each) for each in (user, into))
    return MergeConsent(chain=chain, user=next(names), into=next(names), key=encode(master), consent=consent)


def read_consent(path: Path) -> tuple[MergeConsent, PublicKey]:
    """Somebody's consent, and his key. Errors: `E-LEDGER-FORM`, those of `files.read`."""
    thing = _read(path, MergeConsent, "what qustream user agree-merge writes")
    try:
        return thing, decode(thing.key, PublicKey, max_bytes=KEY_MAX_BYTES)
    except QuStreamError as error:
        raise fault("E-LEDGER-FORM", f"{path}: {error.detail}") from None


def merge_of(chain: str, consents: list[tuple[MergeConsent, PublicKey]]) -> MergeUsers:
    """The action that two consents make, in whatever order. Errors: `E-LEDGER-FORM` if they are not of one merge on this chain and of both
    its users; `E-LEDGER-SIGNATURE`."""
    by_user = {to_text(IdKind.USER, key.id): (thing, key) for thing, key in consents}
    said = {(thing.chain, thing.user, thing.into) for thing, _ in consents}
    if len(said) != 1:
        raise fault("E-LEDGER-FORM", "the two consents are to different things")
    of_chain, user, into = said.pop()
    if of_chain != chain:
        raise fault("E-LEDGER-FORM", f"consents for the chain {of_chain!r}, and the wallet is of {chain!r}")
    if set(by_user) != {user, into}:
        raise fault("E-LEDGER-FORM", "one consent of each of the two users is needed")
    (first, master), (second, other) = by_user[user], by_user[into]
    statement = encode(MergeStatement(chain, master.id, other.id))
    for thing, key in ((first, master), (second, other)):
        if not verify(key, CONSENT, statement, thing.consent):
            raise fault("E-LEDGER-SIGNATURE", f"a consent that {to_text(IdKind.USER, key.id)} has not signed")
    return MergeUsers(master, other, first.consent, second.consent)
