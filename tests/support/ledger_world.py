"""A chain's state in memory: a genesis with real keys, transactions really signed, blocks executed one after the other.

    world = LedgerWorld(validators=4, idle=2, people=6)
    done = world.block(world.checked(world.people[0], Transfer(world.account(1), 5)))
    done.receipts[0].code
    world.audit()                     every sum of §1 by looking at all entries

Everything follows from numbers: two worlds with the same arguments are the same.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from qnode.core.ledger import genesis as ledger_genesis
from qnode.core.ledger import rotations
from qnode.core.ledger.actions import fee_least
from qnode.core.ledger.block import Checked, Executed, execute
from qnode.core.ledger.money import Place, from_pool, to_pool
from qnode.core.ledger.state import KINDS, State
from qustream.identity.reveals import HashChain
from qustream.identity.signing import SigningKey
from qustream.identity.voting import VoteKey
from qustream.model.base import Noun
from qustream.model.genesis import Genesis, GenesisAccount, GenesisLicence, GenesisNode, GenesisVote
from qustream.model.ids import account_id
from qustream.model.network import NodeClass
from qustream.model.state import Account, Licence, Parameters, Pool, Progress, Table, Validator
from qustream.rules.merkle import root as merkle_root
from qustream.wire.codec import decode, encode
from qustream.wire.consensus import ChainHeader, header_digest
from qustream.wire.transactions import TRANSACTION_MAX_BYTES, AnyAction, Body, Transaction, open_body, transaction_id

__all__ = [
    "CHAIN", "DAY_MS", "LINKS", "PARAMETERS", "QST", "START_MS", "LedgerWorld", "MemoryReader", "genesis", "hash_chain", "key",
    "licence_id", "opened", "reveals", "signed", "vote_key", "voter",
]  # fmt: skip

CHAIN, QST, START_MS = "ledger-test", 10**9, 1_700_000_000_000
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
LINKS = 2_000
# The specification's own (§9).
PARAMETERS = Parameters(
    epoch_ms=3 * DAY_MS, rotation_ms=HOUR_MS, interval_ms=1_000, idle_ms=5_000, delta_ms=500, validators_max=100, body_bytes_max=4 << 20,
    fee_byte=1_000, fee_gas=1_000_000, stake=200_000 * QST, lock_ms=30 * DAY_MS, unbonding_ms=28 * DAY_MS, evidence_ms=21 * DAY_MS,
    top_up_ms=3 * DAY_MS, removed_ms=30 * DAY_MS, market_rest_ms=21 * DAY_MS, market_fee_bp=100, delegation_min=10 * QST,
    double_sign_bp=1_000, appeal_ms=14 * DAY_MS, suspension_ms=HOUR_MS, price_request=QST // 100, price_megabyte_day=QST // 1000,
    roll_over_bp=5_000, lifetime_max_ms=7 * DAY_MS, nodes_bp=6_000, operations_bp=3_000,
)  # fmt: skip


@lru_cache(maxsize=4096)
def key(role: str, number: int = 0) -> SigningKey:
    """A hybrid key that follows from its name."""
    return SigningKey(hashlib.sha256(f"{role} {number}".encode()).digest())


@lru_cache(maxsize=1024)
def voter(number: int) -> VoteKey:
    """A validator's vote key."""
    return VoteKey(hashlib.sha256(f"vote {number}".encode()).digest())


def vote_key(number: int) -> tuple[MLDSA44PrivateKey, bytes]:
    """The same, both halves raw."""
    return MLDSA44PrivateKey.from_seed_bytes(voter(number).seed), voter(number).public


@lru_cache(maxsize=1024)
def hash_chain(number: int, links: int = LINKS) -> HashChain:
    """A validator's hash chain."""
    return HashChain(hashlib.sha256(f"reveals {number}".encode()).digest(), links)


def reveals(number: int, links: int = LINKS) -> tuple[bytes, ...]:
    """A validator's whole hash chain, the anchor first: each is the hash of the next."""
    chain = hash_chain(number, links)
    links_of = [chain.anchor]
    while (reveal := chain.reveal(links_of[-1])) is not None:
        links_of.append(reveal)
    return tuple(links_of)


def licence_id(number: int) -> bytes:
    """A licence's id; they rise with the number."""
    return number.to_bytes(2, "big") + hashlib.sha256(f"licence {number}".encode()).digest()[:14]


