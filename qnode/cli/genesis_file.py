"""A genesis document as people write it: TOML in, the canonical document out, and back for reading (`proto/spec/ledger.md`, §8).

chain = "example"
time = 2030-01-01T00:00:00Z
seed = "64 hexadecimal digits"

[parameters]                       # what is not named has the specification's value
epoch_ms = "60s"
stake = "200000 QST"

[[account]]
account = "qst1…"
amount = "1000 QST"

[[licence]]
id = "AAAAA-…"
owner = "qst1…"
[licence.node]                     # without: nobody runs it yet
key_file = "node1.pub"
addresses = ["node1.example:7400"]
staked = true
vote_file = "node1.vote"           # as `qnode validator keys` writes it; without: it does not vote
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from qnode.core.ledger.defaults import DEFAULTS
from qustream import settings
from qustream.errors import QuStreamError, fault
from qustream.identity import files
from qustream.model.amount import amount_shown, parse_amount
from qustream.model.base import Count32, Noun
from qustream.model.genesis import Genesis, GenesisAccount, GenesisLicence, GenesisNode, GenesisVote
from qustream.model.ids import IdKind, from_text, licence_from_text, licence_text, to_text
from qustream.model.keys import PublicKey
from qustream.model.network import NodeClass, QrngServerRecord
from qustream.model.state import Parameters
from qustream.rules.peering import is_address
from qustream.wire.codec import decode, encode

__all__ = ["GENESIS_MAX_BYTES", "Description", "VoteFile", "genesis_of", "read_description", "read_genesis", "shown"]

# 4,732 licences with nodes and votes are 17 MB, 65,536 accounts 2 MB.
GENESIS_MAX_BYTES = 24 << 20
# The same with keys in the text, in base64, and names around everything.
DESCRIPTION_MAX_BYTES = 32 << 20
# A public key in base64 is 2.7 KB, a vote file 2 KB.
KEY_FILE_MAX_BYTES = 8192
CLASSES = {"foundation": NodeClass.FOUNDATION, "community": NodeClass.COMMUNITY}
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNTS = {"fee_byte", "fee_gas", "stake", "delegation_min", "price_request", "price_megabyte_day"}
_N = TypeVar("_N", bound=Noun)


class VoteFile(settings.Section, frozen=True):
    """What a validator gives for the genesis document: public, in base64 and hexadecimal."""

    vote_key: str
    anchor: str
    links: Count32


class NodeTable(settings.Section, frozen=True):
    """`[licence.node]`. `payee`: the owner, unless it is named."""

    key: str = ""
    key_file: Path | None = None
    payee: str = ""
    addresses: tuple[str, ...] = ()
    staked: bool = False
    vote: VoteFile | None = None
    vote_file: Path | None = None
    commission_bp: Annotated[int, Meta(ge=0, le=10_000)] = 1000


class LicenceTable(settings.Section, frozen=True):
    """`[[licence]]`."""

    id: str
    owner: str
    node_class: Literal["foundation", "community"] = msgspec.field(default="community", name="class")
    site: str = ""
    price: str = ""
    node: NodeTable | None = None


class AccountTable(settings.Section, frozen=True):
    """`[[account]]`."""

    account: str
    amount: str


class ServerTable(settings.Section, frozen=True):
    """`[[qrng_server]]`. `device_authorities`: makers' P-256 keys, x ‖ y in hexadecimal."""

    name: str
    key: str = ""
    key_file: Path | None = None
    emulated: bool = False
    active: bool = True
    device_authorities: tuple[str, ...] = ()


