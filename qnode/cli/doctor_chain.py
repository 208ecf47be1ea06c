"""The network as the chain on this disk has it, for `qnode doctor`: the executed state, or the beginning before there is any."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from qnode.config import Config
from qnode.core.ledger.genesis import begin
from qnode.core.ledger.state import Reader, State
from qnode.service.chain_node import FOLDER, read_genesis
from qnode.service.registry import ChainRegistry
from qnode.store.chain import ChainStore
from qustream.errors import QuStreamError
from qustream.model.genesis import Genesis

__all__ = ["chain_registry"]


class _Fixed:
    """A state in memory (`Reader`)."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self._entries = entries
        self._keys = sorted(entries)

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        keys = [key for key in self._keys if key.startswith(prefix) and key > after]
        return [(key, self._entries[key]) for key in keys[:limit]]


def chain_registry(config: Config) -> ChainRegistry:
    """Errors: `E-FILE`, `E-CONFIG`, `E-LEDGER-FORM`; of `ChainStore.open`, but that a running node has the store: then it is the
    beginning's."""
    assert config.genesis_file is not None, "the network is a chain's"
    genesis = read_genesis(config.genesis_file, config.chain)
    folder = config.data_dir / FOLDER
    if (folder / "data.mdb").exists():
        try:
            return ChainRegistry(ChainStore.open(folder, genesis).state, genesis)  # both until this process ends
        except QuStreamError as error:
            if error.code != "E-DATA-LOCKED":
                raise
    reader: Reader = _first_state(genesis)

    def view() -> AbstractContextManager[Reader]:
        return nullcontext(reader)

    return ChainRegistry(view, genesis)


def _first_state(genesis: Genesis) -> _Fixed:
    state = State(_Fixed({}))
    begin(state, genesis)
    return _Fixed({key: value for key, value in state.changes().items() if value is not None})