class MemoryReader:
    """A state in a dictionary (`qnode.core.ledger.state.Reader`)."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        first = bisect.bisect_right(self._keys, after) if after >= prefix else bisect.bisect_left(self._keys, prefix)
        found = []
        for name in self._keys[first : first + limit]:
            if not name.startswith(prefix):
                break
            found.append((name, self.entries[name]))
        return found

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Make changes, as a store does after each block."""
        for name, value in changes.items():
            if value is None:
                del self.entries[name]
            else:
                self.entries[name] = value
        self._keys = sorted(self.entries)

    def copy(self) -> MemoryReader:
        """The same state, to go another way with."""
        other = MemoryReader()
        other.entries, other._keys = dict(self.entries), list(self._keys)
        return other

    def nouns(self, table: Table) -> dict[bytes, Noun]:
        """A whole table, decoded."""
        return {
            name[1:]: msgspec.msgpack.decode(raw, type=KINDS[table]) for name, raw in self.entries.items() if name[0] == table
        }  # fmt: skip


def genesis(
    *,
    validators: int = 4,
    nodes: int = 0,
    idle: int = 2,
    people: int = 6,
    wealth: int = 1_000_000 * QST,
    links: int = LINKS,
    parameters: Parameters = PARAMETERS,
) -> Genesis:
    """Licence n belongs to owner n and runs node n; the first `validators` are staked and vote, the next `nodes` do neither, the last
    `idle` run nothing. Owners and people have `wealth` each."""
    holders = [key("owner", number) for number in range(validators + nodes + idle)] + [key("person", number) for number in range(people)]
    accounts = sorted(account_id(holder.id) for holder in holders)
    licences = []
    for number in range(validators + nodes + idle):
        owner, node = account_id(key("owner", number).id), None
        if number < validators + nodes:
            votes = number < validators
            vote = GenesisVote(voter(number).public, hash_chain(number, links).anchor, links, 1_000) if votes else None
            node = GenesisNode(key("node", number).public, owner, (f"127.9.0.{number % 250 + 1}:7400",), votes, vote)
        site = f"site {number}" if number == 0 else ""
        node_class = NodeClass.FOUNDATION if number == 0 else NodeClass.COMMUNITY
        licences.append(GenesisLicence(licence_id(number), node_class, owner, site, 0, node))
    return Genesis(
        CHAIN, START_MS, hashlib.sha256(b"seed").digest(), parameters, tuple(GenesisAccount(name, wealth) for name in accounts),
        tuple(licences), (),
    )  # fmt: skip


