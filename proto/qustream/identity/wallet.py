"""An account that signs transactions: its keystore on this machine, and the fee, nonce and expiry of what it signs
(`proto/spec/ledger.md`, §3; `proto/spec/chain-api.md`, §5).

    account.keystore   sealed: the seed of the account's key
    wallet.toml        which chain, which node is asked

The words are the account; they are typed once, and what stays is the account's key alone: neither the user's master key nor what
opens envelopes can be had from it. A wallet signs for one chain, whatever a node says.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

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

__all__ = ["EXPIRES_BLOCKS", "SIGNATURES", "Signed", "Terms", "Wallet", "WalletConfig", "gas", "load_config"]

KEYSTORE = "account.keystore"
CONFIG_FILE = "wallet.toml"
KIND = "account"
PURPOSE = "transaction"
# A block comes each second at most and each five at least: ten minutes to fifty, then it can no longer surprise anybody.
EXPIRES_BLOCKS = 600
_NO_SIGNATURE = bytes(3373)
_TEMPLATE = """\
# An account of a chain. Its key is in account.keystore, sealed; the words it came from are nowhere.
chain = {chain}    # what is signed here is good on this chain alone
api = {api}        # a node's pages: asked for balances, given transactions
"""
# Signatures in an action beyond the sender's: each is one unit of gas, and the action itself is one.
SIGNATURES: dict[type, int] = {
    Activate: 1, RegisterValidator: 2, RegisterUser: 2, AddDevice: 1, RevokeDevice: 1, MergeUsers: 2, DoubleSign: 2,
}  # fmt: skip


class WalletConfig(settings.Section, frozen=True):
    """The file `wallet.toml`."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    api: Annotated[str, Meta(max_length=256)] = ""
    passphrase_file: Path | None = None


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


def gas(action: AnyAction) -> int:
    """What an action costs besides its bytes."""
    return 1 + SIGNATURES.get(type(action), 0)


class Wallet:
    """One account on one chain. Its repr shows the account alone."""

    __slots__ = ("_key", "account", "chain")

    def __init__(self, key: SigningKey, chain: str) -> None:
        self._key = key
        self.chain = chain
        self.account = account_id(key.id)

    @classmethod
    def create(cls, directory: Path, words: str, passphrase: bytes, *, chain: str, api: str = "") -> Wallet:
        """Keep the account of `words` in `directory`, which is made if need be; the words are not kept.

        Errors: `E-PASSPHRASE-WORDS`, `E-KEYSTORE-EXISTS`, `E-FILE`, `E-DISK-FULL`."""
        key = UserSecrets.from_words(words).account
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise files.file_fault(directory, error) from None
        cls.require_none(directory)
        text = _TEMPLATE.format(chain=json.dumps(chain), api=json.dumps(api))
        # The keystore comes last: without it there is no wallet as far as anybody is concerned.
        files.replace(directory / CONFIG_FILE, text.encode(), mode=0o644)
        keystore.write(directory / KEYSTORE, KIND, key.seed, passphrase)
        return cls(key, chain)

    @staticmethod
    def require_none(directory: Path) -> None:
        """Errors: `E-KEYSTORE-EXISTS` if there is an account."""
        if os.path.lexists(directory / KEYSTORE):
            raise fault("E-KEYSTORE-EXISTS", f"{directory} holds an account already")

    @classmethod
    def load(cls, directory: Path, passphrase: bytes) -> Wallet:
        """The account kept in `directory`. Errors: `E-HOME`, `E-CONFIG`, those of `keystore.read`."""
        config = load_config(directory)
        return cls(SigningKey(keystore.read(directory / KEYSTORE, KIND, passphrase)), config.chain)

    def binding(self, terms: Terms) -> Binding:
        """What a node or a vote key signs for the transaction that is signed with these terms."""
        return Binding(self.chain, self.account, terms.nonce)

    def fee(self, action: AnyAction, terms: Terms) -> int:
        """The least this account pays for `action`, in units."""
        return self._body(action, terms)[1].fee

    def sign(self, action: AnyAction, terms: Terms) -> Signed:
        """A transaction that does `action` and pays the least fee that is admissible. Errors: `E-WIRE-OVERSIZE`."""
        key, body = self._body(action, terms)
        encoded = encode(body)
        raw = encode(Transaction(encoded, key, self._key.sign(PURPOSE, encoded)))
        if len(raw) > TRANSACTION_MAX_BYTES:
            raise fault("E-WIRE-OVERSIZE", f"a transaction of {len(raw)} bytes; at most {TRANSACTION_MAX_BYTES} are possible")
        return Signed(transaction_id(raw), raw, body.fee, body.expires)

    def _body(self, action: AnyAction, terms: Terms) -> tuple[PublicKey | None, Body]:
        """The fee is part of what it is paid for: it is raised until it covers itself, which takes two rounds or three."""
        key = None if terms.knows_key else self._key.public
        price, fee = terms.parameters, 0
        while True:
            body = Body(self.chain, self.account, terms.nonce, terms.height + EXPIRES_BLOCKS, fee, action)
            size = len(encode(Transaction(encode(body), key, _NO_SIGNATURE)))
            needed = price.fee_byte * size + price.fee_gas * gas(action)
            if needed <= fee:
                return key, body
            fee = needed

    def __repr__(self) -> str:
        return f"<Wallet {to_text(IdKind.ACCOUNT, self.account)[:14]}… on {self.chain}>"

    def __reduce__(self) -> str:
        raise TypeError("wallets are not pickled")


def load_config(directory: Path) -> WalletConfig:
    """Which chain a wallet is for, and which node it asks. Errors: `E-HOME` if there is none, `E-CONFIG`, `E-FILE`."""
    if not (directory / CONFIG_FILE).exists():
        raise fault("E-HOME", f"there is no account in {directory}; make one with qustream wallet new")
    return settings.load(directory / CONFIG_FILE, WalletConfig)
