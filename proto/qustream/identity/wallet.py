"""An account that signs transactions: its keystore on this machine, and the fee, nonce and expiry of what it signs
(`proto/spec/ledger.md`, §3; `proto/spec/chain-api.md`, §5).

    account.keystore   sealed: the seed of the account's key
    wallet.toml        which chain, which node is asked

The words are the account; they are typed once, and what stays is the account's key alone: neither the user's master key nor what
opens envelopes can be had from it. A wallet signs for one chain, whatever a node says. Where the key is not, `wallet.toml` names the
account, and what is to be signed is carried to the machine that has it (`carried`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta

from qustream import settings
from qustream.errors import fault
from qustream.identity import files, keystore
from qustream.identity.consents import Binding
from qustream.identity.signing import SigningKey
from qustream.identity.words import UserSecrets
from qustream.model.ids import IdKind, account_id, to_text
from qustream.model.keys import PublicKey
from qustream.model.state import Parameters
from qustream.wire.codec import encode
from qustream.wire.transactions import (
    TRANSACTION_MAX_BYTES,
    Activate,
    AddDevice,
    AnyAction,
    Body,
    DoubleSign,
    MergeUsers,
    RegisterUser,
    RegisterValidator,
    RevokeDevice,
    Transaction,
    transaction_id,
)

__all__ = [
    "CONFIG_FILE", "EXPIRES_BLOCKS", "OFFLINE_BLOCKS", "SIGNATURES", "Account", "Asked", "Draft", "Signed", "Terms", "Wallet",
    "WalletConfig", "gas", "load_config", "watch",
]  # fmt: skip

KEYSTORE = "account.keystore"
CONFIG_FILE = "wallet.toml"
KIND = "account"
PURPOSE = "transaction"
# A block comes each second at most and each five at least: ten minutes to fifty, then it can no longer surprise anybody.
EXPIRES_BLOCKS = 600
# What is carried to another machine and back: four hours at a block a second, and 400 blocks for what the chain allows at most to hold
# when it is sent.
OFFLINE_BLOCKS = 14_000
_NO_SIGNATURE, _NO_KEY = bytes(3373), PublicKey(bytes(32), bytes(1952))
_KEPT = "# Its key is in account.keystore, sealed; the words it came from are nowhere.\n"
_TEMPLATE = f"""\
# An account of a chain.
{_KEPT}chain = {{chain}}    # what is signed here is good on this chain alone
api = {{api}}        # a node's pages: asked for balances, given transactions
"""
_WATCHED = "account = {account}    # its key is on another machine, which signs what is carried there\n"
_ASKED = """\
checkpoint = {checkpoint}    # what the chain is known by: balances, nonces and fees are proven from it
nodes = {nodes}              # who is asked for proofs; none of them needs to be trusted
"""
# A checkpoint (qcp1…) and who is asked for proofs (qn1…@host:port).
Asked: TypeAlias = tuple[str, Sequence[str]]
# Signatures in an action beyond the sender's: each is one unit of gas, and the action itself is one.
SIGNATURES: dict[type, int] = {
    Activate: 1, RegisterValidator: 2, RegisterUser: 2, AddDevice: 1, RevokeDevice: 1, MergeUsers: 2, DoubleSign: 2,
}  # fmt: skip


class WalletConfig(settings.Section, frozen=True):
    """The file `wallet.toml`. `account`: whose key is elsewhere; `checkpoint`, `nodes`: both or neither."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    api: Annotated[str, Meta(max_length=256)] = ""
    passphrase_file: Path | None = None
    account: Annotated[str, Meta(max_length=128)] = ""
    checkpoint: Annotated[str, Meta(max_length=128)] = ""
    nodes: Annotated[tuple[Annotated[str, Meta(max_length=320)], ...], Meta(max_length=64)] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What the chain says before something is signed. `nonce`: the account's next; `height`: of the newest final block; `knows_key`:
    the account has sent something before; `parameters`: what a byte and a unit of gas cost."""

    nonce: int
    height: int
    knows_key: bool
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction as it is sent. `raw`: its canonical bytes; `fee` in units; `expires`: the last height it may stand at."""

    id: bytes
    raw: bytes
    fee: int
    expires: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be signed. `encoded`: the canonical `Body`; `with_key`: the chain does not know the account's key yet."""

    body: Body
    encoded: bytes
    with_key: bool


def gas(action: AnyAction) -> int:
    """What an action costs besides its bytes."""
    return 1 + SIGNATURES.get(type(action), 0)


