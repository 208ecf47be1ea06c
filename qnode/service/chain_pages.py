"""What the pages about the chain are made from, on a running node (`proto/spec/chain-api.md`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qnode.api.chain_source import ChainSource, Held
from qnode.core.ledger.block import Checked
from qnode.core.mempool_events import Refused
from qnode.service.chain import Chain
from qnode.service.mempool import Mempool
from qustream.errors import QuStreamError, fault
from qustream.wire.chain import genesis_digest

__all__ = ["source_of"]


class _Waiting:
    """The mempool, as far as pages look at it."""

    def __init__(self, mempool: Mempool) -> None:
        self._mempool = mempool

    def __len__(self) -> int:
        return len(self._mempool)

    def get(self, name: bytes) -> tuple[bytes, Checked] | None:
        return self._mempool.get(name)

    def next_nonce(self, account: bytes) -> int:
        return self._mempool.core.next_nonce(account)

    async def submit(self, raw: bytes) -> bytes:
        return await self._mempool.submit(raw)

    async def submit_all(self, raws: Sequence[bytes]) -> Sequence[bytes | QuStreamError]:
        answers = await self._mempool.submit_all(raws)
        return [fault(answer.code, answer.detail) if isinstance(answer, Refused) else answer for answer in answers]


def source_of(chain: Chain, mempool: Mempool, held: Callable[[], Sequence[Held]] = tuple) -> ChainSource:
    """For `qnode.api.chain.chain_folders`. `held`: evidence of offences."""
    genesis = chain.genesis
    return ChainSource(genesis.chain, genesis_digest(genesis), chain.store, _Waiting(mempool), chain.wait_above, held)
