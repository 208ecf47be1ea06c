"""Real validators of a chain of their own, each a daemon with keys, stake and a /16 of its own, on loopback.

with ChainCircle(folder, 4) as circle:
    circle.start()
    circle.until_height(10)
"""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import msgspec
from support.daemon import DaemonProcess, until
from support.places import free_ports, host

from qnode.api.chain_status import ChainStatus
from qnode.api.status import StatusSnapshot
from qnode.cli.options import CREDENTIAL, KEYSTORE_KIND
from qnode.core.ledger.actions import fee_least
from qnode.core.ledger.defaults import DEFAULTS
from qnode.store.history import allow_first_start
from qnode.store.sign_state import SignStateFile
from qustream.aio.http import BODY_TYPE
from qustream.identity import keystore, voting
from qustream.identity.reveals import HashChain
from qustream.identity.signing import SigningKey
from qustream.identity.voting import RevealSeed, VoteKey, VoteSecrets
from qustream.model.genesis import Genesis, GenesisAccount, GenesisLicence, GenesisNode, GenesisVote
from qustream.model.ids import IdKind, account_id, to_text
from qustream.model.network import NodeClass
from qustream.model.state import Parameters
from qustream.wire.codec import encode
from qustream.wire.transactions import AnyAction, Body, Transaction, Transfer, transaction_id

__all__ = ["CHAIN", "PASSPHRASE", "PATIENCE_S", "QST", "ChainCircle", "ChainNodeProcess", "fast"]

CHAIN, QST = "chain-test", 10**9
PASSPHRASE = b"a validator's passphrase for tests only"
LINKS = 20_000
WEALTH = 1_000_000 * QST
NOBODY = f'[[qrngd]]\naddress = "127.0.0.1:9"\nid = "{to_text(IdKind.QRNG, bytes(32))}"'
# A loaded machine with two processors; usually seconds.
PATIENCE_S = 240.0


def fast(**given: int) -> Parameters:
    """A chain's parameters for tests on one machine: five blocks a second under load, one a second without."""
    quick = {"interval_ms": 200, "idle_ms": 1_000, "delta_ms": 500}
    return msgspec.structs.replace(DEFAULTS, **(quick | given))


@lru_cache(maxsize=256)
def named(role: str, number: int) -> bytes:
    """32 bytes that follow from a name."""
    return hashlib.sha256(f"chain circle {role} {number}".encode()).digest()


@lru_cache(maxsize=64)
def hash_chain(number: int) -> HashChain:
    return HashChain(named("reveals", number), LINKS)


class ChainNodeProcess(DaemonProcess):
    """One node. `number`: its licence's, node key's and vote key's; `votes`: it has a seat from the beginning."""

    start_s = 60.0  # it executes what is final first, beside others that do the same

    def __init__(self, folder: Path, number: int, genesis_file: Path, *, votes: bool, **settings: Any) -> None:
        super().__init__("qnode", folder, credential=CREDENTIAL, passphrase=PASSPHRASE)
        self.number, self.votes = number, votes
        self.key, self.vote_key = SigningKey(named("node", number)), VoteKey(named("vote", number))
        self.listen, self.status_listen = (f"{host(30 + number)}:{port}" for port in free_ports(30 + number, 2))
        self.genesis_file = genesis_file
        self.data_dir.mkdir(exist_ok=True)
        allow_first_start(self.data_dir)
        keystore.write(folder / "node.keystore", KEYSTORE_KIND, self.key.seed, PASSPHRASE, memory_kib=8, operations=1)
        if votes:
            secrets = VoteSecrets(self.vote_key.seed, (RevealSeed(named("reveals", number), LINKS),))
            keystore.write(folder / "votes.keystore", voting.KIND, encode(secrets), PASSPHRASE, memory_kib=8, operations=1)
            self.sign_state.begin()
        self.configure(**settings)

    @property
    def sign_state(self) -> SignStateFile:
        return SignStateFile(self.folder / "sign-state", self.vote_key.id)

    def configure(self, **settings: Any) -> None:
        values = {
            "chain": CHAIN, "genesis_file": str(self.genesis_file), "data_dir": "data", "keystore": "node.keystore",
            "listen": [self.listen], "status_listen": self.status_listen, "held_blocks": 64,
        } | settings  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        validator = ['[validator]\nvote_keystore = "votes.keystore"'] if self.votes else []
        self.config.write_text("\n".join([*lines, *validator, NOBODY, ""]))

    def status(self) -> StatusSnapshot:
        return StatusSnapshot.from_json(self.page("/v1/status")[1])

    def told(self) -> str:
        """Its two pages, whole; for a test that has failed."""
        try:
            return "\n".join([f"node {self.number}:", *(self.page(f"/v1/{name}")[1].decode() for name in ("status", "peers"))])
        except (OSError, http.client.HTTPException) as error:
            return f"node {self.number}: {error!r}"

    @property
    def ledger(self) -> ChainStatus:
        ledger = self.status().ledger
        assert ledger is not None
        return ledger

    @property
    def height(self) -> int:
        """Of the last executed block."""
        return self.ledger.executed

    def chain_page(self, path: str) -> Any:
        """A page about the chain."""
        status, body = self.page(f"/v1/chain/{path}")
        assert status == 200, (path, status, body)
        return json.loads(body)

    def submit(self, raw: bytes) -> tuple[int, Any]:
        """Hand it a transaction: the HTTP status, and what it says."""
        asked = urllib.request.Request(f"http://{self.pages}/v1/chain/transactions", raw, {"Content-Type": BODY_TYPE})
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    def has_executed(self, raw: bytes) -> bool:
        """Whether the transaction stands in an executed block here."""
        status, body = self.page(f"/v1/chain/transactions/{transaction_id(raw).hex()}")
        return status == 200 and json.loads(body)["state"] == "executed"