class Account:
    """Somebody's account on one chain; its key may be elsewhere."""

    __slots__ = ("account", "chain")

    def __init__(self, account: bytes, chain: str) -> None:
        self.account, self.chain = account, chain

    def binding(self, terms: Terms) -> Binding:
        """What a node or a vote key signs for the transaction that is signed with these terms."""
        return Binding(self.chain, self.account, terms.nonce)

    def draft(self, action: AnyAction, terms: Terms, blocks: int = EXPIRES_BLOCKS) -> Draft:
        """What does `action`, pays the least fee that is admissible, and is good for so many blocks.

        The fee is part of what it is paid for: it is raised until it covers itself, which takes two rounds or three."""
        key = None if terms.knows_key else _NO_KEY
        price, fee = terms.parameters, 0
        while True:
            body = Body(self.chain, self.account, terms.nonce, terms.height + blocks, fee, action)
            encoded = encode(body)
            size = len(encode(Transaction(encoded, key, _NO_SIGNATURE)))
            needed = price.fee_byte * size + price.fee_gas * gas(action)
            if needed <= fee:
                return Draft(body, encoded, key is not None)
            fee = needed

    def require_own(self, body: Body) -> None:
        """Errors: `E-LEDGER-FORM` if it is another account's, or of another chain."""
        if (body.chain, body.sender) != (self.chain, self.account):
            raise fault("E-LEDGER-FORM", f"it is to be signed by {to_text(IdKind.ACCOUNT, body.sender)} on the chain {body.chain!r}")

    def fee(self, action: AnyAction, terms: Terms) -> int:
        """The least this account pays for `action`, in units."""
        return self.draft(action, terms).body.fee


class Wallet(Account):
    """One account on one chain, with its key. Its repr shows the account alone."""

    __slots__ = ("_key",)

    def __init__(self, key: SigningKey, chain: str) -> None:
        super().__init__(account_id(key.id), chain)
        self._key = key

    @classmethod
    def create(cls, directory: Path, words: str, passphrase: bytes, *, chain: str, api: str = "", asked: Asked | None = None) -> Wallet:
        """Keep the account of `words` in `directory`, which is made if need be; the words are not kept.

        Errors: `E-PASSPHRASE-WORDS`, `E-KEYSTORE-EXISTS`, `E-FILE`, `E-DISK-FULL`."""
        key = UserSecrets.from_words(words).account
        # The keystore comes last: without it there is no wallet as far as anybody is concerned.
        _write_config(directory, chain, api, asked)
        keystore.write(directory / KEYSTORE, KIND, key.seed, passphrase)
        return cls(key, chain)

    @staticmethod
    def require_none(directory: Path) -> None:
        """Errors: `E-KEYSTORE-EXISTS` if there is an account, or one is watched."""
        if os.path.lexists(directory / KEYSTORE) or ((directory / CONFIG_FILE).exists() and load_config(directory).account):
            raise fault("E-KEYSTORE-EXISTS", f"{directory} holds an account already")

    @classmethod
    def load(cls, directory: Path, passphrase: bytes) -> Wallet:
        """The account kept in `directory`. Errors: `E-HOME`, `E-CONFIG`, those of `keystore.read`."""
        config = load_config(directory)
        return cls(SigningKey(keystore.read(directory / KEYSTORE, KIND, passphrase)), config.chain)

    def sign(self, action: AnyAction, terms: Terms) -> Signed:
        """A transaction that does `action` and pays the least fee that is admissible. Errors: `E-WIRE-OVERSIZE`."""
        return self.sign_draft(self.draft(action, terms))

    def sign_draft(self, draft: Draft) -> Signed:
        """The transaction. Errors: `E-LEDGER-FORM` for one of another chain or account; `E-WIRE-OVERSIZE`."""
        body = draft.body
        self.require_own(body)
        key = self._key.public if draft.with_key else None
        raw = encode(Transaction(draft.encoded, key, self._key.sign(PURPOSE, draft.encoded)))
        if len(raw) > TRANSACTION_MAX_BYTES:
            raise fault("E-WIRE-OVERSIZE", f"a transaction of {len(raw)} bytes; at most {TRANSACTION_MAX_BYTES} are possible")
        return Signed(transaction_id(raw), raw, body.fee, body.expires)

    def __repr__(self) -> str:
        return f"<Wallet {to_text(IdKind.ACCOUNT, self.account)[:14]}… on {self.chain}>"

    def __reduce__(self) -> str:
        raise TypeError("wallets are not pickled")


def watch(directory: Path, account: bytes, *, chain: str, api: str = "", asked: Asked | None = None) -> Account:
    """Deal with an account whose key is elsewhere. Errors: `E-KEYSTORE-EXISTS`, `E-FILE`, `E-DISK-FULL`."""
    _write_config(directory, chain, api, asked, account)
    return Account(account, chain)


def _write_config(directory: Path, chain: str, api: str, asked: Asked | None, account: bytes | None = None) -> None:
    """A new wallet's file, in a directory that is made if need be. Errors: as `watch`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise files.file_fault(directory, error) from None
    Wallet.require_none(directory)
    text = _TEMPLATE.format(chain=json.dumps(chain), api=json.dumps(api))
    if account is not None:
        text = text.replace(_KEPT, _WATCHED.format(account=json.dumps(to_text(IdKind.ACCOUNT, account))))
    if asked is not None:
        checkpoint, nodes = asked
        text += _ASKED.format(checkpoint=json.dumps(checkpoint), nodes=json.dumps(list(nodes)))
    files.replace(directory / CONFIG_FILE, text.encode(), mode=0o644)


def load_config(directory: Path) -> WalletConfig:
    """Which chain a wallet is for, and which node it asks. Errors: `E-HOME` if there is none, `E-CONFIG`, `E-FILE`."""
    if not (directory / CONFIG_FILE).exists():
        raise fault("E-HOME", f"there is no account in {directory}; make one with qustream wallet new")
    return settings.load(directory / CONFIG_FILE, WalletConfig)