class LedgerWorld:
    """A state and what happens to it. Takes the arguments of `genesis`; those it does not know are parameters of the chain."""

    def __init__(self, document: Genesis | None = None, **given: int) -> None:
        own = {name: given.pop(name) for name in ("validators", "nodes", "idle", "people", "wealth", "links") if name in given}
        self.genesis = document or genesis(**own, parameters=msgspec.structs.replace(PARAMETERS, **given))  # type: ignore[arg-type]
        self.parameters = self.genesis.parameters
        self.reader = MemoryReader()
        self.changes: Mapping[bytes, bytes | None] = {}  # the last block's
        state = State(self.reader)
        self.digest = ledger_genesis.begin(state, self.genesis)
        self.reader.apply(state.changes())
        self.licences = [licence.licence for licence in self.genesis.licences]
        self.owners = [key("owner", number) for number in range(len(self.licences))]
        self.chains = [hash_chain(number, licence.node.vote.links) for number, licence in enumerate(self.genesis.licences)
                       if licence.node is not None and licence.node.vote is not None]  # fmt: skip
        self._nonces: dict[bytes, int] = {}
        self.people = [key("person", number) for number in range(len(self.genesis.accounts) - len(self.owners))]

    def state(self) -> State:
        """The state as of now, to look at or to change."""
        return State(self.reader)

    def account(self, person: int) -> bytes:
        """The account of one of `people`."""
        return account_id(self.people[person].id)

    def liquid(self, account: bytes) -> int:
        """What somebody has."""
        return (self.state().get(Table.ACCOUNT, account, Account) or Account(0, 0)).liquid

    def licence(self, number: int) -> Licence:
        """A licence as it is now."""
        return self.state().must(Table.LICENCE, self.licences[number], Licence)

    def change(self, table: Table, name: bytes, **fields: object) -> None:
        """Give an entry other fields, behind the ledger's back."""
        state = self.state()
        state.put(table, name, msgspec.structs.replace(state.must(table, name, KINDS[table]), **fields))
        self.reader.apply(state.changes())

    def shift_pool(self, source: Pool, target: Pool, amount: int) -> None:
        """Move money from pool to pool, behind the ledger's back."""
        state = self.state()
        from_pool(state, source, amount)
        to_pool(state, target, amount, source=Place.POOLS)
        self.reader.apply(state.changes())

    @property
    def progress(self) -> Progress:
        """The last block."""
        return self.state().must(Table.PROGRESS, b"", Progress)

    def body(
        self, sender: SigningKey, action: AnyAction, *, nonce: int | None = None, fee: int | None = None, expires: int | None = None
    ) -> Body:
        """What somebody would sign next: his next nonce, the least fee, an hour's time. Bodies made since the last block count."""
        name, has = account_id(sender.id), sender.public
        if nonce is None:
            held = self.state().get(Table.ACCOUNT, name, Account) or Account(0, 0)
            nonce = self._nonces.setdefault(name, held.nonce)
            self._nonces[name] += 1
        body = Body(
            CHAIN, name, nonce, self.progress.height + 3600 if expires is None else expires, (1 << 32) - 1 if fee is None else fee, action
        )
        if fee is not None:
            return body
        size = len(encode(Transaction(encode(body), has, bytes(3373))))
        return msgspec.structs.replace(body, fee=fee_least(action, size, self.parameters))

    def checked(self, sender: SigningKey, action: AnyAction, *, bare: bool = False, **given: int) -> Checked:
        """As if it had been signed and its signatures verified. `bare`: without its key; else arguments of `body`."""
        body, has = self.body(sender, action, **given), None if bare else sender.public
        raw = encode(Transaction(encode(body), has, bytes(3373)))
        return Checked(transaction_id(raw), len(raw), body, has)

    def header(self, transactions: Sequence[Checked], *, after_ms: int = 1_000, skip: int = 0) -> ChainHeader:
        """The next block's, by the leader of the view after `skip` views without a block."""
        state, parent = self.state(), self.progress
        rotation, parent_view = (parent.rotation + 1, 0) if parent.over else (parent.rotation, parent.view)
        entry, view = rotations.current(state, rotation), parent_view + skip + 1
        order = rotations.order(entry)
        proposer = order[(view - 1) % len(order)]
        return ChainHeader(
            CHAIN, rotation, view, parent.height + 1, parent.digest, parent_view, parent.time_ms + after_ms, max(0, parent.height - 2),
            bytes(32), merkle_root([each.id for each in transactions]), len(transactions),
            self._reveal(state, entry.seats[proposer].licence), bytes(32), proposer,
        )  # fmt: skip

    def _reveal(self, state: State, licence: bytes) -> bytes:
        validator = state.get(Table.VALIDATOR, licence, Validator)
        anchor = b"" if validator is None else validator.anchor
        found = (chain.reveal(anchor) for chain in self.chains if chain.left(anchor))
        return next((reveal for reveal in found if reveal), bytes(32))

    def block(self, *transactions: Checked, after_ms: int = 1_000, skip: int = 0) -> Executed:
        """One more block with these transactions."""
        return self.follow(self.header(transactions, after_ms=after_ms, skip=skip), *transactions)

    def follow(self, header: ChainHeader, *transactions: Checked) -> Executed:
        """The next block, as somebody else made it."""
        state = self.state()
        executed = execute(state, header_digest(header), header, transactions)
        self.changes = state.changes()
        self.reader.apply(self.changes)
        self._nonces.clear()
        return executed

    def code(self, sender: SigningKey, action: AnyAction, **given: int) -> str:
        """What becomes of this action in a block of its own: empty, or why it was refused."""
        return self.block(self.checked(sender, action, **given)).receipts[0].code

    def audit(self) -> None:
        """§1, by adding up all there is: the totals are the sums of the entries, nothing was made or lost, nothing is below zero."""
        tables = {table: self.reader.nouns(table) for table in Table}
        licences, batches = tables[Table.LICENCE].values(), tables[Table.UNBOND_BATCH].values()
        totals = tables[Table.TOTALS][b""]
        found = {
            "liquid": sum(entry.liquid for entry in tables[Table.ACCOUNT].values()),
            "staked": sum(entry.staked for entry in licences) + sum(entry.bonded for entry in tables[Table.VALIDATOR].values()),
            "unbonding": sum(entry.unbonding for entry in licences) + sum(entry.units for entry in batches),
            "pools": sum(entry.amount for entry in tables[Table.POOL].values()),
        }
        assert found == {name: getattr(totals, name) for name in found}
        assert totals.minted - totals.burned == sum(found.values())
        numbers = [value for table in tables.values() for entry in table.values() for value in _numbers(entry)]
        assert all(0 <= value < 1 << 63 for value in numbers)


def signed(sender: SigningKey, body: Body, *, bare: bool = False) -> bytes:
    """A transaction's bytes, really signed. `bare`: without the key."""
    encoded = encode(body)
    return encode(Transaction(encoded, None if bare else sender.public, sender.sign("transaction", encoded)))


def opened(raw: bytes) -> Checked:
    """A transaction's bytes as a block has them; its signatures are taken on trust."""
    transaction = decode(raw, Transaction, max_bytes=TRANSACTION_MAX_BYTES)
    return Checked(transaction_id(raw), len(raw), open_body(transaction), transaction.key)


def _numbers(value: object) -> Sequence[int]:
    if isinstance(value, Noun):
        return [number for name in value.__struct_fields__ for number in _numbers(getattr(value, name))]
    if isinstance(value, tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int) else []
