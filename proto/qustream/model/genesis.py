"""How a chain begins (`proto/spec/ledger.md`, §8): the document every node of a network has byte for byte."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from qustream.model.base import U63, Bytes16, Bytes32, Count32, Label, Noun
from qustream.model.keys import PublicKey
from qustream.model.network import Addresses, NodeClass, QrngServerRecord
from qustream.model.state import BasisPoints, Bytes20, Parameters

__all__ = ["LICENCES_MAX", "Genesis", "GenesisAccount", "GenesisLicence", "GenesisNode", "GenesisVote"]

# The mission's cap on node keys.
LICENCES_MAX = 4732
# Who holds money from the beginning: the licences' owners and as many others again, with room.
ACCOUNTS_MAX = 65_536
# As in a network file.
QRNG_SERVERS_MAX = 256


class GenesisAccount(Noun, frozen=True):
    """What an account holds from the beginning, stakes not counted."""

    account: Bytes20
    amount: U63


class GenesisVote(Noun, frozen=True):
    """A validator of the first rotation."""

    vote_key: Annotated[bytes, Meta(min_length=1312, max_length=1312)]
    anchor: Bytes32
    links: Count32
    commission_bp: BasisPoints


class GenesisNode(Noun, frozen=True):
    """The node that runs under a licence from the beginning."""

    key: PublicKey
    payee: Bytes20
    addresses: Addresses
    staked: bool
    vote: GenesisVote | None


class GenesisLicence(Noun, frozen=True):
    """A licence. `price`: 0, or what it is for sale for from the beginning (an idle one)."""

    licence: Bytes16
    node_class: NodeClass
    owner: Bytes20
    site: Label
    price: U63
    node: GenesisNode | None


class Genesis(Noun, frozen=True):
    """The whole document. Everything in rising order of its id, nothing twice; `seed` begins the fold."""

    chain: Label
    time_ms: U63
    seed: Bytes32
    parameters: Parameters
    accounts: Annotated[tuple[GenesisAccount, ...], Meta(max_length=ACCOUNTS_MAX)]
    licences: Annotated[tuple[GenesisLicence, ...], Meta(min_length=1, max_length=LICENCES_MAX)]
    qrng_servers: Annotated[tuple[QrngServerRecord, ...], Meta(max_length=QRNG_SERVERS_MAX)]
