"""What the pages about the chain are made from: a state that stands still, and what is kept beside it.

`qnode.store.chain.ChainStore` and `qnode.service.mempool.Mempool` are such; pages import neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from qnode.core.ledger.block import Checked
from qnode.core.ledger.state import Reader
from qustream.errors import QuStreamError
from qustream.model.receipt import Receipt
from qustream.model.state import Progress
from qustream.rules.radix import Proof
from qustream.wire.consensus import Certificate, ChainHeader
from qustream.wire.transactions import DoubleSign

__all__ = ["ChainSource", "Final", "Held", "Pool", "Store", "View"]


class Final(Protocol):
    """The last final block. `header` None: genesis."""

    @property
    def height(self) -> int: ...

    @property
    def digest(self) -> bytes: ...

    @property
    def header(self) -> ChainHeader | None: ...


class View(Reader, Protocol):
    """The state after the block of `height`, standing still until it is left."""

    height: int
    root: bytes

    def prove(self, key: bytes) -> Proof:
        """That there is an entry, or none."""
        ...

    def __enter__(self) -> View: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Store(Protocol):
    """Blocks, transactions, receipts, states. Every method may be called from any thread."""

    @property
    def final(self) -> Final: ...

    @property
    def executed(self) -> Progress: ...

    @property
    def first_height(self) -> int: ...

    def header_at(self, height: int) -> ChainHeader | None: ...

    def ids_at(self, height: int) -> Sequence[bytes] | None: ...

    def place_of(self, name: bytes) -> tuple[int, int] | None: ...

    def receipts_at(self, height: int) -> Sequence[Receipt]: ...

    def receipt(self, name: bytes) -> tuple[int, int, Receipt] | None: ...

    def transaction(self, name: bytes) -> bytes | None: ...

    def finalisation_at(self, height: int) -> tuple[int, Certificate] | None: ...

    def history(self, account: bytes, before: tuple[int, int] | None, limit: int) -> Sequence[tuple[int, int, Receipt]]: ...

    def state(self) -> View: ...

    def certified(self) -> View | None: ...


class Pool(Protocol):
    """Transactions that wait. Called in the event loop."""

    def __len__(self) -> int: ...

    def get(self, name: bytes) -> tuple[bytes, Checked] | None: ...

    def next_nonce(self, account: bytes) -> int:
        """The nonce after all that waits of an account without a gap; less than that of the executed state if nothing does."""
        ...

    async def submit(self, raw: bytes) -> bytes:
        """Take a transaction; its id. Errors: `E-LEDGER-…`, `E-MEMPOOL-FULL`."""
        ...

    async def submit_all(self, raws: Sequence[bytes]) -> Sequence[bytes | QuStreamError]:
        """Take several, each by itself: its id, or why not."""
        ...


class Held(Protocol):
    """Evidence that this node has come by. `state`: `sent`, `known`, or why it was not sent; empty while that is not known."""

    licence: bytes
    rotation: int
    view: int
    action: DoubleSign
    state: str


@dataclass(frozen=True, slots=True)
class ChainSource:
    """Everything. `genesis`: the digest of block 0; `wait_above`: until a block above this height has been executed; `held`: evidence;
    called in the event loop."""

    chain: str
    genesis: bytes
    store: Store
    pool: Pool
    wait_above: Callable[[int], Awaitable[object]]
    held: Callable[[], Sequence[Held]] = tuple