class ChainCircle:
    """Validators 0 … count − 1, then `followers` that are licensed and do not vote. `people`: keys with money. All are stopped in the end,
    and those that still ran end in order."""

    def __init__(self, folder: Path, count: int, *, followers: int = 0, people: int = 4, parameters: Parameters | None = None) -> None:
        self.folder, self.count = folder, count
        self.people = [SigningKey(named("person", number)) for number in range(people)]
        self.owners = [SigningKey(named("owner", number)) for number in range(count + followers)]
        genesis_file = folder / "genesis.bin"
        self.nodes = [
            ChainNodeProcess(folder / f"node{number}", number, genesis_file, votes=number < count) for number in range(count + followers)
        ]
        self.genesis = self._genesis(parameters or fast())
        genesis_file.write_bytes(encode(self.genesis))

    def _genesis(self, parameters: Parameters) -> Genesis:
        holders = [account_id(key.id) for key in (*self.people, *self.owners, *(node.key for node in self.nodes))]
        licences = []
        for node in self.nodes:
            vote = GenesisVote(node.vote_key.public, hash_chain(node.number).anchor, LINKS, 1_000) if node.votes else None
            owner = account_id(self.owners[node.number].id)
            runs = GenesisNode(node.key.public, owner, (node.listen,), node.votes, vote)
            licences.append(GenesisLicence(self.licence(node.number), NodeClass.COMMUNITY, owner, "", 0, runs))
        accounts = tuple(GenesisAccount(name, WEALTH) for name in sorted(holders))
        return Genesis(CHAIN, int(time.time() * 1000) - 1_000, named("seed", 0), parameters, accounts, tuple(licences), ())

    @staticmethod
    def licence(number: int) -> bytes:
        return number.to_bytes(2, "big") + named("licence", number)[:14]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        codes = [node.stop() for node in self.nodes]
        assert kind is not None or set(codes) <= {0, None}, [node.log_path.read_text() for node in self.nodes]

    @property
    def validators(self) -> list[ChainNodeProcess]:
        return self.nodes[: self.count]

    @property
    def up(self) -> list[ChainNodeProcess]:
        return [node for node in self.nodes if node.process is not None]

    def start(self, *numbers: int) -> None:
        for number in numbers or range(len(self.nodes)):
            self.nodes[number].start()

    def until(self, condition: Callable[[ChainNodeProcess], object], nodes: Iterable[ChainNodeProcess] | None = None) -> None:
        """Wait until it holds for all of these; all that run, if none are named."""
        wanted = list(nodes) if nodes is not None else self.up
        try:
            until(lambda: all(condition(node) for node in wanted), patience_s=PATIENCE_S)
        except AssertionError as error:  # what the nodes say of themselves is the only trace there is
            raise AssertionError("\n".join([str(error), *(node.told() for node in self.up)])) from error

    def until_height(self, height: int, nodes: Iterable[ChainNodeProcess] | None = None) -> None:
        self.until(lambda node: node.height >= height, nodes)

    # -- transactions -----------------------------------------------------------------------------------------------------

    def signed(self, sender: SigningKey, action: AnyAction, nonce: int, *, expires: int = 10_000, bare: bool = False) -> bytes:
        """A transaction with the least fee, really signed. `bare`: without its key, which the chain knows."""

        def raw(fee: int, signature: bytes | None = None) -> bytes:
            body = encode(Body(CHAIN, account_id(sender.id), nonce, expires, fee, action))
            return encode(Transaction(body, None if bare else sender.public, signature or sender.sign("transaction", body)))

        return raw(fee_least(action, len(raw(1 << 62, bytes(3373))), self.genesis.parameters))

    def transfer(self, person: int, to: int, nonce: int, amount: int = QST, *, bare: bool = False) -> bytes:
        """Money from one of `people` to another."""
        return self.signed(self.people[person], Transfer(account_id(self.people[to].id), amount), nonce, bare=bare)

    def agree(self, height: int, nodes: Iterable[ChainNodeProcess] | None = None) -> Mapping[str, Any]:
        """The block of this height, the same at all of these nodes, with the root it names."""
        nodes = tuple(nodes) if nodes is not None else tuple(self.up)
        self.until_height(height, nodes)  # often only one of them is known to have it
        pages = [node.chain_page(f"blocks/{height}") for node in nodes]
        assert all(page == pages[0] for page in pages), pages
        return pages[0]
