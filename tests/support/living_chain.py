"""A chain that goes on by itself, for blocking clients and commands: a node's pages, its mempool with processes that verify, a block for
whatever waits. Who votes is made up; everything else is what a node runs.

with living(tmp_path) as town:
    client = ChainClient(town.api, town.name)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from mnemonic import Mnemonic
from support.ledger_world import PARAMETERS, QST, LedgerWorld, genesis
from support.stored_chain import StoredChain

from qnode.api.chain import chain_folders
from qnode.core.ledger.admission import Admission
from qnode.core.ledger.state import State
from qnode.service.accusing import Accusation
from qnode.service.chain_pages import source_of
from qnode.service.mempool import Mempool
from qnode.service.verify import Verifier
from qustream.aio.http import serve_http
from qustream.identity.wallet import Wallet
from qustream.identity.words import UserSecrets
from qustream.model.genesis import GenesisAccount
from qustream.model.ids import IdKind, account_id, to_text
from qustream.model.state import Parameters

__all__ = ["BUYER", "OPERATOR", "PASSPHRASE", "Holder", "Town", "living", "peopled"]

LOOK_S = 0.01
PASSPHRASE = b"correct horse battery"
DAY_MS = 86_400_000


class Holder:
    """Somebody with twelve words and a million QST."""

    def __init__(self, number: int) -> None:
        self.words = Mnemonic("english").to_mnemonic(bytes([number]) * 16)
        self.secrets = UserSecrets.from_words(self.words)
        self.account = account_id(self.secrets.account.id)
        self.name = to_text(IdKind.ACCOUNT, self.account)

    def wallet(self, directory: Path, town: Town) -> Path:
        """A directory with the holder's account in it, and the passphrase beside."""
        Wallet.create(directory, self.words, PASSPHRASE, chain=town.name, api=town.api)
        file = directory / "passphrase"
        file.write_bytes(PASSPHRASE)
        file.chmod(0o600)
        return directory


OPERATOR, BUYER = Holder(1), Holder(2)


def peopled(**parameters: int) -> LedgerWorld:
    """A chain with one validator; three more licences, idle, are the operator's."""
    given = genesis(validators=1, nodes=0, idle=3, people=1, parameters=msgspec.structs.replace(PARAMETERS, **parameters))
    accounts = [*given.accounts, *(GenesisAccount(holder.account, 1_000_000 * QST) for holder in (OPERATOR, BUYER))]
    licences = [given.licences[0], *(msgspec.structs.replace(each, owner=OPERATOR.account) for each in given.licences[1:])]
    held = tuple(sorted(accounts, key=lambda each: each.account))
    return LedgerWorld(msgspec.structs.replace(given, accounts=held, licences=tuple(licences)))


class _Chain:
    """As `qnode.service.chain.Chain`, for a chain that a test makes."""

    def __init__(self, stored: StoredChain) -> None:
        self.stored, self.store, self.genesis = stored, stored.store, stored.world.genesis
        self.parameters: Parameters = stored.world.parameters
        self.view: Callable[[], Any] = stored.store.state
        self._news = trio.Event()

    async def wait_above(self, height: int) -> None:
        while self.store.executed.height <= height:
            await self._news.wait()

    def tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


class Town:
    """`api`: of the node; `stored`: its chain; `holds`: while it is set no block is made; `step_ms`: from block to block; `held`: what
    evidence the node has."""

    def __init__(self, stored: StoredChain) -> None:
        self.stored, self.name = stored, stored.world.genesis.chain
        self.api = ""
        self.holds = threading.Event()
        self.step_ms = 1_000
        self.held: list[Accusation] = []
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._started = threading.Event()
        self._lock = threading.Lock()

    @property
    def world(self) -> LedgerWorld:
        return self.stored.world

    def pass_time(self, span_ms: int) -> None:
        """An empty block that much later."""
        with self._lock:
            self.stored.block(after_ms=span_ms)

    def run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        chain, verifier = _Chain(self.stored), Verifier(self.name, workers=1)
        mempool = Mempool(chain, verifier, height=self.stored.store.executed.height)
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(verifier.run)
                listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                folders = chain_folders(source_of(chain, mempool, lambda: self.held))  # type: ignore[arg-type]  # as much of one as pages need
                served = await nursery.start(partial(serve_http, listeners, {}, folders=folders))
                host, port = served[0].socket.getsockname()[:2]
                self.api = f"http://{host}:{port}"
                self._started.set()
                while True:
                    await trio.sleep(LOOK_S)
                    if len(mempool) and not self.holds.is_set():
                        self._block(chain, mempool)

    def _block(self, chain: _Chain, mempool: Mempool) -> None:
        with self._lock:
            with self.stored.store.state() as view:
                height = view.height + 1
                taken = mempool.pick(Admission(State(view), (), chain.parameters), height, 1 << 22, 1000)
            raws = [found[0] for each in taken if (found := mempool.get(each.id)) is not None]
            self.stored.store.keep_transactions([(each.id, raw) for each, raw in zip(taken, raws, strict=True)]).result()
            self.stored.block(*taken, after_ms=self.step_ms)
        mempool.executed(height, self.world.changes)
        chain.tell()

    def stop(self) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)


@contextmanager
def living(directory: Path, world: LedgerWorld | None = None) -> Iterator[Town]:
    """Run a chain in a thread of its own."""
    stored = StoredChain(directory / "chain", world)
    town = Town(stored)
    thread = threading.Thread(target=town.run)
    thread.start()
    try:
        assert town._started.wait(60)
        yield town
    finally:
        town.stop()
        thread.join()
        stored.store.close()