class Description(settings.Section, frozen=True):
    """The whole description. `seed`: 32 bytes in hexadecimal; whoever chooses it knows the first leaders, and nothing else."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    time: datetime
    seed: str
    parameters: dict[str, int | str] = msgspec.field(default_factory=dict)
    account: tuple[AccountTable, ...] = ()
    licence: tuple[LicenceTable, ...] = ()
    qrng_server: tuple[ServerTable, ...] = ()


def read_description(path: Path) -> Description:
    """The description at `path`. Errors: `E-CONFIG`, `E-FILE`."""
    data = files.read(path, DESCRIPTION_MAX_BYTES, private=False)
    try:
        return settings.loads(data.decode(), Description, path.resolve().parent)
    except UnicodeDecodeError:
        raise fault("E-CONFIG", f"{path}: not UTF-8 text") from None
    except QuStreamError as error:
        raise fault(error.code, f"{path}: {error.detail}") from None


def genesis_of(description: Description) -> Genesis:
    """The document that a description stands for; `qnode.core.ledger.genesis.check` says whether a chain may begin with it.

    Errors: `E-CONFIG`, with the place at fault."""
    if description.time.tzinfo is None:
        raise fault("E-CONFIG", "time: needs its zone, such as 2030-01-01T00:00:00Z")
    genesis = Genesis(
        description.chain,
        round(description.time.timestamp() * 1000),
        _hex("seed", description.seed),
        _parameters(description.parameters),
        tuple(sorted(_each("account", description.account, _account), key=lambda held: held.account)),
        tuple(sorted(_each("licence", description.licence, _licence), key=lambda licence: licence.licence)),
        tuple(sorted(_each("qrng_server", description.qrng_server, _server), key=lambda server: server.key.id)),
    )
    return _validated("the document", genesis)


def read_genesis(path: Path) -> Genesis:
    """The canonical document at `path`. Errors: `E-FILE`; `E-CONFIG` if it is something else."""
    data = files.read(path, GENESIS_MAX_BYTES, private=False)
    try:
        return decode(data, Genesis, max_bytes=GENESIS_MAX_BYTES)
    except QuStreamError:
        raise fault("E-CONFIG", f"{path} is not a genesis document; qnode genesis new makes one of a description") from None


def _each(name: str, tables: tuple[Any, ...], read: Any) -> Iterator[Any]:
    for number, table in enumerate(tables):
        try:
            yield read(table)
        except (QuStreamError, ValueError) as error:
            detail = error.detail if isinstance(error, QuStreamError) else str(error)
            raise fault("E-CONFIG", f"{name}[{number}]: {detail}") from None


def _account(table: AccountTable) -> GenesisAccount:
    return GenesisAccount(from_text(table.account, IdKind.ACCOUNT), parse_amount(table.amount))


def _licence(table: LicenceTable) -> GenesisLicence:
    owner = from_text(table.owner, IdKind.ACCOUNT)
    price = parse_amount(table.price) if table.price else 0
    if table.node_class == "foundation" and not table.site:
        raise fault("E-CONFIG", "site: a foundation licence says where its node stands; it counts as its operator")
    node = _node(table.node, owner) if table.node is not None else None
    return GenesisLicence(licence_from_text(table.id), CLASSES[table.node_class], owner, table.site, price, node)


def _node(table: NodeTable, owner: bytes) -> GenesisNode:
    payee = from_text(table.payee, IdKind.ACCOUNT) if table.payee else owner
    if table.vote is not None and table.vote_file is not None:
        raise fault("E-CONFIG", "node: vote and vote_file say the same; one of them is enough")
    vote = table.vote if table.vote_file is None else settings.load(table.vote_file, VoteFile)
    for address in table.addresses:
        if not is_address(address):
            raise fault("E-CONFIG", f"node: {address!r}: host:port is needed, where others can connect to this node")
    spoken = None
    if vote is not None:
        public = _base64("vote_key", vote.vote_key)
        spoken = GenesisVote(public, _hex("anchor", vote.anchor), vote.links, table.commission_bp)
    return GenesisNode(_key(table.key, table.key_file), payee, table.addresses, table.staked, spoken)


def _server(table: ServerTable) -> QrngServerRecord:
    makers = tuple(_hex("device_authorities", text, 64) for text in table.device_authorities)
    return QrngServerRecord(_key(table.key, table.key_file), table.name, table.emulated, table.active, makers)


def _key(text: str, file: Path | None) -> PublicKey:
    """As `qnode id --public` and `node.pub` have it."""
    if bool(text) == (file is not None):
        raise fault("E-CONFIG", "either key or key_file is needed")
    if file is not None:
        text = files.read(file, KEY_FILE_MAX_BYTES, private=False).decode("ascii", "replace").strip()
    try:
        return decode(_base64("key", text), PublicKey, max_bytes=KEY_FILE_MAX_BYTES)
    except QuStreamError as error:
        raise fault("E-CONFIG", f"{file or 'key'}: not a public key as `qnode id --public` prints it ({error.code})") from None


def _base64(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise fault("E-CONFIG", f"{name}: not base64") from None


def _hex(name: str, text: str, size: int = 32) -> bytes:
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
        raise fault("E-CONFIG", f"{name}: {2 * size} hexadecimal digits are needed, in lower case")
    return bytes.fromhex(text)


def _parameters(given: dict[str, int | str]) -> Parameters:
    known = set(Parameters.__struct_fields__)
    values = msgspec.structs.asdict(DEFAULTS)
    for name, value in given.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise fault("E-CONFIG", f"unknown key parameters.{name}" + (f"; did you mean {close[0]}?" if close else ""))
        try:
            values[name] = value if isinstance(value, int) else _figure(name, value)
        except ValueError as error:
            raise fault("E-CONFIG", f"parameters.{name}: {error}") from None
    return _validated("parameters", Parameters(**values))


def _figure(name: str, text: str) -> int:
    if name in _AMOUNTS:
        return parse_amount(text)
    found = re.fullmatch(r"([0-9]{1,12}) ?(ms|s|m|h|d)", text) if name.endswith("_ms") else None
    if found is None:
        raise ValueError("a number is needed" + (", or a duration such as 500ms, 30s, 10m, 1h, 3d" if name.endswith("_ms") else ""))
    return int(found[1]) * _UNITS_MS[found[2]]


def _validated(place: str, noun: _N) -> _N:
    """The bounds of the types, which a plain constructor does not check."""
    try:
        return msgspec.msgpack.decode(encode(noun), type=type(noun))
    except msgspec.ValidationError as error:
        text = re.sub(r"`\$\[([0-9]+)\]", lambda found: f"`{noun.__struct_fields__[int(found[1])]}", str(error))
        raise fault("E-CONFIG", f"{place}: {text}") from None


def shown(genesis: Genesis) -> dict[str, Any]:
    """The document for people and programs: ids and amounts as text, keys by their ids."""
    return {
        "chain": genesis.chain,
        "time": datetime.fromtimestamp(genesis.time_ms / 1000, UTC).isoformat(),
        "seed": genesis.seed.hex(),
        "parameters": {
            name: amount_shown(value) if name in _AMOUNTS else value for name, value in msgspec.structs.asdict(genesis.parameters).items()
        },
        "accounts": [{"account": to_text(IdKind.ACCOUNT, held.account), "amount": amount_shown(held.amount)} for held in genesis.accounts],
        "licences": [_licence_shown(licence) for licence in genesis.licences],
        "qrng_servers": [
            {"id": to_text(IdKind.QRNG, server.key.id), "name": server.name, "emulated": server.emulated, "active": server.active}
            for server in genesis.qrng_servers
        ],
    }


def _licence_shown(licence: GenesisLicence) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": licence_text(licence.licence),
        "class": licence.node_class.name.lower(),
        "owner": to_text(IdKind.ACCOUNT, licence.owner),
        "site": licence.site,
        "price": amount_shown(licence.price) if licence.price else None,
        "node": None,
    }
    if (node := licence.node) is not None:
        out["node"] = {
            "id": to_text(IdKind.NODE, node.key.id),
            "payee": to_text(IdKind.ACCOUNT, node.payee),
            "addresses": list(node.addresses),
            "staked": node.staked,
            "votes": node.vote is not None,
            "commission_bp": node.vote.commission_bp if node.vote is not None else None,
        }
    return out
